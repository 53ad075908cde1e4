"""How often the intervals that verdicts rest on miss the truth: simulated readings with a known mean.

    python -m benchmarks.coverage [--draws N] [--seed N] [--json]

Each cell is the share of samples whose interval misses the true mean, over what it may be: 1 is nominal, less is
cautious. Levels are those of one head, and of 12 and 144 heads judged together. docs/quality.md has the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from circuit_assertions.measures.intervals import (
    CONFIDENCE,
    interval_of_mean,
    interval_of_share,
    intervals_of_means,
)

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]

PROMPTS = (8, 16, 32, 64, 256)
TOGETHER = (1, 12, 144)
_AT_ONCE = 2_000_000  # values drawn at once: 16 MB

# Distributions with the mean that the intervals have to cover.
MEANS: Mapping[str, tuple[Draw, float]] = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "Student, 4 degrees": (lambda rng, size: rng.standard_t(4, size=size), 0.0),
    "exponential": (lambda rng, size: rng.exponential(size=size), 1.0),
    "lognormal": (lambda rng, size: rng.lognormal(size=size), float(np.exp(0.5))),
    "three values": (lambda rng, size: rng.choice([0.0, 0.5, 1.0], p=[0.1, 0.2, 0.7], size=size), 0.8),
    "templates in pairs": (lambda rng, size: _templates(rng, size), 0.0),
}
SHARES = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class Cell:
    """One kind of readings, at one number of prompts and one level.

    Attributes:
        missed: the share of intervals that miss the truth, with Wilson's interval.
        allowed: the share that may.
    """

    readings: str
    prompts: int
    together: int
    missed: float
    low: float
    high: float
    allowed: float

    @property
    def ratio(self) -> float:
        """How often they miss, over how often they may."""
        return self.missed / self.allowed


def _templates(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Eight templates that differ in their mean, with the same number of prompts each, as the task draws them."""
    effects = np.tile([-1.0, 1.0, -0.5, 0.5, -0.2, 0.2, -2.0, 2.0], size[1] // 8)
    values: Array = rng.normal(size=size) + effects
    return values


def missed_means(draw: Draw, mean: float, prompts: int, together: int, draws: int, seed: int) -> int:
    """How many of `draws` samples have an interval that misses the mean."""
    rng, missed, done = np.random.default_rng((seed, prompts, together)), 0, 0
    while done < draws:
        some = min(draws - done, max(1, _AT_ONCE // prompts))
        values = draw(rng, (some, prompts))
        low, high = intervals_of_means(values.T, together).T
        level = (values == values[:, :1]).all(axis=1)
        if level.any():  # only where the range of values is known: 0 to 1
            ends = [interval_of_mean(row, together, (0.0, 1.0)) for row in values[level]]
            low[level], high[level] = np.array(ends).T
        missed += int(((low > mean) | (high < mean)).sum())
        done += some
    return missed


def missed_shares(share: float, prompts: int, together: int, draws: int, seed: int) -> int:
    """How many of `draws` samples have an interval that misses the share."""
    counts = np.random.default_rng((seed, prompts, together)).binomial(prompts, share, draws)
    missed = 0
    for hits, times in zip(*np.unique(counts, return_counts=True), strict=True):
        low, high = interval_of_share((np.arange(prompts) < hits).astype(np.float64), together)
        missed += int(times) * (not low <= share <= high)
    return missed


def cells(draws: int, seed: int) -> list[Cell]:
    """All cells. At the level of many heads more samples are drawn, so that misses can be counted."""
    made = []
    for together in TOGETHER:
        count = draws * together
        for prompts in PROMPTS:
            for name, (draw, mean) in MEANS.items():
                made.append(
                    _cell(name, prompts, together, missed_means(draw, mean, prompts, together, count, seed), count)
                )
            for share in SHARES:
                missed = missed_shares(share, prompts, together, count, seed)
                made.append(_cell(f"hits, {share:g}", prompts, together, missed, count))
    return made


def _cell(readings: str, prompts: int, together: int, missed: int, draws: int) -> Cell:
    interval = binomtest(missed, draws).proportion_ci(0.95, method="wilson")
    allowed = (1 - CONFIDENCE) / together
    return Cell(readings, prompts, together, missed / draws, float(interval.low), float(interval.high), allowed)


def table(found: list[Cell]) -> str:
    """A Markdown table: readings by row, prompts and level by column."""
    columns = [(together, prompts) for together in TOGETHER for prompts in PROMPTS]
    by_place = {(cell.readings, cell.together, cell.prompts): cell for cell in found}
    heading = "| readings | " + " | ".join(f"{prompts} x {together}" for together, prompts in columns) + " |"
    lines = [heading, "|---" * (len(columns) + 1) + "|"]
    for name in dict.fromkeys(cell.readings for cell in found):
        ratios = (f"{by_place[name, together, prompts].ratio:.2f}" for together, prompts in columns)
        lines.append(f"| {name} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or all cells as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=10_000, help="samples a cell, times the heads together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    found = cells(given.draws, given.seed)
    print(json.dumps([asdict(cell) for cell in found], indent=1) if given.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
