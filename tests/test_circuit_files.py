"""Circuit files: which one is bound to a model, how sure that is, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from said import says
from suite_texts import circuit_text, write

from circuit_assertions.assertions import SuiteError, bind, load_circuit, load_circuits
from circuit_assertions.assertions.packaged import circuits_beside, packaged_suites
from circuit_assertions.cli import main
from circuit_assertions.heads import Head
from circuit_assertions.shape import Shape

SHAPE: dict[str, Any] = {"architecture": "GPT2LMHeadModel", "layers": 3, "heads": 4, "d_model": 32}
ROLES = {"name-mover": [(1, 2), (2, 3)]}


def test_the_circuit_that_fits_by_shape_is_bound_and_said_to_be_assumed(tmp_path: Path) -> None:
    write(tmp_path, {"ioi.yaml": circuit_text(SHAPE, ROLES)})
    binding = bind(load_circuits(tmp_path), "ioi", Shape(**SHAPE), ["f" * 64])
    assert binding is not None
    assert not binding.certain
    assert binding.heads("name-mover") == (Head(1, 2), Head(2, 3))
    assert binding.heads("s-inhibition") == ()
    assert str(binding).startswith("ioi.yaml (")
    assert says(str(binding), "assumed")


@pytest.mark.parametrize("change", [{"layers": 4}, {"heads": 8}, {"d_model": 64}, {"architecture": "LlamaForCausalLM"}])
def test_another_shape_is_not_bound(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path, {"ioi.yaml": circuit_text(SHAPE, ROLES)})
    assert bind(load_circuits(tmp_path), "ioi", replace(Shape(**SHAPE), **change), []) is None
    assert bind(load_circuits(tmp_path), "induction", Shape(**SHAPE), []) is None


def test_the_circuit_of_the_lineage_is_preferred_and_certain(tmp_path: Path) -> None:
    other, own = "a" * 64, "b" * 64
    write(
        tmp_path,
        {
            "1-any.yaml": circuit_text(SHAPE, {"name-mover": [(0, 0)]}),
            "2-other.yaml": circuit_text(
                SHAPE, {"name-mover": [(0, 1)]}, base=f"base: {{id: x, fingerprint: {other}}}"
            ),
            "3-own.yaml": circuit_text(SHAPE, ROLES, base=f"base: {{id: y, fingerprint: {own}}}"),
        },
    )
    circuits = load_circuits(tmp_path)
    of_baseline = bind(circuits, "ioi", Shape(**SHAPE), ["c" * 64, own])
    assert of_baseline is not None
    assert of_baseline.certain
    assert str(of_baseline) == "3-own.yaml"
    assumed = bind(circuits, "ioi", Shape(**SHAPE), ["c" * 64])
    assert assumed is not None
    assert (assumed.certain, assumed.circuit.file) == (False, tmp_path / "1-any.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (circuit_text(SHAPE, {"name-mover": [(1, 4)]}), ("4:16", "L1H4", "3 layers of 4 heads")),
        (circuit_text(SHAPE, {"name-mover": [(3, 0)]}), ("4:16", "L3H0", "3 layers of 4 heads")),
        (circuit_text(SHAPE, {"name-mover": [(1, 1), (1, 1)]}), ("4:3", "L1H1", "twice")),
        (circuit_text(SHAPE, {"name-mover": []}), ("4:3", "[]", "heads")),
        (circuit_text(SHAPE, {}), ("3:1", "empty", "mapping")),
        (circuit_text(SHAPE, ROLES, base="bsae: {id: x}"), ("3:1", "'bsae'", "'base'")),
        (circuit_text(SHAPE | {"layers": True}, ROLES), ("2:39", "True", "integer")),
        (circuit_text(SHAPE | {"d-model": 1}, ROLES), ("2:73", "'d-model'", "'d_model'")),
        ("circuit: ioi\ncircuit: x\n", ("2:1", "'circuit'", "line 1")),
    ],
)
def test_a_mistake_in_a_circuit_file_is_told_where_it_stands(tmp_path: Path, text: str, said: tuple[str, ...]) -> None:
    file = write(tmp_path, {"x.yaml": text}) / "x.yaml"
    with pytest.raises(SuiteError) as raised:
        load_circuit(file)
    place, *named = said
    lines = [line for line in str(raised.value).splitlines() if line.startswith(f"{file}:{place}: ")]
    assert any(says(line, *named) for line in lines), str(raised.value)


def test_float_heads_are_refused_with_the_reason(tmp_path: Path) -> None:
    text = circuit_text(SHAPE, {}).replace("roles:", "roles: {name-mover: [1.10]}")
    file = write(tmp_path, {"x.yaml": text}) / "x.yaml"
    with pytest.raises(SuiteError, match=r"YAML reads 9\.10 as 9\.1"):
        load_circuit(file)


def test_a_folder_that_is_not_there_holds_no_circuits(tmp_path: Path) -> None:
    assert load_circuits(tmp_path / "circuits") == ()


def test_a_persons_own_circuits_go_before_those_that_came_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shape = load_circuit(packaged_suites() / "circuits" / "embedded.ioi.yaml").fits.model_dump()
    write(tmp_path, {"suites/circuits/z.ioi.yaml": circuit_text(shape, {"name-mover": [(0, 0)]})})
    bound = bind(circuits_beside(packaged_suites() / "ioi.yaml"), "ioi", Shape(**shape), [])
    assert str(bound).startswith("z.ioi.yaml (")
    assert says(str(bound), "assumed")


# -- files that cannot be read ---------------------------------------------------------------------------------------

GOOD = circuit_text(SHAPE, ROLES)
BAD = {
    "half written": GOOD[: GOOD.index("roles") + 30] + " [1",
    "not YAML": "circuit: [ioi\n",
    "empty": "",
    "binary": "\0\0\0",
    "a number for a name": "circuit: 1\n",
    "an unknown key": GOOD.replace("fits", "fist"),
    "heads outside": circuit_text(SHAPE, {"name-mover": [(9, 9)]}),
    "of another circuit": circuit_text(SHAPE, ROLES, name="induction").replace("fits", "fist"),
}
NAMED = {"an unknown key": "ioi", "heads outside": "ioi", "of another circuit": "induction"}


@pytest.mark.parametrize("how", BAD)
def test_a_circuit_file_that_cannot_be_read_hides_no_other(tmp_path: Path, how: str) -> None:
    write(tmp_path, {"a.yaml": BAD[how], "b.yaml": GOOD, "c.yaml": BAD[how]})
    circuits = load_circuits(tmp_path)
    assert [circuit.file for circuit in circuits] == [tmp_path / "b.yaml"]
    assert [unread.file.name for unread in circuits.unread] == ["a.yaml", "c.yaml"]
    assert {unread.circuit for unread in circuits.unread} == {NAMED.get(how)}
    assert all(f"{tmp_path / 'a.yaml'} cannot be read: " in str(unread) for unread in circuits.unread[:1])


def test_a_folder_in_the_place_of_a_circuit_file_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path, {"b.yaml": GOOD, "a.yaml/x": ""})
    assert [len(load_circuits(tmp_path)), len(load_circuits(tmp_path).unread)] == [1, 1]


def test_broken_circuits_beside_a_suite_and_of_ones_own_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"suites/circuits/broken.yaml": "circuit: 1\n", "more/circuits/broken.yaml": "circuit: 1\n"})
    for circuits in (circuits_beside(tmp_path / "other.yaml"), circuits_beside(tmp_path / "suites")):
        assert {one.file.parent for one in circuits if one.file is not None} == {packaged_suites() / "circuits"}
        (unread,) = circuits.unread
        assert says(str(unread), "suites/circuits/broken.yaml", "1:1", "'fits'", "2 more")
    assert len(circuits_beside(tmp_path / "more").unread) == 2


SUITE = """\
suite: {circuit}
circuit: {circuit}
tasks: {{again: {{kind: repeated-tokens, prompts: 48, length: 8}}}}
assertions:
  - {{id: by-role, measure: previous-token-score, heads: {role}, task: again, expect: {{at-most: 0.99}}}}
  - {{id: of-any, measure: previous-token-score, heads: any, task: again, expect: {{at-most: 0.99}}}}
"""


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("how", "workers"), [*((how, 0) for how in BAD), pytest.param("half written", 1, marks=pytest.mark.complete)]
)
@pytest.mark.usefixtures("opened_once")
def test_only_suites_that_need_it_are_told_of_a_circuit_file_that_cannot_be_read(
    pytester: pytest.Pytester, tiny_folder: Path, how: str, workers: int
) -> None:
    write(
        pytester.path,
        {
            "suites/bound.yaml": SUITE.format(circuit="bound", role="name-mover"),
            "suites/ioi.yaml": SUITE.format(circuit="ioi", role="a-role-of-its-own"),
            "suites/circuits/good.yaml": circuit_text(SHAPE, ROLES, name="bound"),
            "suites/circuits/bad.yaml": BAD[how],
        },
    )
    asked = [f"--model={tiny_folder}", *(["-n", "1"] if workers else [])]
    if how == "of another circuit":  # which is known, so that the role is known not to be there
        result = pytester.runpytest_inprocess(*asked)
        result.stdout.fnmatch_lines(["*unknown role 'a-role-of-its-own'*"])
        write(pytester.path, {"suites/ioi.yaml": SUITE.format(circuit="ioi", role="name-mover")})
        result = pytester.runpytest_inprocess(*asked)
        result.assert_outcomes(passed=3, skipped=1)
    else:
        result = pytester.runpytest_inprocess(*asked) if not workers else pytester.runpytest_subprocess(*asked)
        result.assert_outcomes(passed=3, errors=1)
        assert result.ret == 1
        result.stdout.fnmatch_lines(["*1 could not*: *a-role-of-its-own*"])
    text = result.stdout.str()
    assert len(re.findall(r"\bwarning +suites/circuits/bad\.yaml\b", text)) == 1
    assert text.count("left out") == 1
    assert "Traceback" not in text


@pytest.mark.usefixtures("opened_once")
def test_the_python_face_names_the_file_too(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    test = "def test_it(audit):\n    audit.circuit('ours')\n"
    write(pytester.path, {"suites/circuits/bad.yaml": "circuit: [", "tests/test_it.py": test})
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "tests")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*'ours': suites/circuits/bad.yaml *"])


@pytest.mark.usefixtures("opened_once")
def test_diagnose_names_the_file_that_may_hold_the_baselines_circuit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"suites/circuits/bad.yaml": BAD["half written"]})
    asked = ["diagnose", f"--model={tiny_folder}", f"--baseline={tiny_folder}", "--device=cpu"]
    assert main(asked) == 2
    assert says(capsys.readouterr().err, "suites/circuits/bad.yaml", "--circuit=FILE")
    write(tmp_path, {"suites/circuits/bad.yaml": BAD["of another circuit"]})
    main(asked)
    assert "bad.yaml" not in capsys.readouterr().err
