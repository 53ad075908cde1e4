"""`path-effect` and `total-effect` as users ask for them: in Python and in suites, alone and among other measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from auditing import Audited, given, ioi
from said import says
from suite_texts import circuit_text, write
from tiny_models import save_tiny

from circuit_assertions.assertions import SuiteError, load_circuits, load_suite
from circuit_assertions.assertions.runner import NotApplicable, PlannedAssertion, SuiteRunner
from circuit_assertions.assertions.verdicts import Judgement
from circuit_assertions.engine import MeasuringError
from circuit_assertions.engine.patching import Patching
from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading, Receiver
from circuit_assertions.request import Request

IOI = ioi(prompts=12)
MOVERS = (Head(2, 0), Head(2, 3))
INHIBITION = (Head(1, 1), Head(1, 2))
SENDERS = (Head(1, 3), Head(0, 2), Head(2, 3))
BACK = "clean-into-counterfactual"
QUERIES = Receiver("q", MOVERS, "end")
VALUES = Receiver("v", INHIBITION, "subject-2")

ASKED: dict[str, tuple[str, dict[str, Any], Callable[[Patching], torch.Tensor]]] = {
    "logits": ("path-effect", {}, lambda way: way.to_logits(SENDERS, "through-mlps")),
    "logits, direct": ("path-effect", {"semantics": "direct"}, lambda way: way.to_logits(SENDERS, "direct")),
    "logits, back": (
        "path-effect",
        {"direction": BACK, "receiver": "logits"},
        lambda way: way.towards("clean-into-counterfactual").to_logits(SENDERS, "through-mlps"),
    ),
    "queries": ("path-effect", {"receiver": QUERIES}, lambda way: way.to_inputs(SENDERS, *QUERIES, "through-mlps")),
    "values, direct, back": (
        "path-effect",
        {"receiver": VALUES, "semantics": "direct", "direction": BACK},
        lambda way: way.towards("clean-into-counterfactual").to_inputs(SENDERS, *VALUES, "direct"),
    ),
    "total": ("total-effect", {}, lambda way: way.total(SENDERS)),
    "total, back": (
        "total-effect",
        {"direction": BACK},
        lambda way: way.towards("clean-into-counterfactual").total(SENDERS),
    ),
}
OTHERS = (
    Request("attention", IOI, (("query", "end"), ("key", "subject-2"))),
    Request("logit-difference", IOI),
    Request("answer-rate", IOI),
    Request("probability", IOI),
    Request("loss", IOI),
    Request("direct-effect", IOI),
    Request("copy-score", IOI),
    Request("negative-copy-score", IOI),
    Request("copy-in-context", IOI, (("at", "indirect-object"),)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def audited(folder: Path) -> Audited:
    return Audited(folder, "float64")


@pytest.fixture
def fresh(folder: Path) -> Audited:
    return Audited(folder, "float64")


def assert_same(one: Any, other: Any) -> None:
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("asked", ASKED)
def test_a_reading_is_patching_prompt_by_prompt(audited: Audited, asked: str) -> None:
    measure, operands, patched = ASKED[asked]
    reading = audited.read(measure, IOI, *SENDERS, **operands)
    model, prompts = audited.audit.model(audited.checkpoint), audited.audit.prompts(IOI, audited.checkpoint)
    expected = np.empty((len(prompts), len(SENDERS)))
    for indices, batch in prompts.batches(len(prompts)):
        expected[list(indices)] = patched(Patching.of(model, batch)).T.numpy()
    assert reading.heads == SENDERS
    assert np.abs(expected).max() > 1e-3
    assert_same(reading.values, expected)


def test_what_is_left_out_is_the_default_and_costs_no_second_pass(fresh: Audited) -> None:
    spelled = {"receiver": "logits", "semantics": "through-mlps", "direction": "counterfactual-into-clean"}
    first = fresh.read("path-effect", IOI, **spelled)
    bridge = fresh.audit.model(fresh.checkpoint).bridge
    bridge.run_with_hooks = None  # whoever runs the model now fails
    again = fresh.read("path-effect", IOI)
    np.testing.assert_array_equal(again.values, first.values)
    assert again.settings["operands"] == first.settings["operands"] == spelled


def test_a_reading_says_which_path_it_is_about(audited: Audited) -> None:
    reading = audited.read("path-effect", IOI, *SENDERS, receiver=VALUES, semantics="direct", direction=BACK)
    assert reading.settings["operands"] == {
        "receiver": "value of L1H1, L1H2 at subject-2",
        "semantics": "direct",
        "direction": "clean-into-counterfactual",
    }


def test_a_head_above_the_receivers_has_no_effect_on_them(audited: Audited) -> None:
    reading = audited.read("path-effect", IOI, receiver=VALUES)
    reached = {head for head in reading.heads if np.abs(reading.of_head(head)).max() > 1e-9}
    assert {head.layer for head in reached} == {0}


@pytest.mark.complete
def test_other_measures_read_the_same_beside_path_effects(folder: Path, fresh: Audited) -> None:
    """The clean run that patching keeps replaces the ordinary pass for everybody."""
    effects = [Request(measure, IOI, tuple(operands.items())) for measure, operands, _ in ASKED.values()]
    fresh.plan(*effects, *OTHERS)
    for request in (*OTHERS, *effects):
        together = fresh.audit.read(request, fresh.checkpoint)
        alone = Audited(folder, "float64")
        assert_same(together.values, alone.audit.read(request, alone.checkpoint).values)


def test_a_batch_is_run_once_clean_and_once_counterfactual_whatever_is_asked(fresh: Audited) -> None:
    effects = [Request(measure, IOI, tuple(operands.items())) for measure, operands, _ in ASKED.values()]
    fresh.plan(*effects, *OTHERS)
    ran: list[tuple[int, ...]] = []
    block = fresh.audit.model(fresh.checkpoint).bridge.blocks[0]
    block.register_forward_pre_hook(lambda _, inputs: ran.append(tuple(inputs[0].shape[:2])))
    for request in (*effects, *OTHERS):
        fresh.audit.read(request, fresh.checkpoint)
    prompts = fresh.audit.prompts(IOI, fresh.checkpoint)
    batches = [(len(batch), len(batch[0].tokens)) for _, batch in prompts.batches(len(prompts))]
    assert len(batches) > 1
    assert ran == [batch for batch in batches for _ in range(2)]


@pytest.mark.parametrize("outside", [Head(3, 0), Head(1, 4)])
def test_a_receiver_outside_the_model_is_an_error_and_takes_nobody_with_it(fresh: Audited, outside: Head) -> None:
    beyond = Request("path-effect", IOI, (("receiver", Receiver("q", (Head(1, 0), outside), "end")),))
    fresh.plan(beyond, Request("path-effect", IOI))
    with pytest.raises(MeasuringError, match=rf"\b{outside}\b.*\b3 layers of 4\b"):
        fresh.audit.read(beyond, fresh.checkpoint)
    assert np.abs(fresh.read("path-effect", IOI).values).max() > 1e-3


@pytest.mark.parametrize("measure", ["path-effect", "total-effect"])
def test_a_task_without_counterfactuals_has_no_effects(audited: Audited, measure: str) -> None:
    task = given({"clean": "Then, Mary gave it to", "right": "John", "wrong": "a"})
    with pytest.raises(MeasuringError, match=rf"{measure} .*\bcounterfactual\b"):
        audited.read(measure, task)


HEADER = """\
suite: x
circuit: ioi
tasks:
  ioi: {kind: ioi, prompts: 12}
  own: {kind: prompts, pairs: [{clean: a b, right: c, wrong: d}]}
assertions:
"""


def assertion(said: str) -> str:
    return f"  - {{id: a, {said}, expect: {{sign: positive}}}}"


PATH = "measure: path-effect, task: ioi, heads: s-inhibition, "


@pytest.mark.parametrize(
    ("said", "key", "named"),
    [
        (f"{PATH}receiver: {{query: name-movr}}", "receiver", ["'name-movr'", "'name-mover'"]),
        (f"{PATH}receiver: {{query: name-mover, at: ende}}", "receiver", ["'ende'", "'end'"]),
        (f"{PATH}receiver: {{query: name-mover, at: [end]}}", "at:", ["list", "word"]),
        (f"{PATH}receiver: logit", "receiver", ["'logit'", "logits"]),
        (f"{PATH}receiver: [L1H1]", "receiver", ["['L1H1']", "logits"]),
        (f"{PATH}receiver: {{query: any}}", "query", ["'any'", "heads"]),
        (f"{PATH}receiver: {{key: all}}", "key", ["'all'", "heads"]),
        (f"{PATH}receiver: {{query: induction, key: induction}}", "receiver", ["query", "key", "value"]),
        (f"{PATH}receiver: {{at: end}}", "receiver", ["query", "key", "value"]),
        (f"{PATH}receiver: {{query: 9.10}}", "query", ["9.1", "9.10"]),
        (f"{PATH}receiver: {{value: [L1H1, L1H1]}}", "value", ["L1H1", "twice"]),
        (f"{PATH}receiver: {{value: []}}", "value", ["[]", "heads"]),
        (f"{PATH}receiver: {{query: name-mover, of: end}}", "of:", ["'of'", "at, key, query", "value"]),
        (f"{PATH}semantics: through-mlp", "semantics", ["'through-mlp'", "'through-mlps'"]),
        (f"{PATH}direction: clean-to-counterfactual", "direction", ["'clean-into-counterfactual'"]),
        (f"{PATH}query: end", "query", ["path-effect", "`query`"]),
        ("measure: logit-difference, task: ioi, receiver: logits", "receiver", ["logit-difference", "`receiver`"]),
        ("measure: total-effect, task: ioi, heads: any, receiver: logits", "receiver", ["total-effect", "`receiver`"]),
        (
            "measure: total-effect, task: ioi, heads: any, semantics: direct",
            "semantics",
            ["total-effect", "`semantics`"],
        ),
        ("measure: direct-effect, task: ioi, heads: any, direction: x", "direction", ["direct-effect", "`direction`"]),
        ("measure: path-effect, task: ioi", "{id", ["path-effect", "`heads:`"]),
        ("measure: path-effect, task: own, heads: any", "measure", ["path-effect", "counterfactual"]),
        ("measure: total-effect, task: own, heads: any", "measure", ["total-effect", "counterfactual"]),
    ],
)
def test_a_mistaken_path_is_told_where_it_stands(tmp_path: Path, said: str, key: str, named: list[str]) -> None:
    line = assertion(said)
    (problem,) = problems(tmp_path, line)
    assert problem.startswith(f"7:{line.index(key) + 1}: ")
    assert says(problem, *named)


def problems(folder: Path, line: str) -> list[str]:
    """What is wrong with a suite of this one assertion, in line 7; the suite's path is taken off."""
    file = write(folder, {"x.yaml": f"{HEADER}{line}\n"}) / "x.yaml"
    with pytest.raises(SuiteError) as raised:
        load_suite(file)
    return [told.removeprefix(f"{file}:") for told in str(raised.value).splitlines()]


def test_a_receiver_with_two_mistakes_has_both_told(tmp_path: Path) -> None:
    line = assertion(f"{PATH}receiver: {{quary: name-mover}}")
    empty, unknown = problems(tmp_path, line)
    assert empty.startswith(f"7:{line.index('receiver') + 1}: ")
    assert says(empty, "query", "key", "value")
    assert unknown.startswith(f"7:{line.index('quary') + 1}: ")
    assert says(unknown, "'quary'", "'query'")


ROLES = {"name-mover": MOVERS, "s-inhibition": INHIBITION}
SHAPE = {"architecture": "GPT2LMHeadModel", "layers": 3, "heads": 4, "d_model": 32}


def judged(audited: Audited, project: Path, said: str) -> Judgement | NotApplicable:
    """The judgement of one assertion, with the circuit files of the project."""
    write(project, {"suites/x.yaml": f"{HEADER}{assertion(said)}\n"})
    circuits = load_circuits(project / "suites" / "circuits")
    suite = load_suite(project / "suites" / "x.yaml", circuits)
    asked = PlannedAssertion(suite, suite.suite.assertions[0], audited.checkpoint, circuits)
    runner = SuiteRunner(audited.audit)
    runner.announce([asked])
    return runner.judge(asked)


def reading_of(audited: Audited, project: Path, said: str) -> Reading:
    judgement = judged(audited, project, said)
    assert isinstance(judgement, Judgement)
    return judgement.reading


@pytest.mark.parametrize(
    ("said", "operands"),
    [
        ("receiver: logits", {}),
        ("receiver: {query: name-mover, at: end}", {"receiver": QUERIES}),
        ("receiver: {query: name-mover}", {"receiver": QUERIES}),
        ("receiver: {query: [L2H0, [2, 3]]}, semantics: direct", {"receiver": QUERIES, "semantics": "direct"}),
        (f"receiver: {{query: name-mover}}, direction: {BACK}", {"receiver": QUERIES, "direction": BACK}),
    ],
)
def test_a_suite_reads_what_python_reads(audited: Audited, tmp_path: Path, said: str, operands: dict[str, Any]) -> None:
    write(tmp_path, {"suites/circuits/tiny.yaml": circuit_text(SHAPE, ROLES)})
    reading = reading_of(audited, tmp_path, PATH + said)
    assert reading.heads == INHIBITION
    assert_same(reading.values, audited.read("path-effect", IOI, *INHIBITION, **operands).values)
    assert np.abs(reading.values).max() > 1e-3


def test_a_receiving_role_that_the_circuit_has_not_is_not_asked(audited: Audited, tmp_path: Path) -> None:
    write(tmp_path, {"suites/circuits/tiny.yaml": circuit_text(SHAPE, {"s-inhibition": INHIBITION})})
    said = judged(audited, tmp_path, PATH + "receiver: {query: name-mover, at: end}")
    assert isinstance(said, NotApplicable)
    assert says(said.reason, "name-mover", "tiny.yaml")


def test_a_receiving_role_that_no_circuit_binds_is_not_asked(audited: Audited, tmp_path: Path) -> None:
    said = judged(audited, tmp_path, "measure: path-effect, task: ioi, heads: any, receiver: {query: name-mover}")
    assert isinstance(said, NotApplicable)
    assert says(said.reason, "circuit file", "'ioi'")


def test_receivers_are_spelled_out_whole_however_many_they_are() -> None:
    """What a reading says of its receiver tells it from readings of others: nothing may hide behind `and 2 more`."""
    one = tuple(Head(0, head) for head in range(10))
    other = (*one[:9], Head(1, 0))
    assert str(Receiver("q", one, "end")) != str(Receiver("q", other, "end"))
