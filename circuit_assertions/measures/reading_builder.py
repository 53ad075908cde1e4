"""One reading in the making: what its measure finds beforehand, its columns pass by pass, and the finished values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from circuit_assertions.components import Component
from circuit_assertions.engine import MeasuringError, Pass
from circuit_assertions.measures.declaring import NOTHING, Asked, Measure, Prepared
from circuit_assertions.measures.replacing import without
from circuit_assertions.measures.shares import Array
from circuit_assertions.measures.sweeping import NotFiniteError, Sweep
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

    def add(self, taken: Pass) -> None:
        """Take what a pass shows."""
        if self.failure is None:
            with self._failing():
                aside = self.operands.get("without")
                shown = without(taken, frozenset(aside)) if aside else taken
                values = self.measure.compute(shown, self._asked).double().cpu().numpy()
                self._columns.update(zip(taken.indices, values, strict=True))

    def finish(self) -> None:
        """Make the reading of what the passes showed."""
        if self.failure is None:
            with self._failing():
                columns = np.stack([self._columns[row] for row in self.rows])
                if not np.isfinite(columns).all():
                    raise NotFiniteError
                self.values = self.measure.finish(columns, self._asked)
                self.beside = self.measure.beside(columns, self._asked)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            with tell_unexpected(f"{self.called} cannot be measured"):
                yield
        except NotFiniteError:
            self.failure = MeasuringError(f"{self.called} gave NaN or infinity: the model is damaged")
        except (MeasuringError, UnexpectedError) as error:
            self.failure = error
