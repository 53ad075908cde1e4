"""A stage of paths to the queries, keys or values of heads that an earlier stage found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from circuit_assertions.assertions.chains.stage import Asked, Groups, Stage
from circuit_assertions.measures.receivers import Receiver
from circuit_assertions.tasks.schema import Strict

__all__ = ["Inputs", "ToInputs"]

_SHORT: dict[str, Literal["q", "k", "v"]] = {"queries": "q", "keys": "k", "values": "v"}
_IN_SUITES = {"queries": "query", "keys": "key", "values": "value"}


class Inputs(Strict):
    """The queries, keys or values of a role at a position."""

    queries_of: str | None = Field(None, description="a role, or `logits`: all heads that raise the answer's logit")
    keys_of: str | None = Field(None, description="the same, for their keys")
    values_of: str | None = Field(None, description="the same, for their values")
    at: str = Field(description="the position at which they receive")

    @model_validator(mode="after")
    def _exactly_one(self) -> Inputs:
        if sum(role is not None for role in (self.queries_of, self.keys_of, self.values_of)) != 1:
            raise ValueError("give one of queries-of, keys-of and values-of")
        return self

    @property
    def which(self) -> str:
        """`queries`, `keys` or `values`."""
        return next(which for which in _SHORT if getattr(self, f"{which}_of") is not None)

    @property
    def role(self) -> str:
        """Whose they are."""
        return str(getattr(self, f"{self.which}_of"))


class ToInputs(Stage):
    """Effects on paths to the queries, keys or values of a role at a position."""

    to: Inputs

    written: ClassVar[str] = "to: {queries-of: ROLE, at: POSITION} (or keys-of, values-of)"

    @classmethod
    def recognises(cls, said: Mapping[str, Any]) -> bool:
        return isinstance(said.get("to"), Mapping)

    @property
    def name(self) -> str:
        return f"{self.to.which} of {self.to.role} at {self.to.at}"

    @property
    def starts_from(self) -> tuple[str, str]:
        return self.to.role, f"{self.to.which}-of"

    @property
    def positions(self) -> frozenset[str]:
        return super().positions | {self.to.at}

    def effect(self, groups: Groups) -> Asked | None:
        heads = groups.get(self.to.role, ())
        return ("path-effect", {"receiver": Receiver(_SHORT[self.to.which], heads, self.to.at)}) if heads else None

    def said(self) -> dict[str, Any]:
        return {"measure": "path-effect", "receiver": {_IN_SUITES[self.to.which]: self.to.role, "at": self.to.at}}
