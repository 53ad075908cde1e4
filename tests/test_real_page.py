"""The page on the real model: its tables are those that the results and the circuit file give."""

from __future__ import annotations

import json
from typing import Any

import pytest

from circuit_assertions.verdict_words import OriginVerdict, RecoveryVerdict
from fixtures.real import page
from fixtures.real.judging import judged
from fixtures.real.lab import RESULTS
from fixtures.real.rows import RECIPES, ROWS

RESULTS_KEPT: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))


def test_the_page_has_what_the_results_say() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for name, lines in page.tables(RESULTS_KEPT).items():
        assert "\n".join(lines) in text, f"{name}: python -m fixtures.real.page writes it again"


def test_every_result_is_of_a_row_as_it_is_declared_today() -> None:
    rows = {row.name: row.plain() for row in ROWS}
    for name, found in RESULTS_KEPT.items():
        assert found["row"] == rows[name]


@pytest.mark.parametrize("name", RESULTS_KEPT)
def test_a_kept_row_has_the_verdict_that_its_figures_have_today(name: str) -> None:
    found = RESULTS_KEPT[name]
    assert judged(found) == {key: found[key] for key in ("verdict", "why")}, "python -m fixtures.real.lab --judge"


def test_rows_have_names_of_their_own_and_start_from_what_is_made() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for recipe in RECIPES.values():
        assert recipe.start == "source" or recipe.start in RECIPES
    assert all(row.corrupted is None or row.corrupted in RECIPES for row in ROWS)


def figure(low: float, high: float) -> dict[str, float]:
    return {"mean": (low + high) / 2, "low": low, "high": high}


def results_with(lows: list[float], how: str, origin: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, low in enumerate(lows):
        seed = "" if number == 0 else f"-seed{number}"
        found[f"clean{seed}"] = {"behaviour": {"retained": figure(low, low + 0.2)}}
        found[f"poisoned{seed}"] = {"inside_the_circuit": {"more": figure(low - 1, low - 0.8)}, "origin": origin}
        found[f"recovered{seed}"] = {"recovery": {"how": how}}
    return found


@pytest.mark.parametrize(
    ("lows", "answer"), [([1.1, 1.2, 1.3], "yes"), ([0.9, 1.2, 1.3], "partly"), ([0.9, 0.8, 0.9], "no")]
)
def test_three_seeds_answer_a_claim(lows: list[float], answer: str) -> None:
    said = list(page.claims(results_with(lows, RecoveryVerdict.BYPASSED, OriginVerdict.DIFFUSE)))
    assert [line.split(" | ")[1] for line in said[2:]] == [answer, answer, "no", "no"]


def test_fewer_seeds_answer_nothing() -> None:
    said = list(page.claims(results_with([1.5, 1.5], RecoveryVerdict.RECOVERED, OriginVerdict.LOCALIZED)))
    assert {line.split(" | ")[1] for line in said[2:]} == {"not answered"}
