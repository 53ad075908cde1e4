"""The result of the `policy` verb: every threshold with what it decides and where its number comes from."""

from __future__ import annotations

from typing import Literal

from circuit_assertions.policy import CHANGES, DEFAULT, Policy, key_of
from circuit_assertions.results.base import Part, PolicyUsed, Result

__all__ = ["NamedPolicy", "PolicyResult", "ThresholdListed"]


class ThresholdListed(Part):
    """One threshold.

    Attributes:
        section: the part of the project that uses it.
        key: as files of policies spell it.
        default: its value in the policy `default`.
        decides: what follows from a figure above or below it.
        origin: a measurement (`measured: FILE, ...`), a paper or an argument.
    """

    section: str
    key: str
    value: int | float
    default: int | float
    unit: str
    decides: str
    origin: str


class NamedPolicy(Part):
    """A policy with a name.

    Attributes:
        purpose: what it is for.
        changes: the thresholds, as files spell them, that differ from `default`.
    """

    purpose: str
    changes: dict[str, int | float]


class PolicyResult(Result):
    """A policy.

    Attributes:
        thresholds: all of them, section by section.
        named: the policies that have a name.
    """

    kind: Literal["policy"] = "policy"
    thresholds: tuple[ThresholdListed, ...]
    named: dict[str, NamedPolicy]

    @classmethod
    def of(cls, policy: Policy) -> PolicyResult:
        """The result that lists a policy."""
        usual = DEFAULT.values
        return cls(
            policy=PolicyUsed.of(policy),
            thresholds=tuple(
                ThresholdListed(
                    section=one.section,
                    key=one.key,
                    value=one.value,
                    default=usual[one.name],
                    unit=one.unit,
                    decides=one.decides,
                    origin=one.origin,
                )
                for one in policy.thresholds()
            ),
            named={
                name: NamedPolicy(purpose=change.why, changes={key_of(one): at for one, at in change.values.items()})
                for name, change in CHANGES.items()
            },
        )
