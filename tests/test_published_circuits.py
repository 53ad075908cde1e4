"""The circuit files of published heads: they bind by shape alone, and say that nothing was verified here."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuit_assertions.assertions import load_circuit
from circuit_assertions.assertions.circuits import bind, everyone_in
from circuit_assertions.shape import Shape

GPT2_SMALL = Shape("GPT2LMHeadModel", 12, 12, 768)
SUITES = Path(__file__).parents[1] / "suites"
FILES = sorted((SUITES / "circuits").glob("gpt2.*.yaml"))


def test_they_are_those_of_gpt2_small_that_were_published() -> None:
    names = ("acronym", "copy-suppression", "greater-than", "induction", "ioi", "successor")
    assert [file.name for file in FILES] == [f"gpt2.{name}.yaml" for name in names]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_head_is_one_of_gpt2_small_and_no_figure_is_claimed(file: Path) -> None:
    circuit = load_circuit(file)
    assert circuit.fits.shape == GPT2_SMALL
    assert circuit.base is not None
    assert circuit.base.fingerprint is None
    assert "not verified here" in (circuit.notes or "").lower()
    assert "arXiv" in (circuit.source or "")
    assert all(GPT2_SMALL.has(head) for head in everyone_in(circuit.roles))
    assert circuit.found is None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_they_bind_by_shape_and_are_not_certain(file: Path) -> None:
    circuit = load_circuit(file)
    bound = bind([circuit], circuit.circuit, GPT2_SMALL, ["a fingerprint"])
    assert bound is not None
    assert not bound.certain
    assert bind([circuit], circuit.circuit, Shape("GPT2LMHeadModel", 24, 16, 1024), ["a fingerprint"]) is None


def test_the_heads_of_greater_than_are_those_of_the_paper() -> None:
    """Hanna et al. 2023, figure 2 and section 4, as in the reference circuit of Conmy et al. 2023."""
    roles = load_circuit(SUITES / "circuits" / "gpt2.greater-than.yaml").roles
    assert {str(head) for head in roles["start-year-mover"]} == {"L5H5", "L6H1", "L6H9", "L7H10", "L8H11", "L9H1"}
    assert {str(head) for head in roles["start-year-reader"]} == {"L0H1", "L0H3", "L0H5"}
