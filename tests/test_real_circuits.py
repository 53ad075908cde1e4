"""The pages of the circuits on the real model have what was measured; the circuit files are those that are stable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from circuit_assertions.assertions import load_suite
from circuit_assertions.assertions.packaged import circuits_beside
from circuit_assertions.places import packaged_suites
from fixtures.real.circuit_damage import circuit_of, strongest
from fixtures.real.circuit_pages import PAGES, parts_of
from fixtures.real.circuits import CIRCUITS, beats_random, file_of, is_stable, kept, task_of

MEASURED: dict[str, Any] = kept()
FOUND = {name: one["content"] for name, one in MEASURED["found"].items() if "content" in one}


@pytest.mark.parametrize("page", sorted(page.stem for page in PAGES.glob("*.md")))
def test_a_page_has_what_was_measured(page: str) -> None:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    for name, lines in parts_of(page, MEASURED).items():
        assert "\n".join(lines) in text, f"{name}: python -m fixtures.real.circuit_pages writes it again"


def test_every_circuit_has_a_page_and_a_head_map_where_it_was_found() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {"README", *CIRCUITS}
    assert {page.stem for page in PAGES.glob("*.svg")} == set(FOUND)


@pytest.mark.parametrize("name", FOUND)
def test_a_circuit_has_a_file_if_it_is_stable_and_the_file_is_what_was_found(name: str) -> None:
    assert file_of(name).is_file() == is_stable(FOUND[name])
    if is_stable(FOUND[name]):
        assert yaml.safe_load(file_of(name).read_text(encoding="utf-8")) == FOUND[name]
        assert strongest(FOUND[name]) in FOUND[name]["found"]["heads"]


def test_halves_that_disagree_are_not_stable_and_random_heads_that_do_as_well_are_noticed() -> None:
    for jaccard, random in ((0.8, 0.3), (0.6, 0.3), (0.8, 0.85)):
        one: dict[str, Any] = {
            "found": {
                "stability": {"jaccard-of-halves": jaccard},
                "faithfulness": {"circuit": [0.9, 0.8, 1.0], "random": [0.2, 0.1, random]},
            }
        }
        assert is_stable(one) is (jaccard == 0.8)
        assert beats_random(one) is (random == 0.3)


def test_every_assertion_about_all_circuits_is_of_the_circuit_that_its_name_says() -> None:
    file = packaged_suites() / "breadth.yaml"
    loaded = load_suite(file, circuits_beside(file))
    for assertion in loaded.suite.assertions:
        assert circuit_of(assertion.id) == loaded.circuit_of(assertion)


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in FOUND if FOUND[name]["found"]["task"]["kind"] == "templates"])
def test_the_tasks_of_today_are_those_that_the_circuits_were_found_on(name: str) -> None:
    from transformers import AutoTokenizer

    model = os.environ.get("SMOLLM2_GGUF")
    if not model or not Path(model).is_file():
        pytest.skip("SMOLLM2_GGUF names no file")
    tokenizer = AutoTokenizer.from_pretrained(Path(model).parent, gguf_file=Path(model).name)
    asked = FOUND[name]["found"]["task"]
    made = task_of(name, asked["prompts"]).build(tokenizer)
    assert dict(made.settings) == asked
