"""`rank-within: 3`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from circuit_assertions.assertions.condition import Condition, Evidence, Told, Use
from circuit_assertions.assertions.verdicts import Finding, Verdict

__all__ = ["RankWithin"]

_ROUNDING = 1e-12  # means that differ by less than this share of the largest are level


class RankWithin(Condition[int]):
    """The head is one of the highest of all heads.

    Its rank lies between one more than the heads that are certainly above it, and the number of those that are not
    certainly below it, by simultaneous intervals of the differences between means (Mogstad, Romano, Shaikh and Wilhelm,
    Inference for ranks, Rev. Econ. Stud. 91, 2024).
    """

    key: ClassVar[str] = "rank-within"
    value_type: ClassVar[Any] = Annotated[int, Field(ge=1, strict=True)]
    description: ClassVar[str] = (
        "among all heads the head is one of the k highest (of the k lowest with sign: negative)"
    )
    order: ClassVar[int] = 60
    ranks: ClassVar[bool] = True
    own_interval: ClassVar[bool] = True

    def describe(self, beside: tuple[Condition[Any], ...] = ()) -> str:
        return f"rank within {self.value}"

    def judge(self, evidence: Evidence) -> Finding:
        everyone, head = evidence.everyone, evidence.component
        assert everyone is not None
        assert head is not None
        downwards = any(one.ranks_from_below for one in evidence.beside)
        values = -everyone.values if downwards else everyone.values  # [prompts, heads]
        own = everyone.components.index(head)
        leads = np.delete(values, own, axis=1) - values[:, own][:, None]  # of every other head over this one
        tie = _ROUNDING * float(np.abs(values.mean(axis=0)).max())
        lows, highs = evidence.intervals_of(leads).T
        # Heads that are level share their ranks: at best this one is the first of them, at worst the last.
        low, high = 1 + int((lows > tie).sum()), 1 + int((highs >= -tie).sum())
        verdict = Verdict.HELD if high <= self.value else Verdict.BROKEN if low > self.value else Verdict.UNRESOLVED
        read = f"rank {low}" if low == high else f"rank {low} to {high}"
        below = " from below" if downwards else ""
        return Finding(verdict, self.describe(), f"{read} of {len(everyone.components)}{below}")

    def problems(self, use: Use) -> Iterator[Told]:
        if use.spec.joint or not use.spec.by_head:
            yield (), f"{use.spec.name} has no heads to rank"
        elif use.needed == "mean":
            yield (), "a mean over heads has no rank: use `each` or `any`"

    def never_fails_among(self, ranked: int) -> bool:
        return self.value >= ranked
