"""What all results have in common: their kind, the version of their schema, and the versions of what measured them."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version

from pydantic import BaseModel, ConfigDict, Field

from circuit_assertions import __version__
from circuit_assertions.policy import DEFAULT, Policy

__all__ = ["SCHEMA_VERSION", "Part", "PolicyUsed", "Result", "versions"]

SCHEMA_VERSION = 1  # of every kind; raised when a field is removed or changes its meaning
_MEASURED_WITH = ("torch", "transformers", "transformer_lens")


class Part(BaseModel):
    """A part of a result. It cannot be changed, has no fields that the schema does not know, and no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


def versions() -> dict[str, str]:
    """The versions of this package and of the installed libraries that it measures with, by name."""
    found = {"circuit-assertions": __version__}
    for name in _MEASURED_WITH:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class PolicyUsed(Part):
    """The policy of a run: its name, or the file that it is from, and every threshold by name."""

    name: str
    values: dict[str, int | float]

    @classmethod
    def of(cls, policy: Policy) -> PolicyUsed:
        """A policy as it was used."""
        return cls(name=policy.name, values=policy.values)

    @property
    def is_default(self) -> bool:
        """Whether it is the policy `default`, which reports do not name."""
        return self.name == DEFAULT.name


class Result(Part):
    """A result of one kind, as it is written and read.

    Attributes:
        schema_version: of the fields below.
        versions: of what measured it, by the name of the package.
        policy: the thresholds that it was judged by; `edges` and `graft` judge nothing and have those of `default`.
    """

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    versions: dict[str, str] = Field(default_factory=versions)
    policy: PolicyUsed = Field(default_factory=lambda: PolicyUsed.of(DEFAULT))

    def to_json(self) -> str:
        """The result as JSON in ASCII, two spaces an indent."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False)
