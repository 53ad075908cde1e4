"""A stage of all paths, which finds the sources of heads that no other stage could name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from circuit_assertions.assertions.chains.stage import Asked, Groups, Stage

__all__ = ["ToAnywhere"]


class ToAnywhere(Stage):
    """What is lost when a head's own output is the counterfactual's and everything after it is live."""

    to: Literal["anywhere"]

    written: ClassVar[str] = "to: anywhere"
    times: ClassVar[float] = 5.0  # by any path, early heads have some effect on everything
    last_resort: ClassVar[bool] = True

    @classmethod
    def recognises(cls, said: Mapping[str, Any]) -> bool:
        return said.get("to") == "anywhere"

    @property
    def name(self) -> str:
        return "the answer, by any path"

    def effect(self, groups: Groups) -> Asked:
        return "total-effect", {}

    def said(self) -> dict[str, Any]:
        return {"measure": "total-effect"}
