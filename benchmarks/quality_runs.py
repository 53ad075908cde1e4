"""One case of the benchmark of verdicts through pytest itself: its gate, its diagnosis, and what the rivals say.

Every case is a pytest run inside this process, of the packaged suite, with the default options and
`--circuit-degraded=fail`. Only one thing differs from the command line: the baseline stays open between runs, with what
was read from it. tests/test_benchmark_of_quality.py compares the verdicts with those of the command.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from transformers import AutoTokenizer

from benchmarks.quality_cases import Case
from benchmarks.quality_models import MADE_HERE, Weights, build, write_model
from benchmarks.quality_rivals import Seen, kept, look, scores
from circuit_assertions.audit import Audit
from circuit_assertions.cached import Cache
from circuit_assertions.checkpoints import Checkpoint, Opening, find_checkpoints
from circuit_assertions.files import write_whole
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.recorded import RecordedCheckpoint
from circuit_assertions.tasks import IoiTask, PromptSet
from circuit_assertions.verdict_words import GateResult, Outcome
from fixtures.healthy import save
from fixtures.shelf import COMMITTED, ROOT

__all__ = ["LETTERS", "OPTIONS", "SUITE", "Runs", "gate", "outcome"]

SUITE = ROOT / "suites" / "ioi.yaml"
OPTIONS = ("--circuit-degraded=fail",)
_OF_RUNS = ("--circuit-device=cpu", "--circuit-no-cache")
_ALONE = ("-p", "no:cacheprovider", "-p", "no:randomly", "--capture=no", "-q", *_OF_RUNS)
_MOST = 400  # characters of an error that are kept
_SEED = re.compile(r"\bseed: 0\b")
_TRUTH = {"prompts": 512, "seed": 77_000_077}  # which no case uses
LETTERS = {Outcome.HELD: "H", Outcome.BROKEN: "B", Outcome.UNRESOLVED: "U", Outcome.SKIPPED: "s", Outcome.ERROR: "E"}


class _Kept(Audit):
    """An audit whose baseline stays open when a session closes it."""

    def close(self) -> None:
        for checkpoint in list(self._models):
            if checkpoint != self.baseline:
                self.forget(checkpoint)
        if self.baseline is not None:
            self._planned.pop(self.baseline, None)


@dataclass
class Runs:
    """Runs cases in one process.

    Attributes:
        work: a folder for what is written on the way; outside of any project that has options for pytest.
        code: a hash of the code whose circuit files may be used again.
        made: where trained models are kept.
    """

    work: Path
    code: str
    made: Path = MADE_HERE
    _audits: dict[tuple[Opening, Checkpoint | None], Audit] = field(default_factory=dict)
    _seen: dict[tuple[str, int, int], Seen] = field(default_factory=dict)

    def run(self, case: Case) -> dict[str, Any]:
        """The outcome of a case, as JSON has it; `error` where there is no verdict."""
        try:
            return self._run(case)
        except RuntimeError as error:
            return {"error": str(error)[-_MOST:]}

    def _run(self, case: Case) -> dict[str, Any]:
        project = self._project(case)
        folder = self.work / "model"
        model = build(case.weights, self.made)
        if case.weights.changes:
            save(model, folder)
        else:
            folder = COMMITTED / case.base
        corrupted = None if case.corrupted is None else write_model(case.corrupted, self.work / "corrupted", self.made)
        started = time.process_time(), time.monotonic()
        result = gate(project, folder, COMMITTED / case.base, corrupted, self._audit)
        took = time.process_time() - started[0], time.monotonic() - started[1]
        audited = {"cpu": round(took[0], 1), "seconds": round(took[1], 1)}
        lost = 1 - kept(look(model, _prompts(case.base, **_TRUTH)), self._baseline(case.base, **_TRUTH))
        asked = {"prompts": 256, "seed": case.prompts}
        rivals = scores(look(model, _prompts(case.base, **asked)), self._baseline(case.base, **asked))
        told = {name: float(f"{score:.4g}") for name, score in rivals.items()}
        return outcome(result, case.planted) | audited | {"lost": round(lost, 4), "rivals": told}

    def _audit(
        self,
        opening: Opening,
        baseline: Checkpoint | None = None,
        policy: Policy = DEFAULT,
        recorded: RecordedCheckpoint | None = None,
        cache: Cache | None = None,
    ) -> Audit:
        assert recorded is None  # every baseline is a checkpoint
        assert cache is None  # every reading of a case is taken
        return self._audits.setdefault((opening, baseline), _Kept(opening, baseline, policy))

    def _baseline(self, base: str, prompts: int, seed: int) -> Seen:
        key = (base, prompts, seed)
        if key not in self._seen:
            self._seen[key] = look(build(Weights(base)), _prompts(base, prompts, seed))
        return self._seen[key]

    def _project(self, case: Case) -> Path:
        """A folder with the suite, with the case's prompts, and the circuit file of its baseline."""
        project = self.work / f"{case.base}-{case.prompts}"
        suite = project / "suites" / SUITE.name
        if not suite.is_file():
            circuits = suite.parent / "circuits"
            circuits.mkdir(parents=True)
            write_whole(project / "pytest.ini", "[pytest]\n")
            write_whole(suite, _SEED.sub(f"seed: {case.prompts}", SUITE.read_text(encoding="utf-8")))
            write_whole(circuits / f"{case.base}.ioi.yaml", self.circuit(case.base))
        return project

    def circuit(self, base: str) -> str:
        """The circuit file of an embedded checkpoint: the packaged one, or what `discover` writes."""
        packaged = ROOT / "suites" / "circuits" / "embedded.ioi.yaml"
        if base == "healthy":
            return packaged.read_text(encoding="utf-8")
        file = self.made / "circuits" / self.code / f"{base}.ioi.yaml"
        if not file.is_file():
            from circuit_assertions.diagnosis.discovery import circuit_file, discover

            checkpoint = find_checkpoints(str(COMMITTED / base))[0]
            task = IoiTask.model_validate({"kind": "ioi"})
            file.parent.mkdir(parents=True, exist_ok=True)
            audit = Audit(Opening(device="cpu", dtype="float32"))
            write_whole(file, circuit_file(discover(audit, checkpoint, task)))
        return file.read_text(encoding="utf-8")


def gate(
    project: Path,
    model: Path,
    baseline: Path,
    corrupted: Path | None = None,
    audit: Callable[..., Audit] = Audit,
) -> dict[str, Any]:
    """The result of `pytest suites/ioi.yaml --model=... --baseline=...` in a project folder, run in this process.

    Args:
        corrupted: given with `--corrupted`.
        audit: makes the session's audit.

    Raises:
        RuntimeError: if pytest did not come to a verdict, with what it printed.
    """
    told = project / "result.json"
    told.unlink(missing_ok=True)
    arguments = [f"suites/{SUITE.name}", f"--circuit-model={model}", f"--circuit-baseline={baseline}", *OPTIONS]
    arguments += [] if corrupted is None else [f"--circuit-corrupted={corrupted}"]
    printed = io.StringIO()
    with (
        _within(project),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        mock.patch("circuit_assertions.plugin.audited.Audit", audit),
    ):
        code = pytest.main([*arguments, f"--circuit-output=json:{told}", "--rootdir=.", *_ALONE])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not told.is_file():
        raise RuntimeError(f"pytest ended with {code!r}:\n{printed.getvalue()}")
    found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    return found


def outcome(result: Mapping[str, Any], planted: Sequence[str] = ()) -> dict[str, Any]:
    """What the benchmark keeps of a run's result.

    Args:
        planted: components whose roles are kept as well.

    Returns:
        `gate`; `outcomes`: a letter for each assertion of `asked`; `prompts`: of all assertions together and of the one
        that has most; and of the diagnosis, where there is one: its verdict, the share of the behaviour that is kept,
        with `highs`, the upper ends of the intervals that DEGRADED is judged by: of the behaviour, and the lowest of an
        active role; `origin` with its `components`, `recovery`, and the roles of what was planted.
    """
    diagnoses, assertions = result["diagnoses"], result["assertions"]
    read = [one["reading"]["prompts"] for one in assertions if one["reading"]]
    found: dict[str, Any] = {
        "gate": GateResult.PASS if result["gate"]["passed"] else GateResult.FAIL,
        "outcomes": "".join(LETTERS.get(one["outcome"], "?") for one in assertions),
        "asked": [one["id"] for one in assertions],
        "prompts": [sum(read), max(read, default=0)],
    }
    for one in diagnoses[:1]:
        recovery = one["recovery"]
        roles = {head: role for role, told in one["roles"].items() for head in told["heads"]}
        found |= {
            "verdict": one["verdict"],
            "kept": round(one["behaviour"]["retained"]["mean"], 4),
            "highs": [round(high, 4) for high in _highs(one)],
            "origin": one["origin"],
            "components": list(one["components"]),
            "recovery": None if recovery is None else recovery["how"],
            "roles": [roles.get(part, "MLP" if part.startswith("MLP") else "none") for part in planted],
        }
    return found


def _highs(diagnosis: Mapping[str, Any]) -> tuple[float, ...]:
    """The upper ends of the behaviour's interval and, where a role is active, the lowest of such a role's."""
    active = [role["retained"]["high"] for role in diagnosis["roles"].values() if not role["asleep"]]
    return (diagnosis["behaviour"]["retained"]["high"], *sorted(active)[:1])


@contextlib.contextmanager
def _within(folder: Path) -> Iterator[None]:
    """Work in a folder, and with the environment as it is now: pytest leaves a variable of its own there."""
    with contextlib.chdir(folder), mock.patch.dict(os.environ):
        yield


@functools.cache
def _prompts(base: str, prompts: int, seed: int) -> PromptSet:
    tokenizer = AutoTokenizer.from_pretrained(COMMITTED / base)
    return IoiTask.model_validate({"kind": "ioi", "prompts": prompts, "seed": seed}).build(tokenizer)
