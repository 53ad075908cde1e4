"""The result of the `mutate` verb: what a suite noticed of damage to a model, and what it did not."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from circuit_assertions.results.base import Part, Result
from circuit_assertions.results.values import CheckpointFacts, Figure

__all__ = [
    "AssertionTested",
    "Found",
    "KindCount",
    "LeftOut",
    "MutantResult",
    "MutationResult",
    "NotMade",
    "Score",
]

Found = Literal["caught", "unresolved", "survived", "equivalent", "quiet"]


class MutantResult(Part):
    """One mutant, and what the suite's assertions made of it.

    Attributes:
        name: its kind and what it changes: `negate L3H2`.
        damage: whether the suite must notice it; otherwise it is a harmless control.
        outcomes: by assertion: HELD, BROKEN, UNRESOLVED, SKIPPED or ERROR.
        reasons: why an assertion was skipped, or could not be judged.
        behaviour: the share of the undamaged model's answer metric that it keeps, by task. A task is missing if the
            undamaged model does not do it.
        moved: how far it moves an assertion's reading: the largest change of a mean, as a share of the largest mean of
            the undamaged model's reading. An assertion whose two readings cannot be compared is missing.
        found: `caught`, if an assertion is BROKEN; else `unresolved`, if one is UNRESOLVED; else, of damage,
            `equivalent` or `survived`, and of a control `quiet`.
    """

    name: str
    kind: str
    components: tuple[str, ...]
    damage: bool
    outcomes: dict[str, str]
    reasons: dict[str, str] = Field(default_factory=dict)
    behaviour: dict[str, Figure] = Field(default_factory=dict)
    moved: dict[str, float] = Field(default_factory=dict)
    found: Found


class NotMade(Part):
    """A mutant that this model cannot have, with the reason."""

    name: str
    kind: str
    reason: str


class LeftOut(Part):
    """An assertion that mutants are not tested with, because it does not hold on the undamaged model or is waived."""

    name: str
    outcome: str
    reason: str


class Score(Part):
    """How many of some mutants were caught.

    Attributes:
        share: caught / mutants, with Clopper and Pearson's 95 % interval; None where there are no mutants.
    """

    caught: int
    mutants: int
    share: Figure | None


class KindCount(Part):
    """The mutants of one kind, by what was found of them."""

    kind: str
    damage: bool
    help: str
    made: int
    caught: int
    unresolved: int
    survived: int
    equivalent: int


class AssertionTested(Part):
    """One assertion.

    Attributes:
        caught: the damaging mutants on which it is BROKEN, and `unresolved`, those on which it is UNRESOLVED.
        alone: those of `caught` that no other assertion caught.
        controls: the harmless controls on which it is BROKEN.
        reached: by kind of damage, the largest change of its reading, as a share; only kinds that change it by more
            than `negligible`, and so could break it.
    """

    name: str
    measure: str
    caught: tuple[str, ...]
    alone: tuple[str, ...]
    unresolved: tuple[str, ...]
    controls: tuple[str, ...]
    reached: dict[str, float]


class MutationResult(Result):
    """A mutation test of suites on one model.

    Attributes:
        circuits: the circuit files that bound the suites' roles.
        heads: those that were damaged, and why they are these.
        strength: standard deviation of noise, in that of the weights that it is added to.
        negligible: damage is equivalent if no assertion notices it, it changes no task's answer metric by more than
            this share, and no reading of an assertion by more than this share.
        left_out: the assertions that were not tested.
        score: of all damaging mutants. `without_equivalent`: of those that are not equivalent. `with_unresolved`: of
            all, where UNRESOLVED counts as caught, as in a gate with --circuit-unresolved=fail.
        controls: of the harmless controls; caught ones are false alarms.
        never_failed: the assertions that no damage breaks.
    """

    kind: Literal["mutation"] = "mutation"
    model: CheckpointFacts
    suites: tuple[str, ...]
    circuits: tuple[str, ...]
    heads: tuple[str, ...]
    heads_from: str
    seed: int
    strength: float
    negligible: float
    score: Score
    without_equivalent: Score
    with_unresolved: Score
    controls: Score
    kinds: tuple[KindCount, ...]
    assertions: tuple[AssertionTested, ...]
    never_failed: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    mutants: tuple[MutantResult, ...]
    not_made: tuple[NotMade, ...]
