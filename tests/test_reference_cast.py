"""The measures find the cast of the reference model, whose weights were set by hand, and nobody else.

What is said of a trained model nobody can check; here every head's role is known, also after the heads have changed
their places. Position 0 is where a head of this model rests that has nothing to read, and no default prompt has a name
there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from auditing import Audited, ioi, repeated
from reference_model import ReferenceModel, build_reference_model, permute_heads

from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading
from circuit_assertions.measures.intervals import Level

IOI = ioi(prompts=30)  # every template in both orders
REPEATED = repeated(prompts=8)
SCORES = {
    "previous-token-score": "previous-token",
    "duplicate-token-score": "duplicate-token",
    "induction-score": "induction",
}


@dataclass
class Stage:
    """The reference model under audit, its heads in some order."""

    audited: Audited
    reference: ReferenceModel

    def heads(self, *roles: str) -> set[Head]:
        return {Head(*head) for role in roles for head in self.reference.cast[role]}

    def idle(self) -> set[Head]:
        layout = self.audited.audit.model(self.audited.checkpoint).layout
        return set(layout.all_heads()) - self.heads(*self.reference.cast)


@pytest.fixture(scope="module", params=[None, 0, 1], ids=["as-built", "permuted-0", "permuted-1"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    reference = build_reference_model()
    if request.param is not None:
        reference = permute_heads(reference, request.param)
    return Stage(Audited(reference.save(tmp_path_factory.mktemp("reference"))), reference)


def means(reading: Reading) -> dict[Head, float]:
    return dict(zip(reading.heads, reading.values.mean(axis=0).tolist(), strict=True))


@pytest.mark.sample(4)
@pytest.mark.parametrize(("measure", "role"), SCORES.items())
def test_scores_on_repeated_tokens(stage: Stage, measure: str, role: str) -> None:
    for head, score in means(stage.audited.read(measure, REPEATED)).items():
        assert score >= 0.9 if head in stage.heads(role) else score < 0.4, head


def test_s_inhibition_reads_the_second_subject(stage: Stage) -> None:
    looked = means(stage.audited.read("attention", IOI, query="end", key="subject-2"))
    assert {head for head, share in looked.items() if share >= 0.8} == stage.heads("s-inhibition")
    writers = stage.heads(*stage.reference.cast) - stage.heads("s-inhibition")
    assert max(looked[head] for head in writers) < 0.4


def test_movers_read_the_indirect_object(stage: Stage) -> None:
    looked = means(stage.audited.read("attention", IOI, query="end", key="indirect-object"))
    assert {head for head, share in looked.items() if share >= 0.8} == stage.heads("name-mover", "negative-name-mover")


@pytest.mark.sample(1)
def test_those_that_copy(stage: Stage) -> None:
    copying = means(stage.audited.read("copy-score", IOI))
    negative = means(stage.audited.read("negative-copy-score", IOI))
    assert {head for head, score in copying.items() if score >= 0.95} == stage.heads(
        "name-mover", "backup-name-mover", "induction"
    )
    assert {head for head, score in negative.items() if score >= 0.95} == stage.heads("negative-name-mover")
    rest = stage.idle() | stage.heads("previous-token", "duplicate-token", "s-inhibition")
    assert max(max(copying[head], negative[head]) for head in rest) < 0.4


@pytest.mark.sample(1)
def test_those_that_push_the_answer(stage: Stage) -> None:
    reading = stage.audited.read("direct-effect", IOI)
    intervals = {head: reading.interval(reading.of_head(head), Level.of_figures()) for head in reading.heads}
    assert {head for head, interval in intervals.items() if interval.low > 0.5} == stage.heads("name-mover")
    assert {head for head, interval in intervals.items() if interval.high < -0.5} == stage.heads("negative-name-mover")
    others = stage.idle() | stage.heads("previous-token", "duplicate-token", "s-inhibition")
    assert max(abs(float(reading.of_head(head).mean())) for head in others) < 0.05


def test_name_movers_alone_pass_every_test_of_a_name_mover(stage: Stage) -> None:
    looked = means(stage.audited.read("attention", IOI, query="end", key="indirect-object"))
    copying = means(stage.audited.read("copy-score", IOI))
    effect = means(stage.audited.read("direct-effect", IOI))
    found = {head for head in looked if looked[head] >= 0.8 and copying[head] >= 0.95 and effect[head] > 0}
    assert found == stage.heads("name-mover")


def test_the_model_answers(stage: Stage) -> None:
    assert stage.audited.read("answer-rate", IOI).mean == 1.0
    assert stage.audited.read("logit-difference", IOI).values.min() > 3.0
    targets = stage.audited.read("probability", REPEATED)
    assert np.all(targets.values > 0.1)
