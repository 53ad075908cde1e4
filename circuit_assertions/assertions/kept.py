"""Readings that are kept as snapshots, and how another reading of the same prompts may differ from them.

Both readings are of the very same prompts. So their means are compared as they are: no other prompts are spoken of, and
there is no error of sampling in the question whether this reading has changed.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.spelling import Number, Share
from circuit_assertions.measures.intervals import ALONE, Interval
from circuit_assertions.measures.reading import Reading
from circuit_assertions.measures.tolerances import NO_TOLERANCE, Setting, Tolerances, setting_of, tolerance_between
from circuit_assertions.tasks.schema import Strict

__all__ = ["TOGETHER", "Allowed", "Compared", "Difference", "KeptReading", "SnapshotError", "Within", "compared"]

TOGETHER = "mean"  # the column of all heads together, where they are judged together
_DIGITS = 7  # significant ones: those of float32
_ROUNDING = 1e-5  # of a kept mean: what sums in another order, or on another machine, leave of float32


class SnapshotError(CircuitAssertionsError):
    """A reading cannot be compared with its snapshot, or there is none."""


class Allowed(Strict):
    """By how much a mean may differ from the one that was kept; the wider of the two, if both are given."""

    rel: Share | None = Field(None, description="share of the kept mean: 10%")
    abs: Number | None = Field(None, description="in the unit of the measure")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.rel is None and self.abs is None:
            raise ValueError("give `rel:` (a share of the kept mean), `abs:` (in the unit of the measure), or both")
        if self.abs is not None and self.abs <= 0:
            raise ValueError("`abs:` must be above 0")
        return self

    def __str__(self) -> str:
        rel = "" if self.rel is None else f"{100 * self.rel:g}%"
        return " or ".join(filter(None, (rel, "" if self.abs is None else f"{self.abs:g}")))


def _tag(value: Any) -> str:
    return "interval" if isinstance(value, str) else "allowed"


Within = Annotated[
    Annotated[Allowed, Tag("allowed")] | Annotated[Literal["interval"], Tag("interval")], Discriminator(_tag)
]


class KeptColumn(NamedTuple):
    """What was read of one head (or of the whole model), the interval that of all columns together."""

    mean: float
    low: float
    high: float


class KeptReading(BaseModel):
    """A reading as a snapshot keeps it.

    Attributes:
        model: the fingerprint of what was read; a later checkpoint has another, which is no difference.
        tokens: the hash of the prompts' tokens, which must be the same.
        columns: by the names of heads, and `mean` where they are judged together; empty for the whole model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    measure: str
    unit: str
    operands: dict[str, str]
    task: dict[str, Any]
    prompts: int
    tokens: str
    model: str
    dtype: str
    device: str
    columns: dict[str, KeptColumn]

    @classmethod
    def of(cls, reading: Reading, together: bool = False) -> Self:
        """A reading as it would be kept.

        Args:
            together: whether its heads are judged together.
        """
        named = {"" if one is None else str(one): (values, interval) for one, values, interval in _columns(reading)}
        if together and reading.components:
            mean = reading.values.mean(axis=1)
            named[TOGETHER] = (mean, reading.interval(mean, ALONE))
        columns = {
            name: KeptColumn(*(_short(float(value)) for value in (values.mean(), *interval)))
            for name, (values, interval) in named.items()
        }
        model, setting = reading.settings.get("model", {}), setting_of(reading) or Setting("", "")
        return cls(
            measure=reading.measure,
            unit=reading.unit,
            operands={key: str(value) for key, value in sorted(reading.settings.get("operands", {}).items())},
            task=json.loads(json.dumps(reading.settings.get("task", {}), default=str)),
            prompts=reading.prompts,
            tokens=reading.settings.get("token_hash", ""),
            model=model.get("fingerprint", "")[:12],
            dtype=setting.dtype,
            device=setting.device,
            columns=columns,
        )

    @property
    def setting(self) -> Setting | None:
        """The setting that it was read under; None where it records none."""
        return Setting(self.dtype, self.device) if self.dtype else None

    def text(self) -> str:
        """JSON with one line for each key and each head, so that differences of two versions are those of heads."""
        plain = self.model_dump()
        columns = plain.pop("columns")
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in plain.items()]
        heads = ",\n".join(f"    {json.dumps(name)}: {json.dumps(list(value))}" for name, value in columns.items())
        return "\n".join(["{", *lines, '  "columns": {', heads, "  }", "}", ""])

    @classmethod
    def read(cls, text: str, file: str) -> Self:
        """The reading of a snapshot file.

        Raises:
            SnapshotError: if it is damaged.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(map(str, problem["loc"]))
            raise SnapshotError(
                f"{file} is not a snapshot of a reading ({where or 'the file'}: {problem['msg']}): remove it, and "
                "write it again with --snapshot-update"
            ) from error


@dataclass(frozen=True)
class Difference:
    """A head beside its snapshot.

    Attributes:
        allowed: the lowest and the highest mean that count as unchanged.
    """

    name: str
    now: float
    kept: float
    allowed: Interval

    @property
    def is_within(self) -> bool:
        """Whether it counts as unchanged."""
        return self.allowed.low <= self.now <= self.allowed.high

    @property
    def size(self) -> float:
        """By how much it differs, in the unit of the measure."""
        return abs(self.now - self.kept)


@dataclass(frozen=True)
class Compared:
    """A reading that was compared with its snapshot.

    Attributes:
        within: what was allowed.
        differences: by column; the largest first.
        written: whether the snapshot was written in this run, from this reading.
    """

    within: Allowed | str
    differences: tuple[Difference, ...]
    written: bool = False

    def of(self, name: str) -> Difference:
        """The difference of one column."""
        return next(one for one in self.differences if one.name == name)

    @property
    def of_heads(self) -> tuple[Difference, ...]:
        """Those of single heads, the largest first."""
        return tuple(one for one in self.differences if one.name not in ("", TOGETHER))


def compared(
    now: KeptReading, kept: KeptReading, within: Allowed | str, tolerances: Tolerances | None = None
) -> Compared:
    """Compare a reading with its snapshot.

    Args:
        tolerances: of readings that were taken under different settings.

    Raises:
        SnapshotError: if they are not of the same measure, operands, prompts and heads.
        IncomparableError: if they were read under different settings, and there is no tolerance between these.
    """
    for what in ("measure", "operands", "tokens"):
        if getattr(now, what) != getattr(kept, what):
            shown = "prompts" if what == "tokens" else what
            raise SnapshotError(f"the snapshot is of other {shown}{_both(now, kept, what)}")
    if set(now.columns) != set(kept.columns):
        listed = ", ".join(name or "the model" for name in kept.columns)
        raise SnapshotError(f"the snapshot is of other heads: {listed}; now {', '.join(now.columns)} are read")
    tolerance = tolerance_between(now.measure, now.setting, kept.setting, tolerances)
    extra = 0.0 if tolerance is NO_TOLERANCE else tolerance.mean
    found = [
        Difference(name, column.mean, kept.columns[name].mean, _allowed(kept.columns[name], within, extra))
        for name, column in now.columns.items()
    ]
    return Compared(within, tuple(sorted(found, key=lambda one: (-one.size, one.name))))


def _both(now: KeptReading, kept: KeptReading, what: str) -> str:
    if what != "tokens":
        return f" ({getattr(kept, what)}; now {getattr(now, what)})"
    changed = {key for key in {*now.task, *kept.task} if now.task.get(key) != kept.task.get(key)}
    told = ", ".join(f"{key}: {kept.task.get(key)}, now {now.task.get(key)}" for key in sorted(changed))
    return f" ({told})" if told else " (the task is the same, and the tokens differ: another tokenizer?)"


def _allowed(kept: KeptColumn, within: Allowed | str, extra: float) -> Interval:
    room = extra + _ROUNDING * abs(kept.mean)
    if not isinstance(within, Allowed):
        return Interval(kept.low - room, kept.high + room)
    wide = max((within.rel or 0.0) * abs(kept.mean), within.abs or 0.0) + room
    return Interval(kept.mean - wide, kept.mean + wide)


def _columns(reading: Reading) -> list[tuple[Any, Any, Interval]]:
    return [(one, np.asarray(values), interval) for one, values, interval in reading.judged_columns()]


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else value
