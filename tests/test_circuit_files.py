"""Circuit files: which one is bound to a model, how sure that is, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from suite_texts import circuit_text, write

from circuit_assertions.assertions import SuiteError, bind, load_circuit, load_circuits
from circuit_assertions.assertions.packaged import circuits_beside, packaged_suites
from circuit_assertions.heads import Head

SHAPE: dict[str, object] = {"architecture": "GPT2LMHeadModel", "layers": 3, "heads": 4, "d_model": 32}
ROLES = {"name-mover": [(1, 2), (2, 3)]}


def test_the_circuit_that_fits_by_shape_is_bound_and_said_to_be_assumed(tmp_path: Path) -> None:
    write(tmp_path, {"ioi.yaml": circuit_text(SHAPE, ROLES)})
    binding = bind(load_circuits(tmp_path), "ioi", SHAPE, ["f" * 64])
    assert binding is not None
    assert not binding.certain
    assert binding.heads("name-mover") == (Head(1, 2), Head(2, 3))
    assert binding.heads("s-inhibition") == ()
    assert str(binding) == "ioi.yaml (fits by shape: its lineage is assumed)"


@pytest.mark.parametrize("change", [{"layers": 4}, {"heads": 8}, {"d_model": 64}, {"architecture": "LlamaForCausalLM"}])
def test_another_shape_is_not_bound(tmp_path: Path, change: dict[str, object]) -> None:
    write(tmp_path, {"ioi.yaml": circuit_text(SHAPE, ROLES)})
    assert bind(load_circuits(tmp_path), "ioi", SHAPE | change, []) is None
    assert bind(load_circuits(tmp_path), "induction", SHAPE, []) is None


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
    of_baseline = bind(circuits, "ioi", SHAPE, ["c" * 64, own])
    assert of_baseline is not None
    assert of_baseline.certain
    assert str(of_baseline) == "3-own.yaml"
    assumed = bind(circuits, "ioi", SHAPE, ["c" * 64])
    assert assumed is not None
    assert (assumed.certain, assumed.circuit.file) == (False, tmp_path / "1-any.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (circuit_text(SHAPE, {"name-mover": [(1, 4)]}), "4:16: L1H4 is outside the 3 layers of 4 heads"),
        (circuit_text(SHAPE, {"name-mover": [(3, 0)]}), "4:16: L3H0 is outside the 3 layers of 4 heads"),
        (circuit_text(SHAPE, {"name-mover": [(1, 1), (1, 1)]}), "4:3: L1H1 is listed twice"),
        (circuit_text(SHAPE, {"name-mover": []}), "4:3: [] is no list of heads"),
        (circuit_text(SHAPE, {}), "3:1: is empty where a mapping of keys to values is meant"),
        (circuit_text(SHAPE, ROLES, base="bsae: {id: x}"), "3:1: unknown key 'bsae' (did you mean 'base'?)"),
        (circuit_text(SHAPE | {"layers": True}, ROLES), "2:39: True should be a valid integer"),
        (circuit_text(SHAPE | {"d-model": 1}, ROLES), "2:73: unknown key 'd-model' (did you mean 'd_model'?)"),
        ("circuit: ioi\ncircuit: x\n", "2:1: duplicate key 'circuit', first given in line 1"),
    ],
)
def test_a_mistake_in_a_circuit_file_is_told_where_it_stands(tmp_path: Path, text: str, expected: str) -> None:
    file = write(tmp_path, {"x.yaml": text}) / "x.yaml"
    with pytest.raises(SuiteError) as raised:
        load_circuit(file)
    assert any(line.startswith(f"{file}:{expected}") for line in str(raised.value).splitlines()), str(raised.value)


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
    bound = bind(circuits_beside(packaged_suites() / "ioi.yaml"), "ioi", shape, [])
    assert str(bound) == "z.ioi.yaml (fits by shape: its lineage is assumed)"


def test_a_broken_circuit_of_ones_own_stops_no_suite_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"suites/circuits/broken.yaml": "circuit: 1\n"})
    assert {one.file.parent for one in circuits_beside(tmp_path / "other.yaml") if one.file is not None} == {
        packaged_suites() / "circuits"
    }
    with pytest.raises(SuiteError, match=r"broken\.yaml"):
        circuits_beside(tmp_path / "suites")
