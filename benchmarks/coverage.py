"""How often the intervals that verdicts rest on miss the truth: simulated readings with a known mean.

    python -m benchmarks.coverage [--draws N] [--seed N] [--json]

Each cell is the share of samples whose interval misses the true mean, over what it may be: 1 is nominal, less is
cautious. Levels are those of one interval, and of 12 and 144 that must hold together. Where there are too few prompts
for a level, nothing is decided, and the cell is empty. The last column has prompts that grow from look to look: a miss
at any look counts. docs/quality.md has the table.
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
    ALONE,
    Level,
    interval_of_mean,
    interval_of_paired_rates,
    interval_of_share,
    intervals_of_means,
    least_prompts,
)
from circuit_assertions.tasks.growing import PromptsThatGrow

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]

PROMPTS = (8, 16, 32, 64, 256)
TOGETHER = (1, 12, 144)
GROWING = PromptsThatGrow(start=64, budget=1024)
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

# Rates of two models on the same prompts: hit by both, now alone, then alone; and the share of the rate then that is
# taken from the rate now.
PAIRED: Mapping[str, tuple[tuple[float, float, float], float]] = {
    "paired hits, nearly the same": ((0.95, 0.005, 0.015), 1.0),
    "paired hits, a quarter lost": ((0.7, 0.02, 0.25), 1.0),
    "paired hits, 80% retained": ((0.5, 0.14, 0.3), 0.8),
}


@dataclass(frozen=True)
class Cell:
    """One kind of readings, at one number of prompts and one level.

    Attributes:
        prompts: the most of them, where they grow.
        together: how many intervals must hold at once, looks aside.
        looks: how often the prompts are looked at.
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
    looks: int = 1

    @property
    def ratio(self) -> float:
        """How often they miss, over how often they may."""
        return self.missed / self.allowed


def _templates(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Eight templates that differ in their mean, with the same number of prompts each, as the task draws them."""
    effects = np.tile([-1.0, 1.0, -0.5, 0.5, -0.2, 0.2, -2.0, 2.0], size[1] // 8)
    values: Array = rng.normal(size=size) + effects
    return values


def missed_means(draw: Draw, mean: float, prompts: int, level: Level, draws: int, seed: int) -> int:
    """How many of `draws` samples have an interval that misses the mean."""
    rng, missed, done = np.random.default_rng((seed, prompts, level.together)), 0, 0
    while done < draws:
        some = min(draws - done, max(1, _AT_ONCE // prompts))
        missed += int(_misses(draw(rng, (some, prompts)), mean, level).sum())
        done += some
    return missed


def missed_at_a_look(draw: Draw, mean: float, level: Level, draws: int, seed: int) -> int:
    """How many of `draws` samples have an interval that misses the mean at one look or another.

    Args:
        level: of all looks together.
    """
    rng, counts, missed, done = np.random.default_rng((seed, level.together)), GROWING.counts, 0, 0
    while done < draws:
        some = min(draws - done, max(1, _AT_ONCE // GROWING.budget))
        values = draw(rng, (some, GROWING.budget))
        at_looks = [_misses(values[:, :count], mean, level.among(len(counts))) for count in counts]
        missed += int(np.any(at_looks, axis=0).sum())
        done += some
    return missed


def _misses(values: Array, mean: float, level: Level) -> NDArray[np.bool_]:
    """Which samples [samples, prompts] have an interval that misses the mean [samples]."""
    low, high = intervals_of_means(values.T, level).T
    same = (values == values[:, :1]).all(axis=1)
    if same.any():  # only where the range of values is known: 0 to 1
        low[same], high[same] = np.array([interval_of_mean(row, level, (0.0, 1.0)) for row in values[same]]).T
    misses: NDArray[np.bool_] = (low > mean) | (high < mean)
    return misses


def missed_shares(share: float, prompts: int, level: Level, draws: int, seed: int) -> int:
    """How many of `draws` samples have an interval that misses the share."""
    counts = np.random.default_rng((seed, prompts, level.together)).binomial(prompts, share, draws)
    missed = 0
    for hits, times in zip(*np.unique(counts, return_counts=True), strict=True):
        low, high = interval_of_share((np.arange(prompts) < hits).astype(np.float64), level)
        missed += int(times) * (not low <= share <= high)
    return missed


def missed_pairs(
    chances: tuple[float, float, float], share: float, prompts: int, level: Level, draws: int, seed: int
) -> int:
    """How many of `draws` samples have an interval that misses the rate now less a share of the rate then."""
    rng = np.random.default_rng((seed, prompts, level.together))
    counts = rng.multinomial(prompts, [*chances, 1 - sum(chances)], draws)
    (both, gained, lost), missed = chances, 0
    for (of_both, of_gained, of_lost, _), times in zip(*np.unique(counts, axis=0, return_counts=True), strict=True):
        place = np.arange(prompts)
        now = (place < of_both + of_gained).astype(np.float64)
        then = ((place < of_both) | ((place >= of_both + of_gained) & (place < of_both + of_gained + of_lost))) * 1.0
        low, high = interval_of_paired_rates(now, then, level, share)
        missed += int(times) * (not low <= both + gained - share * (both + lost) <= high)
    return missed


def cells(draws: int, seed: int) -> list[Cell]:
    """All cells in which something is decided. At the level of many intervals more samples are drawn."""
    made = []
    for level in map(ALONE.among, TOGETHER):
        count = draws * level.together
        for prompts in PROMPTS:
            if prompts >= least_prompts(level):
                for name, (draw, mean) in MEANS.items():
                    made.append(
                        _cell(name, prompts, level, missed_means(draw, mean, prompts, level, count, seed), count)
                    )
            for share in SHARES:
                missed = missed_shares(share, prompts, level, count, seed)
                made.append(_cell(f"hits, {share:g}", prompts, level, missed, count))
            for name, (chances, share) in PAIRED.items():
                missed = missed_pairs(chances, share, prompts, level, count, seed)
                made.append(_cell(name, prompts, level, missed, count))
    for name, (draw, mean) in MEANS.items():
        missed = missed_at_a_look(draw, mean, ALONE, draws, seed)
        made.append(_cell(name, GROWING.budget, ALONE, missed, draws, looks=len(GROWING.counts)))
    return made


def _cell(readings: str, prompts: int, level: Level, missed: int, draws: int, looks: int = 1) -> Cell:
    interval = binomtest(missed, draws).proportion_ci(0.95, method="wilson")
    together, allowed = level.together, 2 * level.tail
    return Cell(readings, prompts, together, missed / draws, float(interval.low), float(interval.high), allowed, looks)


def table(found: list[Cell]) -> str:
    """A Markdown table: readings by row, prompts and level by column."""
    columns = [(together, prompts, 1) for together in TOGETHER for prompts in PROMPTS]
    columns.append((1, GROWING.budget, len(GROWING.counts)))
    by_place = {(cell.readings, cell.together, cell.prompts, cell.looks): cell for cell in found}
    names = [f"{prompts} x {together}" for together, prompts, _ in columns[:-1]]
    lines = [
        f"| readings | {' | '.join(names)} | {GROWING.start} to {GROWING.budget} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in (*MEANS, *(f"hits, {share:g}" for share in SHARES), *PAIRED):
        known = (by_place.get((name, *column)) for column in columns)
        lines.append(f"| {name} | {' | '.join('' if cell is None else f'{cell.ratio:.2f}' for cell in known)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or all cells as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=10_000, help="samples a cell, times the intervals together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    found = cells(given.draws, given.seed)
    print(json.dumps([asdict(cell) for cell in found], indent=1) if given.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
