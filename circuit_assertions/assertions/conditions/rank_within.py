"""`rank-within: 3`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from circuit_assertions.assertions.condition import Condition, Evidence, Told, Use
from circuit_assertions.assertions.verdicts import Finding, Verdict
from circuit_assertions.measures.reading import CONFIDENCE, bootstrap_means

__all__ = ["RankWithin"]

_ROUNDING = 1e-12  # means that differ by less than this share of the largest are level


class RankWithin(Condition[int]):
    """The head is one of the highest of all heads in 97.5 % of resamples."""

    key: ClassVar[str] = "rank-within"
    value_type: ClassVar[Any] = Annotated[int, Field(ge=1, strict=True)]
    description: ClassVar[str] = (
        "among all heads the head is one of the k highest (of the k lowest with sign: negative)"
    )
    order: ClassVar[int] = 60
    ranks: ClassVar[bool] = True

    def describe(self, beside: tuple[Condition[Any], ...] = ()) -> str:
        return f"rank within {self.value}"

    def judge(self, evidence: Evidence) -> Finding:
        everyone, head = evidence.everyone, evidence.component
        assert everyone is not None
        assert head is not None
        downwards = any(one.ranks_from_below for one in evidence.beside)
        means = bootstrap_means(-everyone.values if downwards else everyone.values)  # [resamples, heads]
        lead = means - means[:, everyone.components.index(head)][:, None]  # of every head over this one
        tie = _ROUNDING * float(np.abs(means).max())
        # Heads that are level share their ranks: at best this one is the first of them, at worst the last.
        first, last = 1 + (lead > tie).sum(axis=1), (lead >= -tie).sum(axis=1)  # [resamples]
        tail = 100 * (1 - CONFIDENCE) / 2
        low = int(np.percentile(first, tail, method="nearest"))
        high = int(np.percentile(last, 100 - tail, method="nearest"))
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
