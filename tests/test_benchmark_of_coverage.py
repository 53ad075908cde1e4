"""The benchmark of the intervals' coverage: it counts what misses, and its table has every cell."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from benchmarks import coverage
from circuit_assertions.measures.intervals import ALONE, Interval, interval_of_share, least_prompts


def test_misses_are_counted_as_an_independent_interval_would() -> None:
    """Of normal values the interval is nearly Student's, whose misses are counted here sample by sample."""
    draw, mean = coverage.MEANS["normal"]
    counted = coverage.missed_means(draw, mean, 64, ALONE, 4000, seed=3)
    values = draw(np.random.default_rng((3, 64, 1)), (4000, 64))
    low, high = stats.t.interval(0.99, 63, values.mean(axis=1), stats.sem(values, axis=1))
    student = int(((low > mean) | (high < mean)).sum())
    assert student - 20 <= counted <= student


def test_a_miss_at_any_look_counts() -> None:
    draw, mean = coverage.MEANS["normal"]
    level = ALONE.among(len(coverage.GROWING.counts))
    once = coverage.missed_means(draw, mean, coverage.GROWING.start, level, 4000, seed=3)
    assert once < coverage.missed_at_a_look(draw, mean, ALONE, 4000, seed=3) <= 4000 * 0.012


@pytest.mark.parametrize("share", coverage.SHARES)
def test_misses_of_shares_are_those_of_the_exact_chances(share: float) -> None:
    counts = np.arange(65)
    missed = [not low <= share <= high for low, high in map(_interval, range(65))]
    chance = float(stats.binom.pmf(counts, 64, share)[missed].sum())
    assert coverage.missed_shares(share, 64, ALONE, 20_000, seed=1) / 20_000 == pytest.approx(chance, abs=0.006)


def _interval(hits: int) -> Interval:
    return interval_of_share((np.arange(64) < hits).astype(np.float64))


@pytest.mark.parametrize("name", coverage.PAIRED)
def test_paired_rates_are_missed_no_more_often_than_they_may_be(name: str) -> None:
    level = ALONE.among(12)
    missed = coverage.missed_pairs(*coverage.PAIRED[name], 64, level, 20_000, seed=2)
    assert missed <= stats.binom.isf(0.01, 20_000, 2 * level.tail)


def test_the_table_has_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert coverage.main(["--draws", "5"]) == 0
    heading, _, *rows = capsys.readouterr().out.strip().splitlines()
    names = [row.split(" | ")[0].lstrip("| ") for row in rows]
    assert names == [*coverage.MEANS, *(f"hits, {share:g}" for share in coverage.SHARES), *coverage.PAIRED]
    assert {row.count("|") for row in (heading, *rows)} == {len(coverage.PROMPTS) * len(coverage.TOGETHER) + 3}
    assert coverage.main(["--draws", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    decided = [cell for cell in found if "hits" not in cell["readings"]]
    assert all(cell["prompts"] >= least_prompts(ALONE.among(cell["together"])) for cell in decided)
    assert all(cell["low"] - 1e-12 <= cell["missed"] <= cell["high"] + 1e-12 for cell in found)
