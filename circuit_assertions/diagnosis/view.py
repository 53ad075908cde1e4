"""A task on a checkpoint, seen through all or some of its prompts: what discovery and diagnosis read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.components import Component
from circuit_assertions.diagnosis.errors import DiagnosisError
from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading
from circuit_assertions.measures.figures import Array, Figure
from circuit_assertions.measures.intervals import Level
from circuit_assertions.policy import Policy
from circuit_assertions.request import Request
from circuit_assertions.tasks import PromptSet, Task

__all__ = ["Array", "ByHead", "View", "check_enough"]


@dataclass(frozen=True)
class ByHead:
    """A reading of every head, through a view's prompts."""

    heads: tuple[Head, ...]
    values: Array  # [prompts, heads]
    reading: Reading | None = field(default=None, repr=False, compare=False)

    def of(self, head: Head) -> Array:
        """One head's values [prompts]."""
        column: Array = self.values[:, self.heads.index(head)]
        return column

    def figure(self, head: Head, level: Level) -> Figure:
        """One head's mean and interval, within the limits of the measure."""
        values = self.of(head)
        own = None if self.reading is None else self.reading.interval(values, level)
        return Figure.of_values(values, level) if own is None else Figure(float(values.mean()), own)


@dataclass(frozen=True)
class View:
    """One task on one checkpoint.

    Attributes:
        rows: the prompts that are looked at, by index; None for all. Readings are always taken of all prompts, so that
            views of one task share them.
    """

    audit: Audit
    checkpoint: Checkpoint
    task: Task
    rows: tuple[int, ...] | None = None

    @property
    def policy(self) -> Policy:
        """The thresholds of this run."""
        return self.audit.policy

    @property
    def all_heads(self) -> tuple[Head, ...]:
        """Every head of the checkpoint, in order."""
        return tuple(self.audit.opened(self.checkpoint).all_heads())

    @property
    def is_recorded(self) -> bool:
        """Whether there is only a record of the checkpoint, without weights."""
        recorded = self.audit.recorded
        return recorded is not None and recorded.checkpoint == self.checkpoint

    @property
    def level(self) -> Level:
        """What the figures of one verdict of this run share."""
        return Level.of_figures(self.policy)

    def figure(self, values: Array, together: int = 1) -> Figure:
        """The figure of values [prompts].

        Args:
            together: how many intervals share the level of this run with it.
        """
        return Figure.of_values(values, self.level.among(together))

    def plan(self, measure: str, heads: Sequence[Head] | None = None, **operands: Any) -> None:
        """Announce a reading, so that the next one takes it in the same passes."""
        self.audit.plan(self.checkpoint, [self._request(measure, heads, operands)])

    def reading(self, measure: str, heads: Sequence[Head] | None = None, **operands: Any) -> Reading:
        """The whole reading, of all prompts."""
        return self.audit.read(self._request(measure, heads, operands), self.checkpoint)

    def by_head(self, measure: str, heads: Sequence[Head] | None = None, **operands: Any) -> ByHead:
        """A measure of some heads, or of every head, for this view's prompts."""
        reading = self.reading(measure, heads, **operands)
        return ByHead(reading.heads, self.seen(reading.values), reading)

    def components(self, measure: str, components: Sequence[Component], **operands: Any) -> Array:
        """A measure of components that need not be heads, for this view's prompts [prompts, components]."""
        asked = Request(measure, self.task, tuple(sorted(operands.items())), tuple(components))
        return self.seen(self.audit.read(asked, self.checkpoint).values)

    def by_prompt(self, measure: str, **operands: Any) -> Array:
        """A measure that has no heads, for this view's prompts [prompts]."""
        return self.seen(self.reading(measure, **operands).values)

    def behaviour(self) -> Array:
        """The task's answer metric, for this view's prompts [prompts]."""
        return self.by_prompt(self.task.answer_metric.name)

    def _request(self, measure: str, heads: Sequence[Head] | None, operands: Mapping[str, Any]) -> Request:
        return Request(measure, self.task, tuple(sorted(operands.items())), None if heads is None else tuple(heads))

    def seen(self, values: Array) -> Array:
        """The rows of `values` [prompts, ...] that this view looks at."""
        return values if self.rows is None else values[list(self.rows)]

    def halves(self, split: int = 0) -> tuple[View, View]:
        """Two views of disjoint halves of the prompts, every template shared out between them.

        Args:
            split: which of the random splits.
        """
        first, second = self.audit.prompts(self.task, self.checkpoint).halves(split)
        return replace(self, rows=first), replace(self, rows=second)


def check_enough(prompts: PromptSet, purpose: str, policy: Policy) -> None:
    """Refuse what fewer prompts cannot tell.

    Args:
        purpose: what they are asked for, as in "to find heads by".

    Raises:
        DiagnosisError: if there are too few that differ.
    """
    different, needed = len({prompt.tokens for prompt in prompts.prompts}), policy.fewest_compared_prompts
    if different < needed:
        raise DiagnosisError(
            f"{different} different prompts are too few {purpose}: use at least {needed} (`prompts` or "
            f"`pairs` of the task; with circuit-assertions, --prompts)"
        )
