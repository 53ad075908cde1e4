"""The figures of an audit as trackers take them: numbers by name, and a step."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

from circuit_assertions.checkpoints.sources import step_of
from circuit_assertions.results import AssertionResult
from circuit_assertions.verdict_words import NOT_JUDGED, Outcome

__all__ = ["figures_of", "run_and_step"]

_PREFIX = "circuit"
_MOST_HEADS = 64  # of one assertion: of all heads of a large model there would be thousands


def figures_of(lines: Iterable[AssertionResult]) -> dict[str, float]:
    """The numbers of one checkpoint: the mean, the ends of its interval and whether it holds, of each assertion.

    `circuit/<suite>/<assertion>/mean` is the row that decided, `.../L3H0` a single head, `.../held` 1 or 0. What was
    not judged has no numbers. `circuit/verdicts/broken` and its like count.
    """
    every = list(lines)
    found: dict[str, float] = {}
    for line in every:
        if not line.rows or line.outcome in NOT_JUDGED:
            continue
        name = f"{_PREFIX}/{_stem(line.suite)}/{line.id}"
        first = line.rows[0].figure
        found |= {f"{name}/mean": first.mean, f"{name}/low": first.low, f"{name}/high": first.high}
        found[f"{name}/held"] = float(line.outcome == Outcome.HELD)
        if len(line.rows) > 1:
            found |= {f"{name}/{row.name}": row.figure.mean for row in line.rows[:_MOST_HEADS]}
    counts = Counter(line.counted for line in every)
    for outcome in Outcome:
        if counts[outcome]:
            found[f"{_PREFIX}/verdicts/{_word(outcome.said)}"] = float(counts[outcome])
    return found


def run_and_step(model: str, step: int | None = None) -> tuple[str, int]:
    """The training run that a checkpoint belongs to, and its step: of `run/checkpoint-40` `run` and 40.

    Args:
        model: as reports name it.
        step: what is taken for another checkpoint; default 0.
    """
    path = PurePath(model)
    found = step_of(path.name)
    return (model, step or 0) if found is None else (str(path.parent), found)


def _stem(suite: str) -> str:
    return _word(PurePath(suite.rpartition(":")[2]).stem)


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-") or "suite"
