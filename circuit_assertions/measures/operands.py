"""What measures may be told beside heads and a task: the types of their operands, and the model that each derives.

A measure has a model of its own, and every field of it is a key of suites: its default, its description and its words
stand there and nowhere else. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, ValidationInfo
from pydantic.fields import FieldInfo

from circuit_assertions.heads import Head
from circuit_assertions.measures.receivers import ReceiverHeads, ReceiverOf, unknown_receiver
from circuit_assertions.measures.spelled_heads import NamedHeads
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import Strict, closest

__all__ = [
    "AnyPosition",
    "Count",
    "FromTo",
    "KnockOut",
    "OfASet",
    "Operands",
    "Position",
    "Receiving",
    "ReceivingHeads",
    "Setting",
    "Spoken",
    "check_position",
    "setting_of",
    "spelled_operands",
    "spoken_of",
    "words_of",
]


@dataclass(frozen=True)
class Setting:
    """What operands are checked against, beside themselves.

    Attributes:
        measure: its name.
        called: the task's name, for messages.
        bound: whether roles are heads by now, as in Python.
    """

    measure: str
    task: Task | None = None
    called: str = ""
    bound: bool = False


@dataclass(frozen=True)
class Spoken:
    """How a key is spoken of.

    Attributes:
        spelled: the type of what a suite may write, whatever the measure; None where no suite writes it.
        listed: what it is, in the list of measures; empty where the list leaves it out.
        needed: what it is, where it is missing.
    """

    spelled: Any
    listed: str
    needed: str


class Operands(Strict):
    """No operands; a measure that takes some derives its own model."""

    @classmethod
    def by_key(cls) -> dict[str, FieldInfo]:
        """The fields, by the keys that suites write."""
        return _by_key(cls)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """What each key that may be left out stands for, but for those that then stand for nothing."""
        return {
            key: field.default
            for key, field in cls.by_key().items()
            if not field.is_required() and field.default is not None
        }


@cache
def _by_key(model: type[Operands]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def words_of(field: FieldInfo) -> tuple[str, ...]:
    """The words that a field may be; none where it is no word."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def spoken_of(field: FieldInfo) -> Spoken:
    """How a field's key is spoken of; a type that does not say is described by its description."""
    said = next((one for one in _annotated(field.annotation, field.metadata) if isinstance(one, Spoken)), None)
    if said is not None:
        return (
            replace(said, listed=f"{said.listed}, {field.default} by default") if type(field.default) is int else said
        )
    words = words_of(field)
    if words:
        return Spoken(str, " or ".join(words), " or ".join(words))
    told = field.description or "a value"
    annotation = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    by_default = "" if field.is_required() or field.default is None else f", {field.default} by default"
    return Spoken(annotation, f"{told}{by_default}", told)


def _annotated(annotation: Any, metadata: list[Any]) -> list[Any]:
    """What a type is annotated with, at the top or within `| None`."""
    found = list(metadata)
    if get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            found += get_args(part)[1:] if get_origin(part) is Annotated else []
    return found


def setting_of(info: ValidationInfo) -> Setting | None:
    """What the operand is checked against; None where only its spelling is."""
    return info.context if isinstance(info.context, Setting) else None


def check_position(position: str, info: ValidationInfo) -> str:
    """The position, which the task must have.

    Raises:
        ValueError: with what may have been meant.
    """
    setting = setting_of(info)
    if setting is not None and setting.task is not None and position not in setting.task.labels():
        hint = closest(position, sorted(setting.task.labels()))
        raise ValueError(f"{setting.called} has no position {position!r}{hint}")
    return position


def _receiver(receiver: Any, info: ValidationInfo) -> Any:
    setting = setting_of(info)
    if setting is not None and setting.bound and isinstance(receiver, ReceiverHeads):
        raise ValueError(unknown_receiver(receiver.model_dump(by_alias=True, exclude_none=True)))
    at = getattr(receiver, "at", None)
    if at is not None:
        check_position(at, info)
    return receiver


def _of_heads(receiver: Any, info: ValidationInfo) -> Any:
    setting = setting_of(info)
    if setting is not None and not hasattr(receiver, "at"):
        raise ValueError(f"{setting.measure} needs `receiver:`, {_RECEIVING}")
    return receiver


def _knocked_out(heads: Any, info: ValidationInfo) -> Any:
    setting = setting_of(info)
    if setting is not None and setting.task is not None and "counterfactual" not in setting.task.offers:
        raise ValueError(f"heads are knocked out by counterfactual prompts, and {setting.called} has none")
    return heads


def _count(value: Any, info: ValidationInfo) -> Any:
    if type(value) is not int or value < 1:
        key = (info.field_name or "").replace("_", "-")
        raise ValueError(f"{value!r} is not a number of {key}: give a whole number from 1")
    return value


_A_POSITION = "a position of the task"
_RECEIVING = "the heads that receive, such as {query: ROLE}"

Position = Annotated[str, AfterValidator(check_position), Spoken(str, "a position", _A_POSITION)]
AnyPosition = Annotated[str, AfterValidator(check_position), Spoken(str, "a position, all by default", _A_POSITION)]
Receiving = Annotated[
    ReceiverOf, AfterValidator(_receiver), Spoken(ReceiverOf, "logits, or heads", "logits, or the heads that receive")
]
ReceivingHeads = Annotated[
    ReceiverOf, AfterValidator(_receiver), AfterValidator(_of_heads), Spoken(ReceiverOf, "heads", _RECEIVING)
]
_Without = Annotated[NamedHeads, AfterValidator(_knocked_out), Spoken(NamedHeads, "", "the heads")]
Count = Annotated[StrictInt, BeforeValidator(_count), Spoken(StrictInt, "a whole number", "a whole number")]
_Set = Annotated[tuple[Head, ...], Spoken(None, "", "the heads")]


class KnockOut(Operands):
    """Of measures that may be read while some heads are knocked out."""

    without: _Without | None = Field(
        None, description="heads that are knocked out meanwhile: a role, or a list; for backups of a role"
    )


class FromTo(Operands):
    """From where to where heads attend."""

    query: Position = Field(description="the position attended from")
    key: Position = Field(description="the position attended to")


class OfASet(Operands):
    """Of measures that are read of a set of heads together: a suite names them with `heads:`."""

    set: _Set


def spelled_operands(operands: Mapping[str, Any]) -> dict[str, str]:
    """Operands as words, as the settings of a reading have them."""
    return {name: _spelled(value) for name, value in operands.items()}


def _spelled(value: Any) -> str:
    return ", ".join(str(head) for head in value) if type(value) is tuple else str(value)
