"""The table of verdict words: no other module writes one, and the gate does what the table says."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from result_cases import line as made_line
from result_cases import waiver

from circuit_assertions.cli.diagnose import _code as code_of_diagnosis
from circuit_assertions.cli.run_trajectory import _code as code_of_run
from circuit_assertions.plugin.gate import Gate, Rules, fails
from circuit_assertions.verdict_words import (
    FAMILIES,
    GateResult,
    Outcome,
    Overall,
    RecoveryVerdict,
    Word,
    WrappingVerdict,
    colour_of,
)

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "circuit_assertions" / "verdict_words.py"
ALL = [word for family in FAMILIES for word in family]
WRITTEN = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, ALL))})(?![\w-])")
MODULES = [
    file
    for room in ("circuit_assertions", "fixtures", "benchmarks", "docs")
    for file in sorted((ROOT / room).rglob("*.py"))
    if file != TABLE
]


def written_in(source: str) -> list[tuple[int, str]]:
    """The strings of a module that contain a verdict word, docstrings left out: (line, text) pairs."""
    tree = ast.parse(source)
    with_docs = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, with_docs)]
    docs = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
        if WRITTEN.search(node.value)
    ]


@pytest.mark.parametrize("text", ['x = "HELD"', 'print(f"BYPASSED: {x}")', 'def f():\n    "PASS"\n    return "FAIL"'])
def test_a_word_in_a_string_is_found(text: str) -> None:
    assert len(written_in(text)) == 1


@pytest.mark.parametrize("text", ['"""HELD."""', 'def f():\n    """BROKEN or not."""', 'x = "BROKENLY"', "HELD = 1"])
def test_docstrings_and_names_are_no_such_strings(text: str) -> None:
    assert written_in(text) == []


def test_no_other_module_writes_a_verdict_word() -> None:
    assert len(MODULES) > 150
    found = {str(file.relative_to(ROOT)): written for file in MODULES if (written := written_in(file.read_text()))}
    assert found == {}


def test_each_word_has_one_entry_and_a_meaning_of_one_sentence() -> None:
    shared = {WrappingVerdict.INTACT, WrappingVerdict.UNRESOLVED}  # with checkpoints and assertions
    assert len(ALL) == len(set(ALL)) + len(shared)
    for word in ALL:
        assert len(word.meaning.split()) >= 5
        assert not word.meaning.endswith(".")
        assert ". " not in word.meaning
        assert word.colour in ("green", "yellow", "red", "")


def test_letters_tell_outcomes_apart() -> None:
    letters = [outcome.letter for outcome in Outcome]
    assert all(len(letter) == 1 for letter in letters)
    assert len(letters) == len(set(letters))


@pytest.mark.parametrize("word", ALL, ids=str)
def test_a_word_is_a_string(word: Word) -> None:
    assert json.loads(json.dumps(word)) == word == type(word).of(str(word))
    assert f"{word:<20}" == str(word).ljust(20)
    assert colour_of(str(word)) == word.colour


def test_what_is_no_verdict_has_no_colour() -> None:
    assert colour_of("") == colour_of("held") == ""
    with pytest.raises(ValueError, match="unpack"):
        Outcome.of("held")


@pytest.mark.parametrize("outcome", Outcome, ids=str)
def test_the_gate_fails_for_what_the_table_says(outcome: Outcome) -> None:
    """WAIVED is never an outcome of its own: what is waived is not held, and excused."""
    line = made_line("m", "s", "a", Outcome.BROKEN if outcome == Outcome.WAIVED else outcome)
    if outcome == Outcome.WAIVED:
        line = made_line("m", "s", "a", Outcome.BROKEN, waiver=waiver("2999-01-01"))
        assert line.counted == outcome
    assert fails(line, Rules()) == bool(outcome.exit.code)
    held = made_line("m", "s", "b", Outcome.HELD)
    assert Gate(Rules(), [line, held]).code(0) == outcome.exit.code
    for option in ("unresolved", "skipped"):
        assert fails(line, Rules(**{option: "fail"})) == (bool(outcome.exit.code) or option == outcome.exit.option)


def test_the_results_of_the_gate_are_its_exit_codes() -> None:
    for outcome, result in ((Outcome.HELD, GateResult.PASS), (Outcome.BROKEN, GateResult.FAIL)):
        gate = Gate(Rules(), [made_line("m", "s", "a", outcome)])
        assert gate.code(0) == result.exit.code
        assert gate.line(gate.code(0)).startswith(f"GATE: {result} (1 {outcome.said}")


def test_the_worst_overall_verdict_comes_first() -> None:
    """A corrupted checkpoint fails, a degraded one by an option; neither of the others can."""
    assert [(word.exit.code, word.exit.option) for word in Overall] == [(1, ""), (0, "degraded"), (0, ""), (0, "")]


def run_of(*steps: dict[str, Any]) -> Any:
    return SimpleNamespace(steps=[SimpleNamespace(**{"problem": "", "overall": ""} | step) for step in steps])


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([{"verdicts": {"a": "HELD", "b": "SKIPPED"}, "overall": "CORRUPTED"}], 0),
        ([{"verdicts": {"a": "HELD", "b": "UNRESOLVED"}}], 0),
        ([{"verdicts": {"a": "HELD", "b": "BROKEN"}}], 1),
        ([{"verdicts": {"a": "BROKEN"}}, {"verdicts": {"a": "HELD"}}], 0),
        ([{"verdicts": {"a": "ERROR"}}, {"verdicts": {"a": "HELD"}}], 2),
        ([{"verdicts": {}, "problem": "torn"}, {"verdicts": {"a": "BROKEN"}}], 2),
        ([{"verdicts": {"a": "SKIPPED"}}], 2),
        ([{"verdicts": {}}], 2),
    ],
)
def test_the_exit_code_of_a_training_run(steps: list[dict[str, Any]], code: int) -> None:
    assert code_of_run(run_of(*steps), degraded_fails=False) == code


def test_a_degraded_last_checkpoint_fails_a_run_only_by_the_option() -> None:
    found = run_of({"verdicts": {"a": "HELD"}, "overall": Overall.DEGRADED})
    assert [code_of_run(found, degraded_fails=fails) for fails in (False, True)] == [0, 1]


@pytest.mark.parametrize("verdict", Overall, ids=str)
@pytest.mark.parametrize("how", [None, *RecoveryVerdict], ids=str)
def test_the_exit_code_of_a_diagnosis(verdict: Overall, how: RecoveryVerdict | None) -> None:
    """A recovery decides where there is one."""
    found: Any = SimpleNamespace(verdict=verdict, recovery=None if how is None else SimpleNamespace(how=how))
    expected = int(verdict == "CORRUPTED") if how is None else int(how != "RECOVERED")
    assert code_of_diagnosis(found, degraded_fails=False) == expected
    assert code_of_diagnosis(found, degraded_fails=True) == (1 if verdict == "DEGRADED" else expected)
