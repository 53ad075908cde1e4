"""Components by name, and measures read of them in Python: MLPs and the residual stream beside heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from auditing import Audited, ioi
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import save_tiny

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.components import Component, Mlp, Residual, all_of, kind_of, parse_component
from circuit_assertions.engine import MeasuringError
from circuit_assertions.heads import Head, HeadError
from circuit_assertions.plugin.audit_fixture import AuditedCheckpoint
from circuit_assertions.request import Request

IOI = ioi(prompts=8)
MIXED: tuple[Component, ...] = (Mlp(1), Head(0, 2), Mlp(0))
LAYER = st.integers(0, 999)


@given(st.one_of(st.builds(Head, LAYER, LAYER), st.builds(Mlp, LAYER), st.builds(Residual, LAYER)))
def test_a_component_reads_back_as_it_prints(component: Component) -> None:
    assert parse_component(str(component)) == component
    assert parse_component(component) is component


@pytest.mark.parametrize("wrong", ["MLP", "mlp4", "MLP-1", "RESID", "L9", "MLP4H0", 4, None, ["MLP4"], 9.1])
def test_what_names_no_component_is_refused_with_what_to_write(wrong: object) -> None:
    with pytest.raises(HeadError, match=r"L9H10, MLP4 or RESID4|9\.10 as 9\.1"):
        parse_component(wrong)


def test_every_component_of_a_kind() -> None:
    assert all_of("head", 2, 2) == (Head(0, 0), Head(0, 1), Head(1, 0), Head(1, 1))
    assert all_of("mlp", 2, 9) == (Mlp(0), Mlp(1))
    assert all_of("residual", 2, 9) == (Residual(0), Residual(1))
    assert [kind_of(one) for one in (Head(0, 0), Mlp(0), Residual(0))] == ["head", "mlp", "residual"]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    return Audited(save_tiny(tmp_path_factory.mktemp("tiny")), "float64")


@pytest.fixture(scope="module")
def face(audited: Audited) -> AuditedCheckpoint:
    return AuditedCheckpoint(SuiteRunner(audited.audit), audited.checkpoint)


def read(audited: Audited, measure: str, *components: Component, **operands: Any) -> Any:
    request = Request(measure, IOI, tuple(operands.items()), components)
    return audited.audit.read(request, audited.checkpoint)


def test_a_reading_has_a_column_for_each_component(audited: Audited) -> None:
    together = read(audited, "path-effect", *MIXED)
    assert together.components == MIXED
    assert together.heads == (Head(0, 2),)
    for component in MIXED:
        np.testing.assert_array_equal(together.of_head(component), read(audited, "path-effect", component).values[:, 0])
    assert np.abs(together.values).min(axis=0).max() > 0


def test_total_semantics_by_name_are_total_effects(audited: Audited) -> None:
    for direction in ("counterfactual-into-clean", "clean-into-counterfactual"):
        named = read(audited, "path-effect", *MIXED, semantics="total", direction=direction)
        total = read(audited, "total-effect", *MIXED, direction=direction)
        np.testing.assert_array_equal(named.values, total.values)


def test_the_whole_other_run_loses_the_whole_difference(audited: Audited) -> None:
    lost = read(audited, "total-effect", Residual(0), Residual(2)).values
    back = read(audited, "total-effect", Residual(0), direction="clean-into-counterfactual").values
    np.testing.assert_allclose(lost[:, 0], lost[:, 1], rtol=1e-9)
    np.testing.assert_allclose(lost[:, 0], back[:, 0], rtol=1e-9)


@pytest.mark.parametrize(
    ("beyond", "called"), [(Mlp(3), "MLP3"), (Residual(3), "RESID3"), (Head(3, 0), "head L3H0"), (Head(0, 4), "head")]
)
def test_a_component_beyond_the_model_is_refused(audited: Audited, beyond: Component, called: str) -> None:
    with pytest.raises(MeasuringError, match=f"has no {called}.*3 layers of 4 heads"):
        read(audited, "total-effect", beyond)


@pytest.mark.parametrize(
    ("measure", "component", "message"),
    [
        ("direct-effect", Mlp(0), "direct-effect .*MLPs.*heads$"),
        ("path-effect", Residual(0), "path-effect .*the residual stream.*heads, MLPs"),
        ("pattern-effect", Mlp(0), "pattern-effect .*MLPs.*heads$"),
    ],
)
def test_a_measure_says_which_kinds_it_reads(
    audited: Audited, face: AuditedCheckpoint, measure: str, component: Component, message: str
) -> None:
    with pytest.raises(MeasuringError, match=message):
        read(audited, measure, component)
    with pytest.raises(CircuitAssertionsError, match=f"components: {message}"):
        face.measure(measure, task=IOI, components=[str(component)])


def test_python_reads_what_suites_read(audited: Audited, face: AuditedCheckpoint) -> None:
    assert face.measure("path-effect", task=IOI, components="mlps").components == (Mlp(0), Mlp(1), Mlp(2))
    assert face.measure("total-effect", task=IOI, components="residual", at="end").components == all_of(
        "residual", 3, 4
    )
    named = face.measure("total-effect", task=IOI, components=["MLP1", "L0H2", Mlp(0)])
    np.testing.assert_array_equal(named.values, read(audited, "total-effect", *MIXED).values)
    assert face.measure("total-effect", task=IOI, components="RESID1").components == (Residual(1),)
    assert face.measure("total-effect", task=IOI).components == all_of("head", 3, 4)
    for options, message in (
        ({"components": "mlps", "heads": ["L0H0"]}, "`heads`.*`components`"),
        ({"components": "mlp"}, "'mlp'"),
        ({"components": []}, "no head"),
    ):
        with pytest.raises(CircuitAssertionsError, match=message):
            face.measure("total-effect", task=IOI, **options)
    with pytest.raises(CircuitAssertionsError, match=r"components: loss .*whole model"):
        face.measure("loss", task=IOI, components="mlps")
