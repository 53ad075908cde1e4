"""Suites that speak of components, of positions and of what receivers attend to and write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import Audited, ioi
from result_cases import explained
from said import says
from suite_texts import circuit_text, write
from tiny_models import save_tiny

from circuit_assertions.assertions import SuiteError, load_circuits, load_suite
from circuit_assertions.assertions.runner import NotApplicable, PlannedAssertion, SuiteRunner
from circuit_assertions.assertions.verdicts import Judgement, Verdict
from circuit_assertions.components import Component, Mlp, Residual, all_of
from circuit_assertions.heads import Head
from circuit_assertions.measures import Receiver
from circuit_assertions.plugin.audit_fixture import AuditedCheckpoint
from circuit_assertions.request import Request

IOI = ioi(prompts=48)
MIXED: tuple[Component, ...] = (Mlp(1), Head(0, 2), Mlp(0))
MOVERS = (Head(2, 0), Head(2, 3))


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    return Audited(save_tiny(tmp_path_factory.mktemp("tiny")), "float64")


@pytest.fixture(scope="module")
def face(audited: Audited) -> AuditedCheckpoint:
    return AuditedCheckpoint(SuiteRunner(audited.audit), audited.checkpoint)


HEADER = "suite: x\ncircuit: ioi\ntasks: {ioi: {kind: ioi, prompts: 48}}\nassertions:\n"
QUERY = "measure: attention-effect, query: end, key: subject-2, receiver: {query: [L2H0]}"


def line(said: str, expect: str = "{sign: positive}") -> str:
    return f"  - {{id: a, task: ioi, {said}, expect: {expect}}}"


@pytest.mark.parametrize(
    ("said", "key", "named"),
    [
        (
            "measure: path-effect, components: mlp",
            "components",
            ("'mlp'", "L9H10", "MLP4", "RESID4"),
        ),
        ("measure: path-effect, components: [MLP1, MLP1]", "components", ("MLP1", "twice")),
        ("measure: path-effect, components: []", "components", ("mlps", "residual", "[L9H9")),
        ("measure: path-effect, components: residual", "components", ("path-effect", "the residual stream", "heads")),
        ("measure: direct-effect, components: [L0H1, MLP1]", "components", ("direct-effect", "MLPs", "heads")),
        ("measure: total-effect, heads: all, components: mlps", "components", ("`heads`", "`components`")),
        ("measure: total-effect", "{id", ("total-effect needs `heads:`",)),
        (
            "measure: logit-difference, components: mlps",
            "components",
            ("logit-difference", "the whole model"),
        ),
        ("measure: ablation-effect, components: mlps", "components", ("ablation-effect", "MLPs", "heads")),
        ("measure: total-effect, components: mlps, at: ende", "at:", ("'ende'", "'end'")),
        ("measure: path-effect, components: mlps, at: end", "at:", ("path-effect takes no `at`",)),
        (
            "measure: path-effect, components: mlps, semantics: total, receiver: {query: [L2H0]}",
            "semantics",
            ("total", "no receiver"),
        ),
        (f"{QUERY}, heads: any, semantics: total", "semantics", ("'total'",)),
        ("measure: attention-effect, heads: any, query: end, key: end", "{id", ("attention-effect needs `receiver:`",)),
        (
            "measure: attention-effect, heads: any, query: end, key: end, receiver: logits",
            "receiver",
            ("attention-effect needs `receiver:`",),
        ),
        (
            "measure: attention-effect, heads: any, query: end, key: end, receiver: {value: [L2H0]}",
            "receiver",
            ("no values", "write-effect"),
        ),
        (
            "measure: attention-effect, heads: any, query: end, key: subject-2, receiver: {key: [L2H0], at: end}",
            "receiver",
            ("'subject-2'", "not at 'end'", "`at`"),
        ),
        ("measure: attention-effect, heads: any, key: end, receiver: {query: [L2H0]}", "{id", ("needs `query:`",)),
        (
            "measure: write-effect, heads: any, receiver: {query: [L2H0], at: subject-2}",
            "receiver",
            ("'end'", "not at 'subject-2'"),
        ),
        ("measure: write-effect, heads: any, receiver: {key: [L2H0], at: ende}", "receiver", ("'ende'",)),
        ("measure: pattern-effect, components: mlps", "components", ("pattern-effect", "MLPs", "heads")),
    ],
)
def test_a_mistake_is_told_where_it_stands(tmp_path: Path, said: str, key: str, named: tuple[str, ...]) -> None:
    text = line(said)
    file = write(tmp_path, {"x.yaml": f"{HEADER}{text}\n"}) / "x.yaml"
    with pytest.raises(SuiteError) as raised:
        load_suite(file)
    (problem,) = (told.removeprefix(f"{file}:") for told in str(raised.value).splitlines())
    assert problem.startswith(f"5:{text.index(key) + 1}: ")
    assert says(problem, *named)


def judged(audited: Audited, project: Path, text: str) -> tuple[PlannedAssertion, Judgement | NotApplicable]:
    shape = {"architecture": "GPT2LMHeadModel", "layers": 3, "heads": 4, "d_model": 32}
    files = {"x.yaml": f"{HEADER}{text}\n", "circuits/tiny.yaml": circuit_text(shape, {"name-mover": MOVERS})}
    circuits = load_circuits(write(project, files) / "circuits")
    suite = load_suite(project / "x.yaml", circuits)
    asked = PlannedAssertion(suite, suite.suite.assertions[0], audited.checkpoint, circuits)
    return asked, SuiteRunner(audited.audit).judge(asked)


MOVING: dict[str, Any] = {"receiver": Receiver("q", MOVERS, "end")}
LOOKING: dict[str, Any] = {"query": "end", "key": "subject-2"}


@pytest.mark.parametrize(
    ("said", "measure", "components", "operands"),
    [
        ("measure: path-effect, components: [MLP1, L0H2, MLP0]", "path-effect", MIXED, {}),
        (
            "measure: path-effect, components: mlps, receiver: {query: name-mover}",
            "path-effect",
            (Mlp(0), Mlp(1), Mlp(2)),
            MOVING,
        ),
        ("measure: total-effect, components: mlps, layers: [1, 1], at: end", "total-effect", (Mlp(1),), {"at": "end"}),
        (
            "measure: total-effect, components: residual, at: subject-2",
            "total-effect",
            (Residual(0), Residual(1), Residual(2)),
            {"at": "subject-2"},
        ),
        ("measure: pattern-effect, heads: name-mover, at: end", "pattern-effect", MOVERS, {"at": "end"}),
        ("measure: pattern-effect, components: L0H1", "pattern-effect", (Head(0, 1),), {}),
        (
            "measure: attention-effect, heads: [L0H2], query: end, key: subject-2, receiver: {query: name-mover}",
            "attention-effect",
            (Head(0, 2),),
            MOVING | LOOKING,
        ),
        (
            "measure: attention-effect, components: [MLP1], query: end, key: subject-2, receiver: {key: name-mover}",
            "attention-effect",
            (Mlp(1),),
            {"receiver": Receiver("k", MOVERS, "subject-2")} | LOOKING,
        ),
        (
            "measure: write-effect, components: [MLP1, L0H2, MLP0], receiver: {value: name-mover, at: subject-2}",
            "write-effect",
            MIXED,
            {"receiver": Receiver("v", MOVERS, "subject-2")},
        ),
        (
            "measure: write-effect, heads: [L0H2], receiver: {query: name-mover}, semantics: direct",
            "write-effect",
            (Head(0, 2),),
            MOVING | {"semantics": "direct"},
        ),
    ],
)
def test_a_suite_reads_what_python_reads(
    audited: Audited,
    face: AuditedCheckpoint,
    tmp_path: Path,
    said: str,
    measure: str,
    components: tuple[Component, ...],
    operands: dict[str, Any],
) -> None:
    _, judgement = judged(audited, tmp_path, line(said))
    assert isinstance(judgement, Judgement)
    assert judgement.reading.components == components
    assert np.abs(judgement.reading.values).max() > 1e-5
    in_python = face.measure(measure, task=IOI, components=components, **operands)
    np.testing.assert_array_equal(judgement.reading.values, in_python.values)


def test_ranks_are_among_the_kinds_that_are_listed(audited: Audited, tmp_path: Path) -> None:
    for said, among in {"mlps": 3, "[MLP0, L0H0]": 15, "residual": 3, "[L0H0]": 12}.items():
        asked = f"measure: total-effect, components: {said}"
        _, judgement = judged(audited, tmp_path, line(asked, f"{{rank-within: {among - 1}}}"))
        assert isinstance(judgement, Judgement)
        assert all(f"of {among}" in finding.read for row in judgement.rows for finding in row.findings)
        _, judgement = judged(audited, tmp_path, line(asked, f"{{rank-within: {among}}}"))
        assert isinstance(judgement, NotApplicable)
        assert says(judgement.reason, "never fail", among)


def test_the_best_component_of_a_kind_ranks_first_and_the_worst_does_not(audited: Audited, tmp_path: Path) -> None:
    streams = all_of("mlp", 3, 4)
    request = Request("total-effect", IOI, (), streams)
    means = audited.audit.read(request, audited.checkpoint).values.mean(axis=0)
    for component, verdicts in (
        (streams[int(np.argmax(means))], {Verdict.HELD, Verdict.UNRESOLVED}),
        (streams[int(np.argmin(means))], {Verdict.BROKEN, Verdict.UNRESOLVED}),
    ):
        said = f"measure: total-effect, components: {component}"
        _, judgement = judged(audited, tmp_path, line(said, "{rank-within: 1}"))
        assert isinstance(judgement, Judgement)
        assert judgement.verdict in verdicts


def test_a_failure_names_the_components(audited: Audited, tmp_path: Path) -> None:
    asked, judgement = judged(
        audited, tmp_path, line("measure: total-effect, components: [MLP1, L0H2]", "{at-least: 1000}")
    )
    assert isinstance(judgement, Judgement)
    told = explained(judgement, asked.assertion, "again")
    assert "total-effect of MLP1, L0H2 at least 1000" in told
    assert "MLP1  " in told
    _, mean = judged(
        audited, tmp_path, line("measure: total-effect, components: mlps, quantifier: mean", "{at-least: 9}")
    )
    assert isinstance(mean, Judgement)
    assert [row.name for row in mean.rows] == ["mean of 3 components"]
