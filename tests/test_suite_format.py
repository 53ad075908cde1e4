"""The suite format: valid suites load as meant, every problem is told with its place, and nothing else escapes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from said import says
from suite_texts import REFERENCE_SUITE, TINY_SUITE

from circuit_assertions.assertions import SuiteError, load_circuits, load_suite
from circuit_assertions.assertions.packaged import packaged_suites
from circuit_assertions.heads import Head, HeadError, parse_head

HEADER = "suite: x\ntasks:\n  ioi: {kind: ioi, prompts: 8}\n  again: {kind: repeated-tokens}\nassertions:\n"


def problems(folder: Path, text: str | bytes) -> list[str]:
    """What is wrong with a suite, one `line:column: message` each; the suite's path is taken off."""
    file = folder / "x.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SuiteError) as raised:
        load_suite(file)
    lines = str(raised.value).splitlines()
    assert all(line.startswith(f"{file}:") for line in lines)
    return [line.removeprefix(f"{file}:") for line in lines]


def test_the_packaged_suites_and_those_of_these_tests_are_valid(tmp_path: Path) -> None:
    circuits = load_circuits(packaged_suites() / "circuits")
    for file in sorted(packaged_suites().glob("*.yaml")):
        assert load_suite(file, circuits).suite.assertions
    for text in (TINY_SUITE, REFERENCE_SUITE):
        (tmp_path / "own.yaml").write_text(text)
        assert load_suite(tmp_path / "own.yaml").suite.assertions


def test_an_assertion_knows_its_line_and_a_suite_its_circuit(tmp_path: Path) -> None:
    file = tmp_path / "ioi.small.yaml"
    file.write_text(TINY_SUITE.replace("circuit: induction\n", "#\n"))
    loaded = load_suite(file)
    assert TINY_SUITE.splitlines()[loaded.line(1) - 1].strip() == "- id: breaks"
    assert loaded.circuit == "ioi"


def test_a_file_that_windows_saved_loads(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + TINY_SUITE.replace("\n", "\r\n").encode())
    assert len(load_suite(file).suite.assertions) == 5


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = """\
suite: x
sorce: y
tasks:
  ioi: {kind: ioi, prompts: 48, prompts: 3}
  rep: {kind: repeated-token}
assertions:
  - id: a
    mesure: loss
    measure: logit-diffrence
    task: ioi
    expect: {at-least: yes, between: [3, 1]}
  - {id: b, measure: direct-effect, task: io, heads: name-movr, expect: {sign: positive}}
  - {id: b, measure: attention, task: ioi, heads: L1H1, query: endd, expect: {retains: 80}}
  - {id: b, measure: attention, task: ioi, heads: L1H1, query: endd, expect: {retains: 80%}}
"""
    expected: list[tuple[str, list[str]]] = [
        ("2:1", ["key 'sorce'", "'source'"]),
        ("4:33", ["key 'prompts'", "line 4"]),
        ("5:9", ["kind 'repeated-token'", "'repeated-tokens'"]),
        ("8:5", ["key 'mesure'", "'measure'"]),
        ("9:5", ["measure 'logit-diffrence'", "'logit-difference'"]),
        ("11:14", ["True", "number"]),
        ("11:29", ["lower bound", "[1.0, 3.0]"]),
        ("12:37", ["task 'io'", "'ioi'"]),
        ("12:47", ["role 'name-movr'", "'name-mover'"]),
        ("13:79", ["80", "80%", "0.8"]),
        ("14:5", ["attention", "`key:`"]),
        ("14:6", ["id 'b'", "twice"]),
        ("14:57", ["'ioi'", "position 'endd'", "'end'"]),
    ]
    for problem, (place, named) in zip(problems(tmp_path, text), expected, strict=True):
        assert problem.startswith(f"{place}: ")
        assert says(problem, *named)


@pytest.mark.parametrize(
    ("assertion", "place", "named"),
    [
        (
            "measure: loss, task: ioi, heads: any, expect: {at-least: 0.5}",
            "heads",
            ["loss", "whole model"],
        ),
        ("measure: loss, task: ioi, query: end, expect: {at-least: 0.5}", "query", ["loss", "`query`"]),
        ("measure: loss, task: ioi, expect: {rank-within: 1}", "rank-within", ["loss", "heads", "rank"]),
        ("measure: loss, task: ioi, expect: {}", "expect", ["nothing", "expected"]),
        ("measure: loss, task: ioi, expect: {at-least: .nan}", "at-least", ["nan", "finite"]),
        ("measure: loss, task: ioi, expect: {at-most: true}", "at-most", ["True", "number"]),
        ("measure: loss, task: ioi, expect: {at-least: 3, at-most: 2}", "expect", ["at-least", "at-most", "both"]),
        ("measure: loss, task: ioi, expect: {mostly: 80%}", "expect", ["nothing", "expected"]),
        ("measure: loss, task: ioi, expect: {retains: 80%, mostly: 80%}", "expect", ["`mostly`", "bound"]),
        ("measure: loss, task: ioi, expect: {retains: 0%}", "retains", ["'0%'", "share"]),
        (
            "measure: induction-score, task: ioi, heads: any, expect: {at-least: 0.5}",
            "measure",
            ["induction-score", "repeat"],
        ),
        ("measure: copy-score, task: ioi, expect: {at-least: 0.5}", "{id", ["copy-score", "`heads:`"]),
        (
            "measure: copy-score, task: ioi, heads: [9.10], expect: {at-least: 0.5}",
            "heads",
            ["9.1", "9.10"],
        ),
        (
            "measure: copy-score, task: ioi, heads: 9.10, expect: {at-least: 0.5}",
            "heads",
            ["9.1", "9.10"],
        ),
        ("measure: copy-score, task: ioi, heads: [], expect: {at-least: 0.5}", "heads", ["[]", "heads"]),
        (
            "measure: copy-score, task: ioi, heads: [L1H1, [1, 1]], expect: {at-least: 0.5}",
            "heads",
            ["L1H1", "twice"],
        ),
        (
            "measure: copy-score, task: ioi, heads: [L1H1], at-least-heads: 2, expect: {at-least: 0.5}",
            "at-least-heads",
            ["1 heads"],
        ),
        (
            "measure: copy-score, task: ioi, heads: any, at-least-heads: true, expect: {at-least: 0.5}",
            "at-least-heads",
            ["True"],
        ),
        (
            "measure: copy-score, task: ioi, heads: any, layers: [3, 1], expect: {at-least: 0.5}",
            "layers",
            ["[first, last]"],
        ),
        (
            "measure: copy-score, task: ioi, heads: any, quantifier: eech, expect: {at-least: 0.5}",
            "quantifier",
            ["'eech'"],
        ),
        ("measure: loss, task: ioi, marks: [a b], expect: {at-least: 0.5}", "a b", ["'a b'", "name"]),
    ],
)
def test_a_mistake_is_told_where_it_stands(tmp_path: Path, assertion: str, place: str, named: list[str]) -> None:
    line = f"  - {{id: a, {assertion}}}"
    (problem,) = problems(tmp_path, f"{HEADER}{line}\n")
    assert problem.startswith(f"6:{line.index(place) + 1}: ")
    assert says(problem, *named)


@pytest.mark.parametrize(
    ("text", "place", "named"),
    [
        ("", "1:1: ", ["'assertions'", "missing"]),
        ("[]", "1:1: ", ["list", "mapping"]),
        ("abc", "1:1: ", ["text", "mapping"]),
        ("~", "1:1: ", ["empty", "mapping"]),
        (f"{HEADER}  []", "5:1: ", ["'assertions'", "empty", 1]),
        (
            f"{HEADER.replace('kind: ioi', 'kind: ioi, names: [A, B]')}  []",
            "3:20: ",
            ["'names'", 5, 2],
        ),
        ("suite: &a x\nsource: *a", "1:8: ", ["anchors and aliases"]),
        ("suite: !!python/object:os.system x", "1:8: ", ["tags", "python/object:os.system"]),
        ("suite: " + "[" * 30 + "]" * 30, "1:27: ", ["nested", 20]),
        ("suite: x\n\ttasks: y", "2:1: ", [r"'\t'"]),
        ("suite: x\n? [a]\n: b", "2:3: ", ["key", "word"]),
        ("suite: 2020-13-45", "1:8: ", ["month"]),
        ("suite: " + "1" * 5000, "1:8: ", ["limit"]),
        (b"suite: x\n# caf\xe9", "2:6: ", ["UTF-8"]),
        ("suite: x\n" + "#" * 8_000_001, " ", ["8000010 bytes", "8 MB"]),
    ],
)
def test_what_is_no_suite_at_all_is_refused_in_a_sentence(
    tmp_path: Path, text: str | bytes, place: str, named: list[object]
) -> None:
    first = problems(tmp_path, text)[0]
    assert first.startswith(place)
    assert says(first, *named)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["any", "80%", "L1H1"])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in _places(child, (*path, key)))]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_suite_loads_or_is_refused_but_nothing_else_escapes(tmp_path: Path, data: st.DataObject) -> None:
    suite = copy.deepcopy(yaml.safe_load(REFERENCE_SUITE))
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(_places(suite)[1:] or [("suite",)]))
        holder = suite
        for key in parents:
            holder = holder[key]
        if data.draw(st.booleans()) or isinstance(holder, list):
            holder[last] = data.draw(VALUES)
        else:
            holder[data.draw(st.sampled_from(["kind", "heads", "expect", "file", "prompts", "x"]))] = data.draw(VALUES)
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump(suite, allow_unicode=True), encoding="utf-8")
    try:
        loaded = load_suite(file)
    except SuiteError:
        return
    assert loaded.suite.assertions


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_load_or_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(SuiteError):
        load_suite(tmp_path / "x.yaml")


@given(st.integers(0, 200), st.integers(0, 200))
def test_heads_are_read_as_they_are_printed(layer: int, index: int) -> None:
    head = Head(layer, index)
    assert parse_head(str(head)) == parse_head([layer, index]) == head


@pytest.mark.parametrize("wrong", [9.1, "9.10", "L9", "l9h9", [9], [9, -1], [9, True], None, 9, "L9H9H1"])
def test_what_names_no_head_is_refused(wrong: object) -> None:
    with pytest.raises(HeadError):
        parse_head(wrong)


@pytest.mark.parametrize(
    ("arguments", "file"), [((), "suite.schema.json"), (("chain",), "chains/chain.schema.json")], ids=["suite", "chain"]
)
def test_the_schema_files_are_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], file: str
) -> None:
    """`make schema` writes them again."""
    from circuit_assertions.cli import main

    assert main(["schema", *arguments]) == 0
    assert (packaged_suites() / file).read_text(encoding="utf-8") == capsys.readouterr().out
