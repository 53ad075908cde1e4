"""Races: effects are read on more and more prompts, and heads whose effect is surely too small leave on the way.

A head leaves at a look when its interval lies inside of the smallest effect that counts, either way. All intervals of
all looks hold together with a part of the error of the discovery (`policy.exit_share`), by Bonferroni's correction, so
that this part is the chance that any head whose true effect is large enough leaves. What is read of the heads that stay
is what would be read without a race: the same prompts, each once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from circuit_assertions.assertions.chains import Chain, Stage
from circuit_assertions.assertions.chains.stage import Asked
from circuit_assertions.diagnosis import levels
from circuit_assertions.diagnosis.view import ByHead, View
from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading
from circuit_assertions.measures.intervals import Level, intervals_of_means
from circuit_assertions.request import Request
from circuit_assertions.tasks import PromptSet

__all__ = ["Race", "looks_of"]

_FIRST = 16  # prompts of the first look: enough for most heads, which do nothing


@dataclass
class Race:
    """The races of one search, on all prompts of a view.

    Attributes:
        looks: the prompts that each look adds, by index; a single look where a race would not pay.
        stayed: by reading, the heads that no race of it has sent away, for searches on parts of the same prompts.
    """

    chain: Chain
    view: View
    looks: tuple[tuple[int, ...], ...]
    stayed: dict[str, tuple[Head, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, chain: Chain, view: View, pays: bool | None = None) -> Race:
        """The races of a search on a view.

        Args:
            pays: whether there are races at all; None for wherever they save time.
        """
        prompts = view.audit.prompts(view.task, view.checkpoint)
        if pays is None:
            pays = len(view.all_heads) >= levels.RACED_FROM
        return cls(chain, view, looks_of(prompts) if pays else (tuple(range(len(prompts))),))

    @property
    def runs(self) -> bool:
        """Whether any head can leave."""
        return len(self.looks) > 1

    def asks(self, stage: Stage, reads: Sequence[Asked], view: View) -> list[tuple[Asked, tuple[Head, ...] | None]]:
        """What is read at a stage through a view without a race, each with the heads that it is read of.

        Args:
            reads: the readings of the stage; None for the heads stands for all of them.
        """
        if not self._is_raced(reads):
            return [(asked, None) for asked in reads]
        return [(asked, self.stayed[stage.name]) for asked in reads if self.stayed.get(stage.name) and view.rows]

    def readings(self, stage: Stage, reads: Sequence[Asked], view: View, floor: float) -> list[ByHead]:
        """The readings of a stage, through a view, of the heads whose effects may reach the floor.

        Args:
            floor: the smallest effect that counts, in the unit of the measure.
        """
        if not self._is_raced(reads):
            return [view.by_head(measure, **operands) for measure, operands in reads]
        measure, operands = reads[0]
        if view.rows is None or stage.name not in self.stayed:
            found = self._run(measure, operands, floor)
            if view.rows is None:
                self.stayed[stage.name] = found.heads
            return [replace(found, values=view.seen(found.values))]
        heads = self.stayed[stage.name]
        return [view.by_head(measure, heads, **operands) if heads else ByHead((), np.empty((len(view.rows), 0)))]

    def _is_raced(self, reads: Sequence[Asked]) -> bool:
        """Whether heads may leave: not where an effect is a difference of readings, or its prompts depend on others."""
        return self.runs and len(reads) == 1 and not reads[0][1].get("without")

    def _run(self, measure: str, operands: Mapping[str, Any], floor: float) -> ByHead:
        """A reading on all prompts, of the heads that stay."""
        audit, checkpoint = self.view.audit, self.view.checkpoint
        everyone = Request(measure, self.view.task, tuple(sorted(operands.items())))
        heads = self.view.all_heads
        if audit.has(everyone, checkpoint):
            known = audit.read(everyone, checkpoint)
            return ByHead(known.heads, known.values, known)
        level = levels.of_exits(self.view.policy, self.chain, len(heads), len(self.looks) - 1)
        parts: list[Reading] = []
        for rows in self.looks:
            if parts:
                heads = _staying(parts, heads, floor, level)
            if not heads:
                return ByHead((), np.empty((sum(map(len, self.looks)), 0)))
            part = audit.read(replace(everyone, heads=heads, rows=rows), checkpoint)
            parts = [*(one.only(heads) for one in parts), part]
        reading = self._together(parts)
        audit.remember(everyone, checkpoint, reading)
        return ByHead(reading.heads, reading.values, reading)

    def _together(self, parts: Sequence[Reading]) -> Reading:
        """One reading of all prompts, in their order, out of those of the looks."""
        order = np.argsort([row for rows in self.looks for row in rows])
        joined = replace(
            parts[0],
            values=np.concatenate([part.values for part in parts]),
            texts=[text for part in parts for text in part.texts],
            templates=[template for part in parts for template in part.templates],
            hashes=tuple(one for part in parts for one in part.hashes),
        )
        prompts = self.view.audit.prompts(self.view.task, self.view.checkpoint)
        settings = {**joined.settings, "token_hash": prompts.token_hash, "balance": prompts.balance}
        return replace(joined.of_prompts(order.tolist()), settings=settings)


def looks_of(prompts: PromptSet) -> tuple[tuple[int, ...], ...]:
    """The prompts that each look adds, by index: 16, then as many again as there were, the templates taking turns."""
    order = prompts.taking_turns()
    ends = [_FIRST]
    while 2 * ends[-1] < len(order):
        ends.append(2 * ends[-1])
    ends = [end for end in ends if 2 * end <= len(order)]  # a last look of a few prompts would not pay
    return tuple(order[start:end] for start, end in zip([0, *ends], [*ends, len(order)], strict=True))


def _staying(parts: Sequence[Reading], heads: tuple[Head, ...], floor: float, level: Level) -> tuple[Head, ...]:
    """The heads whose interval on the prompts so far reaches the floor on either side."""
    values = np.concatenate([part.values for part in parts])  # [prompts, heads]
    low, high = intervals_of_means(values, level).T
    return tuple(head for head, stays in zip(heads, (low <= -floor) | (high >= floor), strict=True) if stays)
