"""The policy: every threshold of every verdict in one object, each with what it decides and where it comes from.

It is passed from the options of a run to whatever judges; nothing reads it from a global place. Thresholds that suites
and chain files declare are not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from circuit_assertions.policy.declaring import Thresholds
from circuit_assertions.policy.discovery import DiscoveryThresholds
from circuit_assertions.policy.intervals import IntervalThresholds
from circuit_assertions.policy.origin import ExpressionThresholds, OriginThresholds
from circuit_assertions.policy.recovery import RecoveryThresholds
from circuit_assertions.policy.traces import TraceThresholds
from circuit_assertions.policy.tuning import WrappingThresholds
from circuit_assertions.policy.verdicts import HeadThresholds, VerdictThresholds
from circuit_assertions.verdict_words import Overall

__all__ = ["CHANGES", "DEFAULT", "POLICIES", "SECTIONS", "Change", "Policy", "Threshold", "key_of"]

SECTIONS: Mapping[str, type[Thresholds]] = MappingProxyType(
    {
        "Assertions and intervals": IntervalThresholds,
        "Verdict of a diagnosis": VerdictThresholds,
        "Heads": HeadThresholds,
        "Origin": OriginThresholds,
        "Expression": ExpressionThresholds,
        "Recovery": RecoveryThresholds,
        "Discovery": DiscoveryThresholds,
        "Wrapped or removed": WrappingThresholds,
        "Traces": TraceThresholds,
    }
)

# The first is smaller than the second; with `<=` they may be equal.
_ORDER = (
    ("corrupted_below", "<", "degraded_below"),
    ("corrupted_role_below", "<", "degraded_role_below"),
    ("corrupted_role_below", "<=", "weaker_role_below"),
    ("weaker_role_below", "<=", "degraded_role_below"),
    ("head_silenced_below", "<", "head_weakened_below"),
    ("partial_above", "<", "recovered_above"),
    ("origin_part_restores", "<", "origin_restores"),
    ("fewest_compared_prompts", "<=", "compared_prompts"),
    ("gone_below", "<", "suppressed_below"),
    ("gone_below", "<", "revived_above"),
    ("wrapper_neurons", "<=", "pruned_most"),
)


@dataclass(frozen=True)
class Threshold:
    """One threshold as it is listed.

    Attributes:
        name: of the field; `key` is the same as files spell it.
        decides: what follows from it, in one sentence.
        origin: `measured: FILE, ...`, `paper: ...` or `argument: ...`.
    """

    section: str
    name: str
    value: float | int
    unit: str
    decides: str
    origin: str

    @property
    def key(self) -> str:
        """`corrupted-below`, as files of policies spell it."""
        return key_of(self.name)


class Policy(
    IntervalThresholds,
    VerdictThresholds,
    HeadThresholds,
    OriginThresholds,
    ExpressionThresholds,
    RecoveryThresholds,
    DiscoveryThresholds,
    WrappingThresholds,
    TraceThresholds,
):
    """The thresholds of a run. Without arguments it is the policy `default`.

    Raises:
        pydantic.ValidationError: if a value is outside of its range, or two contradict each other.
    """

    name: str = Field(
        default="default", min_length=1, description="`default`, `strict`, `lenient`, or the file it is from"
    )

    @property
    def values(self) -> dict[str, float | int]:
        """All thresholds by name, in the order in which they are listed."""
        return {one.name: one.value for one in self.thresholds()}

    def thresholds(self) -> Iterator[Threshold]:
        """All thresholds with what they decide."""
        for section, part in SECTIONS.items():
            for name in part.model_fields:
                field = type(self).model_fields[name]
                extra = field.json_schema_extra
                assert isinstance(extra, dict)
                assert field.description is not None
                value: float | int = getattr(self, name)
                yield Threshold(section, name, value, str(extra["unit"]), field.description, str(extra["origin"]))

    def changed(self, **values: Any) -> Policy:
        """This policy with other values, validated."""
        return Policy.model_validate({"name": self.name, **self.values, **values})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for first, operator, second in _ORDER:
            one, other = getattr(self, first), getattr(self, second)
            if not (one < other or (operator == "<=" and one == other)):
                meant = "less than" if operator == "<" else "at most"
                raise _inconsistent(
                    f"{key_of(first)} ({one:g}) must be {meant} {key_of(second)} ({other:g})", first, second
                )
        if self.corrupted_below > 1 - self.least_lost:
            raise _inconsistent(
                f"corrupted-below ({self.corrupted_below:g}) must be at most 1 - least-lost ({1 - self.least_lost:g}): "
                f"a smaller loss has no origin that could be searched",
                "corrupted_below",
                "least_lost",
            )
        return self


def _inconsistent(message: str, *fields: str) -> PydanticCustomError:
    return PydanticCustomError("inconsistent", "{message}", {"message": message, "fields": fields})


def key_of(name: str) -> str:
    """A field's name as files spell it."""
    return name.replace("_", "-")


@dataclass(frozen=True)
class Change:
    """How a named policy differs from `default`, and why."""

    values: Mapping[str, float | int]
    why: str


DEFAULT = Policy()

CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "default": Change({}, f"for fine-tuned checkpoints: what clean fine-tuning leaves is {Overall.INTACT}"),
        "strict": Change(
            MappingProxyType(
                {
                    "corrupted_below": 0.9,
                    "degraded_below": 0.99,
                    "corrupted_role_below": 0.75,
                    "degraded_role_below": 0.97,
                    "weaker_role_below": 0.9,
                    "recovered_above": 0.9,
                    "recovery_keeps": 0.75,
                }
            ),
            "for changes that should leave the mechanism as it is, such as conversions, merges and quantization: a "
            f"certain loss of 1 % is {Overall.DEGRADED} and one of a tenth {Overall.CORRUPTED}; clean fine-tuning "
            f"can be {Overall.DEGRADED} too",
        ),
        "lenient": Change(
            MappingProxyType(
                {
                    "corrupted_below": 0.5,
                    "degraded_below": 0.9,
                    "corrupted_role_below": 0.25,
                    "degraded_role_below": 0.75,
                    "weaker_role_below": 0.5,
                }
            ),
            f"for long training on other data, where some drift is expected: a loss is {Overall.DEGRADED} from the "
            "size on whose "
            f"origin can be searched (a tenth), and {Overall.CORRUPTED} if half of the behaviour is gone",
        ),
    }
)

POLICIES: Mapping[str, Policy] = MappingProxyType(
    {name: DEFAULT.changed(name=name, **change.values) for name, change in CHANGES.items()}
)
