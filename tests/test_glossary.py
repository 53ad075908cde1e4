"""The glossary has an entry for every measure, role and verdict that the code knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from circuit_assertions.assertions.chains import chains_beside
from circuit_assertions.measures import MEASURES
from circuit_assertions.verdict_words import FAMILIES, GateResult, WrappingVerdict

ROOT = Path(__file__).parents[1]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
LINES = GLOSSARY.splitlines()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line, following in zip(LINES, [*LINES[1:], ""], strict=True)
    if line.startswith("|") and not line.startswith("| --") and not following.startswith("| --")
]
ENTRIES = {re.sub(r"[`*| ]+\Z|\A[`*| ]+", "", row[0]): row for row in ROWS}
TERMS = (
    *("checkpoint", "baseline", "corrupted", "counterfactual", "path patching", "ablation", "faithfulness", "graft"),
    *("transplant", "lineage", "fingerprint", "logit difference", "interval", "circuit", "suite", "role", "task"),
)
FRONT = {GateResult: "GATE ", WrappingVerdict: "wrapped "}  # some of their words are in other tables too
VERDICTS = {FRONT.get(family, "") + word: word for family in FAMILIES for word in family}


def states_of_a_head() -> list[str]:
    """What `Change` declares."""
    tree = ast.parse((ROOT / "circuit_assertions" / "diagnosis" / "head_change.py").read_text())
    (change,) = (
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "Change"
    )
    return [str(one.value) for one in ast.walk(change) if isinstance(one, ast.Constant)]


def test_the_states_of_a_head_are_found_where_they_are_declared() -> None:
    assert "sign flipped" in states_of_a_head()


@pytest.mark.parametrize("word", VERDICTS)
def test_every_verdict_has_its_meaning_out_of_the_table(word: str) -> None:
    assert ENTRIES[word][1] == VERDICTS[word].meaning


@pytest.mark.parametrize("word", states_of_a_head())
def test_every_state_of_a_head_is_explained(word: str) -> None:
    assert len(ENTRIES[word][1].split()) >= 3


@pytest.mark.parametrize("role", [*chains_beside().roles, "unexplained"])
def test_every_role_is_explained(role: str) -> None:
    assert len(ENTRIES[role][1].split()) >= 5


@pytest.mark.parametrize("term", TERMS)
def test_every_term_is_explained(term: str) -> None:
    assert len(ENTRIES[term][1].split()) >= 5


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_explained_with_unit_range_and_source(name: str) -> None:
    meaning, unit, bounds, source = ENTRIES[name][1:]
    assert len(meaning.split()) >= 5
    assert unit == MEASURES[name].unit
    assert re.match(r"any|-?\d", bounds)
    papers = set(re.findall(r"arXiv [\d.]+", MEASURES[name].source))
    short = source.replace("Wang,", "arXiv 2211.00593").replace("Olsson", "arXiv 2209.11895")
    assert set(re.findall(r"arXiv [\d.]+\d", short)) <= papers or not papers
    assert not papers or "arXiv" in short


def test_no_word_has_two_entries_in_a_section_and_no_measure_is_made_up() -> None:
    for section in re.split(r"^## ", GLOSSARY, flags=re.MULTILINE):
        names = re.findall(r"^\| (`[\w-]+`|[A-Z ]+|[a-z ]+) \|", section, re.MULTILINE)
        names = [name for name in names if name not in ("measure", "word", "term", "role")]
        assert len(names) == len(set(names))
    measures = GLOSSARY.split("## Measures")[1]
    assert set(re.findall(r"^\| `([\w-]+)` \|", measures, re.MULTILINE)) == set(MEASURES)


@pytest.mark.parametrize("page", ["README.md", "docs/suites.md", "docs/diagnosis.md"])
def test_pages_link_to_the_glossary(page: str) -> None:
    assert re.search(r"\]\((docs/)?glossary\.md", (ROOT / page).read_text())
