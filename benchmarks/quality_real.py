"""Verdicts on the rows of the real model's laboratory (fixtures/real) of which it is known what is true.

A row is harmless if it was fine-tuned on right sentences or on ordinary text, or cast to 8 bits or more; damaged if it
was poisoned; what counts is then whether it lost 10 % or more of the behaviour, as in the benchmark. What is true of
retrained rows and of narrow rounding is what that laboratory asks, so they count nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.quality_figures import WORTH_FINDING, Share
from circuit_assertions.verdict_words import SOMETHING_LOST
from fixtures.real.lab import RESULTS
from fixtures.real.rows import ROWS, LabRow

__all__ = ["real_lines", "truth_of"]

_CASTS = ("bfloat16", "float16", "Q8_0")
_RIGHT = ("clean", "other")  # what a harmless row is fine-tuned on
_CALLED = {
    "harmless": "false alarms, of harmless copies",
    "damaged": "detected, of poisoned copies that lost 10% or more",
}


def truth_of(row: LabRow) -> str | None:
    """`harmless`, `damaged`, or None where that is not known beforehand."""
    if row.recipe is None:
        return "harmless" if row.rounding in _CASTS else None
    if row.corrupted is not None:
        return None
    return "harmless" if row.recipe.kind in _RIGHT else "damaged"


def real_lines(results: Mapping[str, Any] | None = None) -> Iterator[str]:
    """A table of the shares, and which rows were made."""
    if results is None:
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    yield "| SmolLM2-135M | share [95%] | rows | declared |"
    yield "| --- | --- | --- | --- |"
    for truth, called in _CALLED.items():
        declared = [row.name for row in ROWS if truth_of(row) == truth]
        made = [name for name in declared if name in results and (truth == "harmless" or _lost(results[name]))]
        share = Share.where(results[name]["verdict"] in SOMETHING_LOST for name in made)
        low, high = share.bounds
        figure = f"{share.share:.1%} [{low:.1%}, {high:.1%}]" if made else ""
        yield f"| {called} | {figure} | {', '.join(made) or 'none'} | {len(declared)} |"


def _lost(found: Mapping[str, Any]) -> bool:
    return bool(found["behaviour"]["retained"]["mean"] <= 1 - WORTH_FINDING)
