"""Path effects follow the wiring of the reference model, whose weights were set by hand, and find no other path.

A chain of four links decides its answer: previous-token heads tell induction heads which token came before; those and
the duplicate-token heads mark the second subject; s-inhibition heads carry its place to the end; the name movers avoid
it there. Each link is asked for with all heads as senders, so that a path from elsewhere would show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest
from auditing import Audited, ioi
from reference_model import ReferenceModel, build_reference_model, permute_heads

from circuit_assertions.heads import Head
from circuit_assertions.measures import Receiver
from circuit_assertions.request import Request

IOI = ioi(prompts=24)
BACK = "clean-into-counterfactual"
LINKS: Mapping[str, tuple[Literal["q", "k", "v"], str, str]] = {
    "queries of name movers": ("q", "name-mover", "end"),
    "queries of the negative name mover": ("q", "negative-name-mover", "end"),
    "keys of name movers": ("k", "name-mover", "indirect-object"),
    "keys of s-inhibition": ("k", "s-inhibition", "subject-2"),
    "values of s-inhibition": ("v", "s-inhibition", "subject-2"),
    "keys of induction": ("k", "induction", "after-subject-1"),
}


@dataclass
class Stage:
    """The reference model under audit, its heads in some order, and everything that these tests read of it."""

    audited: Audited
    reference: ReferenceModel
    receivers: dict[str, Receiver] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.receivers = {link: Receiver(which, self.heads(role), at) for link, (which, role, at) in LINKS.items()}
        for number, mover in enumerate(self.heads("name-mover")):
            self.receivers[f"queries of name mover {number}"] = Receiver("q", (mover,), "end")
        to_logits: tuple[dict[str, str], ...] = ({}, {"semantics": "direct"}, {"direction": BACK})
        self.audited.plan(*map(self.request, self.receivers), *(self.request(None, **chosen) for chosen in to_logits))

    def heads(self, *roles: str) -> tuple[Head, ...]:
        return tuple(Head(*head) for role in roles for head in self.reference.cast[role])

    def request(self, link: str | None, **operands: object) -> Request:
        if link is not None:
            operands["receiver"] = self.receivers[link]
        return Request("path-effect", IOI, tuple(operands.items()))

    def effects(self, link: str | None, **operands: object) -> Mapping[Head, float]:
        """The mean effect of every head on the logits, or through a link."""
        reading = self.audited.audit.read(self.request(link, **operands), self.audited.checkpoint)
        assert len(reading.heads) == 28
        return dict(zip(reading.heads, reading.values.mean(axis=0).tolist(), strict=True))


@pytest.fixture(
    scope="module",
    params=[pytest.param(None, marks=pytest.mark.complete, id="as-built"), pytest.param(0, id="permuted")],
)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    reference = build_reference_model()
    if request.param is not None:
        reference = permute_heads(reference, request.param)
        assert reference.cast != build_reference_model().cast
    return Stage(Audited(reference.save(tmp_path_factory.mktemp("reference"))), reference)


def those_with_an_effect(effects: Mapping[Head, float]) -> set[Head]:
    """Beyond a twentieth of the largest effect."""
    largest = max(abs(effect) for effect in effects.values())
    return {head for head, effect in effects.items() if abs(effect) > 0.05 * largest}


@pytest.mark.parametrize(
    "operands", [{}, {"semantics": "direct"}, {"direction": BACK}], ids=["through-mlps", "direct", "back"]
)
def test_the_movers_and_nobody_else_write_the_answer(stage: Stage, operands: dict[str, str]) -> None:
    """Backup name movers rest while the name movers work, and what rests writes the same in both runs."""
    effects = stage.effects(None, **operands)
    assert those_with_an_effect(effects) == set(stage.heads("name-mover", "negative-name-mover"))
    assert all(2.0 < effects[head] < 2.3 for head in stage.heads("name-mover"))
    assert all(-1.3 < effects[head] < -1.0 for head in stage.heads("negative-name-mover"))
    assert all(abs(effects[head]) < 0.1 for head in stage.heads("backup-name-mover"))


@pytest.mark.parametrize(
    ("link", "senders", "low", "high"),
    [
        ("queries of name movers", ("s-inhibition",), 1.8, 2.7),
        ("queries of the negative name mover", ("s-inhibition",), -0.6, -0.3),
        ("values of s-inhibition", ("duplicate-token", "induction"), 0.35, 0.55),
        ("keys of s-inhibition", ("duplicate-token", "induction"), 0.9, 1.4),
        ("keys of induction", ("previous-token",), 4.0, 5.6),
    ],
)
def test_a_link_carries_what_its_senders_say_and_nobody_else(
    stage: Stage, link: str, senders: tuple[str, ...], low: float, high: float
) -> None:
    effects = stage.effects(link)
    assert those_with_an_effect(effects) == set(stage.heads(*senders))
    assert all(low < effects[head] < high for head in stage.heads(*senders))


def test_the_name_movers_are_told_nothing_at_the_name_they_read(stage: Stage) -> None:
    assert max(abs(effect) for effect in stage.effects("keys of name movers").values()) < 0.05


def test_nothing_reaches_a_receiver_from_its_own_layer_or_above(stage: Stage) -> None:
    for link, (_, role, _) in LINKS.items():
        last = max(head.layer for head in stage.heads(role))
        later = [abs(effect) for head, effect in stage.effects(link).items() if head.layer >= last]
        assert max(later) < 1e-4, link


def test_each_name_mover_carries_its_share_of_what_all_carry(stage: Stage) -> None:
    """Patched alone, a name mover loses about a third: the answer is shared, and nobody makes up for the others."""
    senders = stage.heads("s-inhibition")
    together = stage.effects("queries of name movers")
    alone = [stage.effects(f"queries of name mover {number}") for number in range(3)]
    for sender in senders:
        shares = [effects[sender] / together[sender] for effects in alone]
        assert all(0.2 < share < 0.5 for share in shares)
        assert 0.8 < sum(shares) < 1.2
