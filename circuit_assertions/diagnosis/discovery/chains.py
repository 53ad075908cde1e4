"""What is looked for in which order: the chain of stages by which a circuit is followed back from the answer.

The chains are the papers' own (Wang et al. 2022, section 3; Olsson et al. 2022), as data. Each stage looks for heads
with an effect on one receiver; a rule says by which function such a head is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from circuit_assertions.tasks import END, Task

__all__ = ["LOOKS", "Anywhere", "Chain", "Inputs", "KnockOut", "Logits", "Look", "Rule", "Score", "Stage", "chain_for"]

# What makes a function: weaker than the published values (attention .5 and more, copying above 95 %), and far from what
# heads show that do something else (copying below 20 % on average).
LOOKS = 0.1  # least attention to the position, which must also be more than to each of the others
COPIES = 0.75
SCORES = 0.3  # least score on repeated random tokens


@dataclass(frozen=True)
class Logits:
    """Paths to the logits."""

    def __str__(self) -> str:
        return "logits"


@dataclass(frozen=True)
class Inputs:
    """Paths to the queries, keys or values, at a position, of the heads that an earlier stage found."""

    which: Literal["q", "k", "v"]
    of: str
    at: str

    def __str__(self) -> str:
        return f"{ {'q': 'queries', 'k': 'keys', 'v': 'values'}[self.which] } of {self.of} at {self.at}"


@dataclass(frozen=True)
class KnockOut:
    """Not a path: what a head's direct effect gains when the heads of a role are knocked out."""

    of: str

    def __str__(self) -> str:
        return f"{self.of} knocked out"


@dataclass(frozen=True)
class Anywhere:
    """All paths: what is lost when the head's own output is the counterfactual's and everything after it is live.

    The last resort: it finds the sources of heads that no stage could name.
    """

    def __str__(self) -> str:
        return "the answer, by any path"


@dataclass(frozen=True)
class Look:
    """Attention from one position to another, and to which others it must be more."""

    query: str
    key: str
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """A score that a head must reach; `repeated` for those of random tokens."""

    measure: str
    least: float
    repeated: bool = False


@dataclass(frozen=True)
class Rule:
    """By what a head of a role is known, beside its effect on the stage's receiver."""

    role: str
    look: Look
    scores: tuple[Score, ...] = ()
    sign: Literal[1, -1] = 1


@dataclass(frozen=True)
class Stage:
    """One step back from the answer."""

    to: Logits | Inputs | KnockOut | Anywhere
    rules: tuple[Rule, ...] = ()

    @property
    def times(self) -> float:
        """By what the smallest effect that counts is multiplied: by any path, early heads have some effect on all."""
        return 5.0 if isinstance(self.to, Anywhere) else 1.0

    @property
    def name(self) -> str:
        """The stage as files and tables name it."""
        return str(self.to)


@dataclass(frozen=True)
class Chain:
    """All stages for one kind of task.

    Attributes:
        circuit: what suites call the circuit.
        alone: rules that are worth telling even where the model cannot do the task: by function alone, as candidates.
    """

    circuit: str
    stages: tuple[Stage, ...]
    alone: tuple[Rule, ...] = ()


_NAMES = ("indirect-object", "subject-1", "subject-2")


def _over(key: str, *others: str) -> tuple[str, ...]:
    return tuple(other for other in others if other != key)


_MOVER = Look(END, "indirect-object", _over("indirect-object", *_NAMES))
_PREVIOUS_IN_IOI = Rule(
    "previous-token",
    Look("after-subject-1", "subject-1"),
    (Score("previous-token-score", SCORES, repeated=True),),
)
_IOI = Chain(
    "ioi",
    (
        Stage(
            Logits(),
            (
                Rule("name-mover", _MOVER, (Score("copy-score", COPIES),)),
                Rule("negative-name-mover", _MOVER, (Score("negative-copy-score", COPIES),), sign=-1),
            ),
        ),
        Stage(
            Inputs("q", "name-mover", END),
            (Rule("s-inhibition", Look(END, "subject-2", _over("subject-2", *_NAMES))),),
        ),
        Stage(
            Inputs("v", "s-inhibition", "subject-2"),
            (
                Rule(
                    "duplicate-token",
                    Look("subject-2", "subject-1", ("after-subject-1", "indirect-object")),
                    (Score("duplicate-token-score", SCORES, repeated=True),),
                ),
                Rule(
                    "induction",
                    Look("subject-2", "after-subject-1", ("subject-1", "indirect-object")),
                    (Score("induction-score", SCORES, repeated=True),),
                ),
            ),
        ),
        Stage(Inputs("k", "induction", "after-subject-1"), (_PREVIOUS_IN_IOI,)),
        Stage(Anywhere(), (_PREVIOUS_IN_IOI,)),
        Stage(KnockOut("name-mover"), (Rule("backup-name-mover", _MOVER, (Score("copy-score", COPIES),)),)),
    ),
)

_PREVIOUS = Rule("previous-token", Look("after-earlier", "earlier"), (Score("previous-token-score", SCORES),))
_REPEATED = Chain(
    "induction",
    (
        Stage(
            Logits(),
            (Rule("induction", Look(END, "after-earlier", ("earlier",)), (Score("induction-score", SCORES),)),),
        ),
        Stage(Inputs("k", "induction", "after-earlier"), (_PREVIOUS,)),
        Stage(Anywhere()),
    ),
    alone=(_PREVIOUS,),
)

_CHAINS: Mapping[str, Chain] = {chain.circuit: chain for chain in (_IOI, _REPEATED)}


def chain_for(task: Task, name: str) -> Chain:
    """The chain that a task's kind names; for kinds without one, a chain without roles, called `name`."""
    plain = Chain(task.circuit or name, (Stage(Logits()), Stage(Inputs("q", "logits", END)), Stage(Anywhere())))
    return _CHAINS.get(task.circuit, plain)
