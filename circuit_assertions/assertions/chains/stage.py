"""What every kind of stage has: the readings that it takes, how effects are formed, and its name.

A kind of stage is a subclass in a file of its own in `stages/`, which is found there by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictBool

from circuit_assertions.assertions.chains.rules import Rule
from circuit_assertions.heads import Head
from circuit_assertions.tasks.schema import Strict

__all__ = ["Array", "Asked", "Groups", "Stage"]

Array = NDArray[np.float64]
Asked = tuple[str, dict[str, Any]]  # a measure, and its operands
Groups = Mapping[str, tuple[Head, ...]]  # the heads of a role, and those that a stage found, by its name


class Stage(Strict):
    """One step back from the answer: effects on what is looked for, and by which rules their heads get a role."""

    rules: tuple[Rule, ...] = Field((), description="by which heads with an effect get a role; the first that holds")
    mlps: StrictBool = Field(
        False, description="whether MLPs with an effect are listed too; they belong to the circuit and have no role"
    )

    written: ClassVar[str]  # how a chain file writes it
    times: ClassVar[float] = 1.0  # by what the smallest effect that counts is multiplied
    writes_answer: ClassVar[bool] = False  # whether a positive effect here writes the right answer
    last_resort: ClassVar[bool] = False  # whether its effect is listed only for heads that no other stage found
    asleep: ClassVar[bool] = False  # whether its roles are about what heads would do if others were knocked out

    @classmethod
    def recognises(cls, said: Mapping[str, Any]) -> bool:
        """Whether a stage of a chain file is of this kind."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The stage as circuit files and tables name it."""
        raise NotImplementedError

    @property
    def starts_from(self) -> tuple[str, str] | None:
        """The role or earlier stage whose heads must be known, with the key that names it; None: it needs nobody."""
        return None

    @property
    def positions(self) -> frozenset[str]:
        """The positions that the task must label."""
        return frozenset[str]().union(*(rule.attends.positions for rule in self.rules))

    def effect(self, groups: Groups) -> Asked | None:
        """The reading that tells what a head of one of its roles does; None where those it starts from are unknown."""
        raise NotImplementedError

    def readings(self, groups: Groups) -> tuple[Asked, ...]:
        """All readings by which effects are judged; none where those it starts from are unknown."""
        effect = self.effect(groups)
        return () if effect is None else (effect,)

    def effects(self, read: Sequence[Array]) -> Array:
        """The effects [prompts, heads] out of the values of `readings`, each [prompts, heads]."""
        return read[-1]

    def judged(self, heads: tuple[Head, ...], groups: Groups) -> tuple[Head, ...]:
        """Those of all heads whose effects are judged."""
        return heads

    def counts(self, mean: float) -> bool:
        """Whether a head with this mean effect is one of the stage's."""
        return True

    def meanwhile(self, groups: Groups) -> dict[str, Any]:
        """Operands with which attention is read, for a head of one of its roles."""
        return {}

    def said(self) -> dict[str, Any]:
        """The reading of `effect` in the words of a suite."""
        raise NotImplementedError

    def said_meanwhile(self) -> dict[str, Any]:
        """The operands of `meanwhile` in the words of a suite."""
        return {}
