"""`snapshot: {rel: 10%}`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from circuit_assertions.assertions.condition import Condition, Evidence, Told, Use
from circuit_assertions.assertions.kept import TOGETHER, Allowed, Compared, Difference, Within
from circuit_assertions.assertions.verdicts import Finding, Verdict
from circuit_assertions.measures.figures import number, signed

__all__ = ["Snapshot"]

_MOST = 5  # heads that are named beside the mean of all


class Snapshot(Condition[Allowed | str | Compared]):
    """The mean is the one of the snapshot, but for a tolerance; both are of the same prompts.

    The value is what a suite allows. `with_snapshot` puts the comparison in its place before it is judged.
    """

    key: ClassVar[str] = "snapshot"
    value_type: ClassVar[Any] = Within
    description: ClassVar[str] = (
        "how far the mean may differ from the one that `pytest --snapshot-update` kept: {rel: 10%}, {abs: 0.2}, or "
        "`interval` for the interval that was kept"
    )
    order: ClassVar[int] = 80
    exact: ClassVar[bool] = True

    @property
    def within(self) -> Allowed | str:
        """What is allowed."""
        return self.value.within if isinstance(self.value, Compared) else self.value

    def describe(self, beside: tuple[Condition[Any], ...] = ()) -> str:
        what = f"within {self.within}" if isinstance(self.within, Allowed) else "within the interval"
        return f"{what} of the snapshot"

    def judge(self, evidence: Evidence) -> Finding:
        found = self.value
        assert isinstance(found, Compared)  # without a comparison it is left out of what is expected
        named = {one.name for one in found.differences}
        name = str(evidence.component) if evidence.component is not None else TOGETHER if TOGETHER in named else ""
        one = found.of(name)
        if found.written:
            return Finding(Verdict.HELD, self.describe(), "the snapshot was written from this reading")
        read = f"kept {number(one.kept)}{_change(one)}"
        if name == TOGETHER:
            heads = ", ".join(f"{head.name} {signed(head.now - head.kept)}" for head in found.of_heads[:_MOST])
            read += f": {heads}" if heads else ""
        verdict = Verdict.HELD if one.is_within else Verdict.BROKEN
        return Finding(verdict, self.describe(), read, size=one.size)

    def problems(self, use: Use) -> Iterator[Told]:
        if use.spec.compares:
            yield (), f"{use.spec.name} compares checkpoints, and a snapshot is of one: use at-least"
        if isinstance(use.needed, int):
            yield (
                (),
                "a snapshot is of every head, and one unchanged head would be enough here: use `heads: all`, a role, "
                "or `quantifier: mean`",
            )


def _change(one: Difference) -> str:
    """`, -22%`, where the kept mean allows a share."""
    return f", {100 * (one.now - one.kept) / abs(one.kept):+.3g}%" if one.kept else ""
