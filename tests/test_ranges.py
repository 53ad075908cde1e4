"""What a measure can read at all: bounds that can never hold, or never fail, are refused before a model is opened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import HEALTHY, Audited, ioi
from hypothesis import given, settings
from hypothesis import strategies as st
from said import says
from suite_texts import write

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Expectation, SuiteError, Verdict, judge, load_circuits, load_suite
from circuit_assertions.assertions.runner import NotApplicable, PlannedAssertion, SuiteRunner
from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.measures.intervals import interval_of_share
from circuit_assertions.request import Request

CHECKED = [spec for spec in MEASURES.values() if not spec.approximate]
LIMITED = [spec for spec in CHECKED if spec.lowest is not None or spec.highest is not None]
KEYS = {"query": "query: end", "key": "key: subject-2", "receiver": "receiver: {query: name-mover}"}


def line(measure: str, expect: str) -> str:
    """An assertion about a measure with all the operands that it needs."""
    spec = MEASURES[measure]
    task = "again" if "repeat" in spec.needs else "boxes" if "moved-answer" in spec.needs else "ioi"
    needed = [KEYS[key] for key, field in spec.operands.by_key().items() if key in KEYS and field.is_required()]
    heads = ["heads: name-mover"] if spec.by_head or spec.joint else []
    return f"  - {{id: a, measure: {measure}, task: {task}, {', '.join([*heads, *needed, f'expect: {expect}'])}}}"


def told(folder: Path, measure: str, expect: str, prompts: int = 256) -> list[str]:
    """What validate says of a suite with this one assertion, without the file's name."""
    tasks = f"  ioi: {{kind: ioi, prompts: {prompts}}}\n  again: {{kind: repeated-tokens, prompts: {prompts}}}\n"
    tasks += f"  boxes: {{kind: entity-tracking, counterfactual: label, prompts: {prompts}}}\n"
    file = folder / "x.yaml"
    file.write_text(f"suite: x\ncircuit: ioi\ntasks:\n{tasks}assertions:\n{line(measure, expect)}\n")
    try:
        load_suite(file)
    except SuiteError as error:
        return [text.removeprefix(f"{file}:") for text in str(error).splitlines()]
    return []


def test_every_measure_whose_values_are_bounded_says_so() -> None:
    """By its unit: shares of attention and of names, rates, probabilities, losses, absolute gaps, and nothing else."""
    for spec in CHECKED:
        whole = spec.unit in ("share of attention", "share of names", "share of answers")
        whole = whole or spec.unit in ("share of prompts", "probability") or spec.unit.endswith("behaviour")
        signed = spec.name in ("attention-effect", "probability-difference", "pruning-revival", "revival-curve")
        assert (spec.highest == 1) == whole, spec.name
        assert (spec.lowest == -1) == signed, spec.name
        positive = {"loss", "incompleteness", "minimality", "circuit-model-distance"}
        assert (spec.lowest == 0) == ((whole and not signed) or spec.name in positive), spec.name


@pytest.mark.family(main="measure", whole=("attention", "answer-rate", "loss", "logit-difference"), turns=("where",))
@pytest.mark.parametrize("measure", [spec.name for spec in CHECKED])
@pytest.mark.parametrize("where", ["below", "lowest", "inside", "highest", "above"])
def test_bounds_around_the_range(tmp_path: Path, measure: str, where: str) -> None:
    spec = MEASURES[measure]
    low, high = spec.lowest, spec.highest
    middle = ((low if low is not None else -3) + (high if high is not None else 3)) / 2
    bound = {"below": None if low is None else low - 0.5, "lowest": low, "inside": middle, "highest": high,
             "above": None if high is None else high + 0.5}[where]  # fmt: skip
    if bound is None:
        far = -1e6 if where in ("below", "lowest") else 1e6  # there is no limit on this side
        assert [told(tmp_path, measure, f"{{{key}: {far}}}") for key in ("at-least", "at-most")] == [[], []] or (
            spec.lowest is not None and where in ("highest", "above")
        )
        assert told(tmp_path, measure, f"{{between: {sorted((middle, far))}}}") == []
        return
    at_least, at_most = (told(tmp_path, measure, f"{{{key}: {bound}}}") for key in ("at-least", "at-most"))
    expected = {
        "below": ("fail", "hold"),
        "lowest": ("fail", ""),
        "inside": ("", ""),
        "highest": ("", "fail"),
        "above": ("hold", "fail"),
    }[where]
    if spec.lowest is not None and spec.highest is not None and not spec.of_means:
        # of finitely many prompts nothing shows that a mean is exactly at its end
        expected = {
            "lowest": ("fail", "hold"),
            "highest": ("hold", "fail"),
        }.get(where, expected)
    for problems, said in zip((at_least, at_most), expected, strict=True):
        assert len(problems) == bool(said), problems
        assert all(says(problem, said) and problem.startswith("8:") for problem in problems)
        assert all(says(problem, measure) or says(problem, "256 prompts") for problem in problems)


@pytest.mark.parametrize("spec", LIMITED, ids=lambda spec: spec.name)
def test_a_bound_that_is_refused_could_not_have_told_two_models_apart(spec: Any) -> None:
    """Judged on readings all over the range: what is refused gives one verdict always, what is accepted does not."""
    low = -3.0 if spec.lowest is None else spec.lowest
    high = 3.0 if spec.highest is None else spec.highest
    apart = np.tile([0.0, 1e-9], 32)  # readings are never all the same
    levels = np.linspace(low, high, 9)
    readings = [Reading(spec.name, spec.unit, "value", one + (apart if one < high else -apart)) for one in levels]
    for bound in (low - 1, low - 1e-6, low, low + 0.1, (low + high) / 2, high - 0.1, high, high + 1e-6, high + 1):
        for key in ("at-least", "at-most"):
            expect = Expectation.model_validate({key: bound})
            judged = [judge(reading, expect, "each") for reading in readings]
            verdicts = {one.verdict for one in judged if one is not None}
            refused = list(expect.problems(spec, ioi(prompts=64)))
            if refused:
                never = Verdict.HELD if says(refused[0][1], "hold") else Verdict.BROKEN
                assert never not in verdicts
            elif spec.lowest is not None and spec.highest is not None:
                assert {Verdict.HELD, Verdict.BROKEN} <= verdicts


@pytest.mark.parametrize(
    ("measure", "expect", "named"),
    [
        ("answer-rate", "{at-least: 95}", ["answer-rate", "between 0 and 1", "at-least 95", "hold", "0.95 or 95%"]),
        ("attention", "{at-least: 2}", ["at-least 2", "hold", "0.02 or 2%"]),
        ("attention", "{at-least: -1}", ["at-least -1", "fail"]),
        ("attention", "{at-most: 150%}", ["at-most 1.5", "fail"]),
        ("loss", "{at-most: -1}", ["loss", "below 0", "at-most -1", "hold"]),
        ("attention", "{between: [-0.5, 0.5]}", ["-0.5", "outside"]),
        ("attention", "{between: [0.5, 50]}", ["50", "outside", "0.5 or 50%"]),
        ("attention", "{between: [0, 1]}", ["between 0 and 1", "fail"]),
        ("attention", "{sign: positive}", ["`sign: positive`", "fail"]),
        ("attention", "{sign: negative}", ["`sign: negative`", "hold"]),
        ("attention", "{sign: negative, rank-within: 3}", ["`sign: negative`", "hold"]),
        ("attention", "{at-least: 2, mostly: 90%}", ["at-least 2", "hold"]),
        ("attention", "{at-least: {proposed: 90%, otherwise: 95}}", ["at-least 95", "hold"]),
        ("logit-difference", "{at-least: 95%}", ["95%", "share", "logit-difference", "logits"]),
        ("loss", "{between: [5%, 3]}", ["5%", "share", "loss", "nats"]),
        ("logit-difference", "{retains: 120%}", ["'120%'", "100%"]),
        ("attention", "{at-least: 0.5, mostly: 101%}", ["'101%'", "100%"]),
        ("attention", "{at-least: {proposed: 120%}}", ["'120%'", "100%"]),
        ("attention", "{at-least: {otherwise: 0.2}}", ["'proposed'", "missing"]),
        ("attention", "{at-least: {proposed: 80%, else: 0.2}}", ["key 'else'"]),
    ],
)  # fmt: skip
def test_what_is_said_of_it(tmp_path: Path, measure: str, expect: str, named: list[str]) -> None:
    (problem,) = told(tmp_path, measure, expect)
    assert says(problem, *named)
    assert re.match(r"8:\d+: ", problem)


def test_a_bound_out_of_range_is_told_at_its_column(tmp_path: Path) -> None:
    (problem,) = told(tmp_path, "answer-rate", "{at-least: 95}")
    assert problem.startswith("8:55: ")


@pytest.mark.parametrize(
    ("measure", "expect"),
    [
        ("answer-rate", "{at-least: 95%}"),
        ("answer-rate", "{at-least: 0.95}"),
        ("attention", "{between: [10%, 0.9]}"),
        ("attention", "{at-least: {proposed: 80%, otherwise: 40%}}"),
        ("attention", "{at-least: proposed}"),
        ("attention-effect", "{at-least: -5%}"),
        ("attention-effect", "{sign: negative}"),
        ("probability", "{at-most: 5%}"),
        ("faithfulness", "{at-least: 110%}"),
        ("role-stability", "{between: [50%, 150%]}"),
        ("incompleteness", "{at-least: -1, mostly: 50%}"),  # its range is that of means, not of prompts
        ("loss", "{at-most: 1000}"),
        ("logit-difference", "{at-least: -95}"),
    ],
)
def test_what_can_hold_and_can_fail_is_accepted(tmp_path: Path, measure: str, expect: str) -> None:
    assert told(tmp_path, measure, expect) == []


@given(st.floats(0.001, 1), st.integers(2, 2000))
@settings(deadline=None, max_examples=200)
def test_a_share_that_so_few_prompts_cannot_show_is_refused(bound: float, prompts: int) -> None:
    """Judged on a model that is right on all prompts, and on one that is right on none."""
    task = ioi(prompts=prompts)
    spec = MEASURES["answer-rate"]
    for key, rights in (("at-least", 1.0), ("at-most", 0.0)):
        expect = Expectation.model_validate({key: bound})
        best = Reading(spec.name, spec.unit, spec.reading_kind, np.full(prompts, rights))
        judgement = judge(best, expect, "each")
        assert judgement is not None
        never = [message for _, message in expect.problems(spec, task) if says(message, "hold")]
        assert bool(never) == (judgement.verdict is not Verdict.HELD)
    mostly = Expectation.model_validate({"at-least": 0.5, "mostly": bound})
    refused = list(mostly.problems(MEASURES["logit-difference"], task))
    assert bool(refused) == (interval_of_share(np.ones(prompts)).low < bound)


# -- what only the model shows -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize(
    ("said", "expect", "named"),
    [
        ("heads: any", "{rank-within: 20}", ["rank within 20", "fail", "20 to rank"]),
        ("heads: [L1H1]", "{rank-within: 99}", ["rank within 99", "fail", "20 to rank"]),
        ("heads: any, at-least-heads: 21", "{at-least: 0.1}", ["at least 21 heads", "20"]),
        ("heads: name-mover, at-least-heads: 5", "{at-least: 0.1}", ["at least 5 heads", "4"]),
        ("heads: any, layers: [3, 3], at-least-heads: 5", "{at-least: 0.1}", ["at least 5 heads", "4"]),
        ("heads: any, layers: [7, 9]", "{at-least: 0.1}", ["any", "layers 7 to 9"]),
        ("heads: [L1H1]", "{at-least: proposed}", ["circuit file", "bound"]),
    ],
)
def test_what_this_model_cannot_be_asked_is_skipped_with_the_reason(
    tmp_path: Path, said: str, expect: str, named: list[str]
) -> None:
    text = (
        "suite: x\ncircuit: ioi\ntasks:\n  ioi: {kind: ioi, prompts: 8}\nassertions:\n"
        f"  - {{id: a, measure: attention, query: end, key: subject-2, task: ioi, {said}, expect: {expect}}}\n"
    )
    file = write(tmp_path, {"x.yaml": text}) / "x.yaml"
    circuits = load_circuits(Path(__file__).parents[1] / "suites" / "circuits")
    audited, suite = Audited(HEALTHY), load_suite(file, circuits)
    answer = SuiteRunner(audited.audit).judge(
        PlannedAssertion(suite, suite.suite.assertions[0], audited.checkpoint, circuits)
    )
    assert isinstance(answer, NotApplicable)
    assert says(answer.reason, *named)


def test_a_rank_that_cannot_fail_is_left_out_beside_what_can(tmp_path: Path) -> None:
    text = (
        "suite: x\ntasks:\n  ioi: {kind: ioi, prompts: 40}\nassertions:\n"
        "  - {id: a, measure: direct-effect, heads: any, task: ioi, expect: {rank-within: 50, at-least: -1000}}\n"
    )
    file = write(tmp_path, {"x.yaml": text}) / "x.yaml"
    audited, suite = Audited(HEALTHY), load_suite(file)
    answer = SuiteRunner(audited.audit).judge(
        PlannedAssertion(suite, suite.suite.assertions[0], audited.checkpoint, ())
    )
    assert not isinstance(answer, NotApplicable)
    assert answer.verdict is Verdict.HELD
    assert answer.expected == "at least -1000; for any head"
    (left_out,) = answer.not_judged
    assert says(left_out, "rank within 50", "fail", "20 to rank")


def test_heads_that_lie_in_no_layer_that_is_meant_are_refused(tmp_path: Path) -> None:
    """Known without a model, where heads are listed."""
    for said, named in (
        ("heads: [L1H1, L2H2], layers: [3, 4]", ["heads", "layers 3 to 4"]),
        ("heads: [L1H1, L2H2], layers: [2, 4], at-least-heads: 2", ["1 heads", "hold"]),
        ("components: [MLP1, RESID2], layers: [5, 5]", ["components", "layers 5 to 5"]),
    ):
        text = (
            "suite: x\ntasks:\n  ioi: {kind: ioi, prompts: 8}\nassertions:\n"
            f"  - {{id: a, measure: total-effect, {said}, task: ioi, expect: {{sign: positive}}}}\n"
        )
        with pytest.raises(SuiteError) as refused:
            load_suite(write(tmp_path, {"x.yaml": text}) / "x.yaml")
        assert says(refused.value, *named)


# -- in Python ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("opened_once")
def test_a_comparison_beyond_the_range_is_an_error_in_python_too() -> None:
    audited = Audited(HEALTHY)
    rate = audited.audit.read(Request("answer-rate", ioi(prompts=8)), audited.checkpoint)
    with pytest.raises(CircuitAssertionsError, match=r"answer-rate .*\b0 and 1\b.*\b0\.95 or 95%"):
        bool(rate >= 95)
    for spec in LIMITED:
        reading = Reading(spec.name, spec.unit, spec.reading_kind, np.full((8, 1), 0.5), (Head(0, 0),))
        for bound in (spec.lowest, spec.highest):
            if bound is None:
                continue
            beyond = bound + (0.5 if bound == spec.highest else -0.5)
            for compare in (reading.__ge__, reading.__gt__, reading.__le__, reading.__lt__):
                assert compare(bound) in (True, False)
                with pytest.raises(CircuitAssertionsError, match=f"{spec.name} "):
                    compare(beyond)
