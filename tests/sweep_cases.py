"""Sweeps for tests: a short suite, folders of checkpoints, and workers that work in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from auditing import HEALTHY

from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.sweeps.asked import Setting, Unit, found_checkpoints
from circuit_assertions.sweeps.auditing import Done, audit_unit, read_baseline
from circuit_assertions.sweeps.kept_records import KeptRecords
from circuit_assertions.sweeps.running import Sweep

POISONED = HEALTHY.parent / "poisoned"
SUITE = """
suite: short
circuit: ioi
tasks:
  sentences: {kind: ioi, prompts: 32}
assertions:
  - {id: prefers-the-right-name, measure: logit-difference, task: sentences, expect: {at-least: 0.0}}
  - {id: keeps-most, measure: logit-difference, task: sentences, expect: {retains: 50%}}
  - {id: movers-look, measure: attention, heads: name-mover, quantifier: mean, query: end, key: indirect-object,
     task: sentences, expect: {at-least: 0.2}}
  - {id: movers-push, measure: path-effect, heads: name-mover, quantifier: mean, receiver: logits, task: sentences,
     expect: {sign: positive}}
"""
SUITE_OF_TWO = """
suite: behaviour
tasks:
  sentences: {kind: ioi, prompts: 32}
assertions:
  - {id: answers-right, measure: answer-rate, task: sentences, expect: {at-least: 0.5}}
"""


class InThisProcess:
    """Workers of a sweep without any process. They note what they did."""

    called = "this process"

    def __init__(self) -> None:
        self.did: list[Unit] = []

    def run(self, setting: Setting, units: Sequence[Unit]) -> Iterator[Done]:
        records, shared = read_baseline(setting) if units else ((), ())
        yield from records
        for unit in units:
            self.did.append(unit)
            yield audit_unit(setting, shared, unit)

    def close(self) -> None:
        pass


def run_of(folder: Path, *checkpoints: Path) -> Path:
    """A training run whose steps, ten apart, are these checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, checkpoint in enumerate(checkpoints, 1):
        (folder / f"checkpoint-{10 * number}").symlink_to(checkpoint)
    return folder


def broken_checkpoint(folder: Path) -> Path:
    """A checkpoint whose weights are cut off."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes((HEALTHY / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes((HEALTHY / "model.safetensors").read_bytes()[:5000])
    return folder


def setting_in(folder: Path, *suites: str, baseline: bool = True) -> Setting:
    """How a sweep in this folder judges, by these suites or by the short one."""
    texts = suites or (SUITE,)
    files = []
    for number, text in enumerate(texts):
        file = folder / f"suite-{number}.yaml"
        file.write_text(text)
        files.append(Path(file.name))
    base = find_checkpoints(str(HEALTHY))[0] if baseline else None
    return Setting(folder, tuple(files), Opening(device="cpu", base=base), base)


def sweep_in(folder: Path, setting: Setting, *patterns: str, workers: InThisProcess | None = None) -> Sweep:
    """A sweep in this folder that keeps its records in `kept`."""
    (folder / "kept").mkdir(exist_ok=True)
    found = found_checkpoints(patterns or ("runs/*/checkpoint-*",), folder)
    return Sweep(found, KeptRecords(folder / "kept", setting), workers or InThisProcess())
