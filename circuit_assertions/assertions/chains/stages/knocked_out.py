"""A stage of what heads gain when those of a role are knocked out: it finds their backups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from circuit_assertions.assertions.chains.stage import Array, Asked, Groups, Stage
from circuit_assertions.heads import Head

__all__ = ["KnockedOut"]

_KEY = "knocked-out"


class KnockedOut(Stage):
    """Not a path: what the direct effects of the other heads gain when the heads of a role are knocked out."""

    knocked_out: str = Field(description="the role that is knocked out")

    written: ClassVar[str] = f"{_KEY}: ROLE"
    asleep: ClassVar[bool] = True

    @classmethod
    def recognises(cls, said: Mapping[str, Any]) -> bool:
        return _KEY in said

    @property
    def name(self) -> str:
        return f"{self.knocked_out} knocked out"

    @property
    def starts_from(self) -> tuple[str, str]:
        return self.knocked_out, _KEY

    def effect(self, groups: Groups) -> Asked | None:
        without = self.meanwhile(groups)
        return ("direct-effect", without) if without["without"] else None

    def readings(self, groups: Groups) -> tuple[Asked, ...]:
        effect = self.effect(groups)
        return () if effect is None else (("direct-effect", {}), effect)

    def effects(self, read: Sequence[Array]) -> Array:
        before, after = read
        return after - before

    def judged(self, heads: tuple[Head, ...], groups: Groups) -> tuple[Head, ...]:
        return tuple(head for head in heads if head not in groups[self.knocked_out])

    def counts(self, mean: float) -> bool:
        return mean > 0  # a head that does less is no backup

    def meanwhile(self, groups: Groups) -> dict[str, Any]:
        return {"without": groups.get(self.knocked_out, ())}

    def said(self) -> dict[str, Any]:
        return {"measure": "direct-effect", **self.said_meanwhile()}

    def said_meanwhile(self) -> dict[str, Any]:
        return {"without": self.knocked_out}
