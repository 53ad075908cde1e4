"""How long an audit takes that asks a given number of assertions on one task."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import Machine
from benchmarks.models import WORDS
from circuit_assertions.assertions.loading import load_suite
from circuit_assertions.assertions.runner import PlannedAssertion, SuiteRunner
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Opening, find_checkpoints

__all__ = ["COUNTS", "audit_seconds"]

COUNTS = (1, 10, 25, 49, 50)
_HEADS = [f"L{layer}H{head}" for layer in range(5) for head in range(4)]  # of the embedded checkpoint

_BY_HEAD: tuple[dict[str, Any], ...] = (
    {"measure": "path-effect", "receiver": "logits"},
    {"measure": "attention", "query": "end", "key": "indirect-object"},
    {"measure": "copy-score"},
    {"measure": "negative-copy-score"},
    {"measure": "direct-effect"},
)


def audit_seconds(repeats: int) -> dict[str, dict[int, float]]:
    """Seconds by number of assertions, from opening the embedded checkpoint to the last verdict.

    Returns:
        `readings`: of suites that read one measure after the other of one head after the other, from shared passes;
        the best of `repeats`. `ablations`: of suites that ablate another pair of heads in every assertion, which takes
        a pass each; once, for they take long.
    """
    machine = Machine(torch.device("cpu"), twice=False)
    seconds: dict[str, dict[int, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, kind, times in (("readings", _readings, repeats), ("ablations", _ablations, 1)):
            suites = {count: _suite(Path(folder) / f"{name}-{count}.yaml", islice(kind(), count)) for count in COUNTS}
            _audit(suites[1])
            turns = [  # sizes by turns, so that whatever disturbs the machine disturbs all of them
                {count: machine.seconds(partial(_audit, file)) for count, file in suites.items()} for _ in range(times)
            ]
            seconds[name] = {count: min(turn[count] for turn in turns) for count in COUNTS}
    return seconds


def _suite(file: Path, assertions: Iterable[dict[str, Any]]) -> Path:
    asked = [
        {"id": f"number-{number}", "task": "ioi", "expect": {"at-least": -1000}} | one
        for number, one in enumerate(assertions, start=1)
    ]
    suite = {"suite": "made on the fly", "tasks": {"ioi": {"kind": "ioi", "prompts": 256}}, "assertions": asked}
    file.write_text(json.dumps(suite), encoding="utf-8")  # which is YAML too
    return file


def _readings() -> Iterator[dict[str, Any]]:
    return ({"heads": [head]} | one for head in _HEADS for one in _BY_HEAD)


def _ablations() -> Iterator[dict[str, Any]]:
    return ({"measure": "ablation-effect", "heads": list(pair)} for pair in combinations(_HEADS, 2))


def _audit(file: Path) -> None:
    checkpoint = find_checkpoints(str(WORDS))[0]
    runner = SuiteRunner(Audit(Opening(device="cpu", dtype="float32")))
    suite = load_suite(file)
    asked = [PlannedAssertion(suite, assertion, checkpoint, ()) for assertion in suite.suite.assertions]
    runner.announce(asked)
    for one in asked:
        runner.judge(one)
