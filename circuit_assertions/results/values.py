"""The parts that results of several kinds have: figures, readings, and facts about checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from circuit_assertions.measures import Reading as TakenReading
from circuit_assertions.measures.figures import Figure as MeasuredFigure
from circuit_assertions.measures.intervals import Level
from circuit_assertions.results.base import Part

if TYPE_CHECKING:
    from circuit_assertions.checkpoints import Checkpoint
    from circuit_assertions.engine import Opened
    from circuit_assertions.tasks import AnswerMetric

__all__ = ["MOST_VALUES", "WHOLE_MODEL", "CheckpointFacts", "Figure", "MetricFacts", "Reading", "figures"]

WHOLE_MODEL = "model"  # the name of the only column of a reading without components
MOST_VALUES = 65_536  # of one reading, about 0.6 MB of JSON
_DIGITS = 7  # significant ones of a value: those of float32


class Figure(Part):
    """A mean with its interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, figure: MeasuredFigure) -> Figure:
        """A measured figure."""
        return cls(mean=figure.mean, low=figure.interval.low, high=figure.interval.high)


def figures(found: Mapping[Any, MeasuredFigure]) -> dict[str, Figure]:
    """Measured figures by the names of what they are of."""
    return {str(name): Figure.of(figure) for name, figure in found.items()}


class MetricFacts(Part):
    """The answer metric of a task, which behaviour is read by; effects and scores are in its unit.

    Attributes:
        name: of the measure that reads it.
        called: the same in sentences.
    """

    name: str
    called: str
    unit: str

    @classmethod
    def of(cls, metric: AnswerMetric) -> MetricFacts:
        """The facts of a metric."""
        return cls(name=metric.name, called=metric.called, unit=metric.unit)


class CheckpointFacts(Part):
    """A checkpoint as it was opened.

    Attributes:
        checkpoint: as it was named.
        fingerprint: of its weights, and after a hyphen of the settings that change what they compute.
        dtype: of the weights in memory, `float32`.
        notes: how it was read.
    """

    checkpoint: str
    fingerprint: str
    architecture: str
    layers: int
    heads: int
    d_model: int
    dtype: str
    device: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, checkpoint: Checkpoint, opened: Opened) -> CheckpointFacts:
        """The facts of a checkpoint that was opened."""
        return cls(
            checkpoint=str(checkpoint),
            fingerprint=opened.fingerprint,
            **opened.shape.plain(),
            dtype=opened.dtype,
            device=opened.device,
            notes=opened.notes,
        )


class Reading(Part):
    """What one measure read from one model on one task.

    Attributes:
        prompts: how many were read.
        operands: what the measure was told, as words.
        task: the settings of the task, from which its prompts follow.
        token_hash: of the token ids of all prompts.
        identity: what tells readings of this model from those of another.
        found: what the measure searched before it was read.
        controls: what it is compared with, by name: random circuits.
        components: the columns; empty for measures of the whole model.
        values: one value per prompt, by component, or by `model` for measures of the whole model. Seven significant
            digits; of a reading with more than 65,536 values, those of the components that decided.
    """

    measure: str
    unit: str
    prompts: int
    operands: dict[str, str] = Field(default_factory=dict)
    task: dict[str, Any] = Field(default_factory=dict)
    token_hash: str = ""
    balance: dict[str, Any] = Field(default_factory=dict)
    identity: dict[str, str] = Field(default_factory=dict)
    approximate: bool = False
    found: dict[str, str] = Field(default_factory=dict)
    controls: dict[str, Figure] = Field(default_factory=dict)
    components: tuple[str, ...] = ()
    values: dict[str, tuple[float, ...]] = Field(default_factory=dict)

    @classmethod
    def of(cls, reading: TakenReading, first: Iterable[str] = ()) -> Reading:
        """A reading that was taken.

        Args:
            first: components whose values are kept where not all can be.
        """
        settings = reading.settings
        columns = {WHOLE_MODEL if name is None else str(name): values for name, values in reading.columns()}
        order = [name for name in dict.fromkeys([*first, *columns]) if name in columns]
        return cls(
            measure=reading.measure,
            unit=reading.unit,
            prompts=reading.prompts,
            operands=dict(settings.get("operands", {})),
            task=dict(settings.get("task", {})),
            token_hash=settings.get("token_hash", ""),
            balance=dict(settings.get("balance", {})),
            identity=dict(settings.get("model", {})),
            approximate=settings.get("approximate", False),
            found={name: str(text) for name, text in settings.get("found", {}).items()},
            controls={
                name: Figure.of(MeasuredFigure(float(values.mean()), reading.interval(values, Level.of_figures())))
                for name, values in reading.beside.items()
            },
            components=tuple(str(component) for component in reading.components),
            values={
                name: tuple(float(f"{value:.{_DIGITS}g}") for value in columns[name])
                for name in order[: MOST_VALUES // max(1, reading.prompts)]
            },
        )
