"""What a release engineer reads: each kind of failure explained, and the audit in a screenful."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from result_cases import explained, line, line_of
from syrupy.assertion import SnapshotAssertion

from circuit_assertions.assertions import Assertion, Judgement, judge
from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.report import summary_lines
from circuit_assertions.results import AuditedModel, CheckpointFacts

Array = NDArray[np.float64]
WAVE: Array = np.sin(np.arange(40.0))  # what prompts differ by, without a random generator
TEXTS = tuple(f"Then, Mary and John went to the {place}. John gave a ring to" for place in ("store", "park", "farm"))
MOVERS = (Head(9, 9), Head(9, 6), Head(10, 0))
AGAIN = "pytest --model tuned/ --baseline base/ 'suites/ioi.yaml::{}'"


def read(measure: str, *columns: Array, heads: Sequence[Head] = (), texts: Sequence[str] = TEXTS) -> Reading:
    spec, values = MEASURES[measure], np.stack(columns, axis=1) if heads else columns[0]
    many = [f"{texts[index % len(texts)]} ({index})" if texts else "" for index in range(len(values))]
    return Reading(measure, spec.unit, spec.reading_kind, values, tuple(heads), {}, many)


def asked(name: str, measure: str, **options: Any) -> Assertion:
    given = {key.replace("_", "-"): value for key, value in options.items()}
    return Assertion.model_validate({"id": name, "measure": measure, "task": "ioi", **given})


def judged(
    assertion: Assertion, reading: Reading, baseline: Reading | None = None, everyone: Reading | None = None
) -> Judgement:
    judgement = judge(reading, assertion.expect, assertion.needed, baseline=baseline, everyone=everyone)
    assert judgement is not None
    return judgement


def told(assertion: Assertion, *readings: Reading | None) -> str:
    judgement = judged(assertion, *readings)  # type: ignore[arg-type]
    return explained(judgement, assertion, AGAIN.format(assertion.id))


PUSHING = asked(
    "name-movers-push-the-right-way",
    "direct-effect",
    heads="name-mover",
    why="a name mover's contribution has vanished or changed its sign",
    expect={"sign": "positive", "retains": "80%"},
)
BEFORE = read("direct-effect", 2.3 + 0.3 * WAVE, 1.5 + 0.3 * WAVE, 0.9 + 0.2 * WAVE, heads=MOVERS)
AFTER = read("direct-effect", -0.87 + 0.3 * WAVE, 1.4 + 0.3 * WAVE, 0.7 + 0.4 * np.roll(WAVE, 5), heads=MOVERS)
MARGIN = asked("prefers-the-indirect-object", "logit-difference", expect={"at-least": 2.0})


def test_a_broken_role(snapshot: SnapshotAssertion) -> None:
    assert told(PUSHING, AFTER, BEFORE) == snapshot


def test_a_broken_role_without_a_baseline(snapshot: SnapshotAssertion) -> None:
    assert told(PUSHING, AFTER) == snapshot


def test_any_head_would_have_done_and_none_did(snapshot: SnapshotAssertion) -> None:
    everyone = [Head(layer, head) for layer in range(4) for head in range(4)]
    columns = [0.02 * index + 0.01 * WAVE for index in range(16)]
    looking = asked(
        "some-head-reads-the-indirect-object",
        "attention",
        heads="any",
        query="end",
        key="indirect-object",
        expect={"at-least": 0.4},
    )
    assert told(looking, read("attention", *columns, heads=everyone)) == snapshot


def test_a_rank_that_is_lost(snapshot: SnapshotAssertion) -> None:
    everyone = [Head(layer, head) for layer in range(2) for head in range(2)]
    columns = [place + 0.1 * WAVE for place in (3.0, 1.0, 2.0, 0.0)]
    scores = read("induction-score", *columns, heads=everyone, texts=())
    first = asked("induction-heads-come-first", "induction-score", heads=["L0H0", "L0H1"], expect={"rank-within": 1})
    judgement = judged(first, scores.only(everyone[:2]), everyone=scores)
    assert explained(judgement, first, AGAIN.format(first.id)) == snapshot


def test_most_prompts_were_to_meet_it(snapshot: SnapshotAssertion) -> None:
    assertion = asked("nearly-always", "logit-difference", expect={"sign": "positive", "mostly": "95%"})
    assert told(assertion, read("logit-difference", 0.5 + WAVE)) == snapshot


def test_too_much_shows_the_highest_prompts() -> None:
    within = asked("within", "logit-difference", expect={"between": [0.0, 1.0]})
    assert "highest prompts" in told(within, read("logit-difference", 3.0 + WAVE))
    assert "lowest prompts" in told(within, read("logit-difference", -3.0 + WAVE))


def test_unresolved(snapshot: SnapshotAssertion) -> None:
    assert told(MARGIN, read("logit-difference", 2.05 + WAVE)) == snapshot


def test_held(snapshot: SnapshotAssertion) -> None:
    assert told(MARGIN, read("logit-difference", 3.0 + WAVE)) == snapshot


def test_the_audit_in_a_screenful(snapshot: SnapshotAssertion) -> None:
    margin = read("logit-difference", 3.0 + WAVE)
    much = asked("keeps-most-of-the-margin", "logit-difference", expect={"retains": "80%"})
    unbound = "no circuit file binds the roles of 'ioi' for LlamaForCausalLM of 5 layers x 8 heads, d_model 64"
    lines = [
        line_of(PUSHING, judged(PUSHING, AFTER, BEFORE)),
        line_of(MARGIN, judged(MARGIN, margin, read("logit-difference", 3.1 + WAVE))),
        line_of(MARGIN, judged(MARGIN, read("logit-difference", 2.05 + WAVE)), "suites/other.yaml"),
        line_of(much, judged(much, read("logit-difference", 9.0 + 3 * WAVE), margin)),
        line("tuned", "suites/ioi.yaml", "name-movers-copy", "SKIPPED", reason=unbound),
        line("tuned", "suites/ioi.yaml", "s-inhibition-reads", "SKIPPED", reason=unbound),
        line("tuned", "suites/other.yaml", "loss-is-low", "ERROR", reason="loss on tuned gave NaN or infinity"),
    ]
    facts = CheckpointFacts(
        checkpoint="tuned",
        fingerprint="0123456789abcdef",
        architecture="GPT2LMHeadModel",
        layers=12,
        heads=12,
        d_model=768,
        dtype="float32",
        device="cpu",
    )
    models = [AuditedModel(model="tuned", facts=facts), AuditedModel(model="never-asked")]
    shown = list(summary_lines(models, lines))
    assert "\n".join(text for text, _ in shown) == snapshot
    verdicts = [outcome for text, outcome in shown if outcome and text.startswith("  ")]
    assert verdicts == ["BROKEN", "HELD", "HELD", "SKIPPED", "SKIPPED", "UNRESOLVED", "ERROR"]
