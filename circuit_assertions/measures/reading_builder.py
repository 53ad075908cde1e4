"""One reading in the making: what its measure finds beforehand, its columns pass by pass, and the finished values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from circuit_assertions.components import Component
from circuit_assertions.engine import MeasuringError, Model, Pass, Wanted
from circuit_assertions.measures.declaring import NOTHING, Asked, Measure, Prepared
from circuit_assertions.measures.operands import spelled_operands
from circuit_assertions.measures.reading import Reading
from circuit_assertions.measures.replacing import without
from circuit_assertions.measures.shares import Array
from circuit_assertions.measures.sweeping import KNOCKOUT, NotFiniteError, Sweep
from circuit_assertions.tasks import PromptSet, Task
from circuit_assertions.unexpected import UnexpectedError, tell_unexpected

__all__ = ["ReadingBuilder"]


@dataclass
class ReadingBuilder:
    """What is taken of one measure, step by step: `prepare`, `add` every pass, `finish`.

    Attributes:
        called: what is read from what, for errors.
        prompts: how many prompts the passes will show.
        failure: why it cannot be taken. One that fails takes no other with it.
        rows: indices of the prompts that the reading is of, known once prepared.
        values: the finished reading [rows] or [rows, heads], and what is shown `beside` it [rows].
    """

    called: str
    measure: Measure
    heads: Sequence[Component]
    operands: Mapping[str, Any]
    prompts: int
    failure: MeasuringError | UnexpectedError | None = None
    rows: tuple[int, ...] = ()
    prepared: Prepared = NOTHING
    values: Array = field(default_factory=lambda: np.empty(0))
    beside: Mapping[str, Array] = field(default_factory=dict)
    _columns: dict[int, Array] = field(default_factory=dict)
    _asked: Asked[Any] = field(init=False)

    def __post_init__(self) -> None:
        given = {key: value for key, value in self.operands.items() if value is not None}
        self._asked = Asked(self.heads, self.measure.operands.model_validate(given))

    def prepare(self, sweep: Sweep) -> None:
        """Let the measure search, where it does."""
        with self._failing():
            self.prepared = self.measure.prepare(sweep, self._asked)
            self._asked = replace(self._asked, prepared=self.prepared.values)
            self.rows = sweep.to_read if self.prepared.searched else tuple(range(self.prompts))

    @property
    def wanted(self) -> Wanted:
        """What a pass must keep for it."""
        own = Wanted.of(self.measure.wants, self.operands.get("at"))
        return own | KNOCKOUT if self.operands.get("without") else own

    @property
    def _continues(self) -> bool:
        """Whether what is taken of a prompt does not depend on the others."""
        return not (self.measure.searches or self.wanted.whole_templates)

    @property
    def alone(self) -> bool:
        """Whether the finished value of a prompt is the same whichever other prompts are read."""
        return self._continues and not self.measure.finishes

    def begin_with(self, earlier: ReadingBuilder) -> bool:
        """Take over what was taken of the first prompts, unless a prompt's values depend on the others.

        They do where a measure looks at all of them first, or takes means over a template.
        """
        if not self._continues or not set(self.heads) <= set(earlier.heads):
            return False
        if list(self.heads) == list(earlier.heads):
            self._columns.update(earlier._columns)
            return True
        if not self.measure.by_head or self.measure.finishes:
            return False
        places = [list(earlier.heads).index(head) for head in self.heads]
        self._columns.update({row: values[places] for row, values in earlier._columns.items()})
        return True

    def add(self, taken: Pass, first: int = 0) -> None:
        """Take what a pass shows.

        Args:
            first: the index of the first prompt of the passes.
        """
        if self.failure is None:
            with self._failing():
                aside = self.operands.get("without")
                shown = without(taken, frozenset(aside)) if aside else taken
                values = self.measure.compute(shown, self._asked).double().cpu().numpy()
                self._columns.update(zip((first + index for index in taken.indices), values, strict=True))

    def finish(self) -> None:
        """Make the reading of what the passes showed."""
        if self.failure is None:
            with self._failing():
                columns = np.stack([self._columns[row] for row in self.rows])
                if not np.isfinite(columns).all():
                    raise NotFiniteError
                self.values = self.measure.finish(columns, self._asked)
                self.beside = self.measure.beside(columns, self._asked)

    def reading(self, task: Task, model: Model, prompts: PromptSet) -> Reading:
        """The finished reading."""
        settings: Mapping[str, Any] = {
            "task": dict(prompts.settings),
            "operands": spelled_operands(self.operands),
            "found": dict(self.prepared.found),
            "token_hash": prompts.token_hash,
            "balance": prompts.balance,
            "model": model.identity(),
            **({"approximate": True} if self.measure.approximate else {}),
        }
        asked = [prompts.prompts[row] for row in self.rows]
        return Reading(
            self.measure.name,
            self.measure.unit_on(task),
            self.measure.reading_kind,
            self.values,
            tuple(self.heads),
            settings,
            [prompt.text for prompt in asked],
            [prompt.template for prompt in asked],
            self.beside,
            self.measure.rounding_on(task),
            [prompt.hash for prompt in asked],
            self.alone,
        )

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            with tell_unexpected(f"{self.called} cannot be measured"):
                yield
        except NotFiniteError:
            self.failure = MeasuringError(f"{self.called} gave NaN or infinity: the model is damaged")
        except (MeasuringError, UnexpectedError) as error:
            self.failure = error
