"""A stage of paths to the logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from circuit_assertions.assertions.chains.stage import Asked, Groups, Stage

__all__ = ["ToLogits"]

_LOGITS = "logits"


class ToLogits(Stage):
    """Effects on paths to the logits."""

    to: Literal["logits"]

    written: ClassVar[str] = "to: logits"
    writes_answer: ClassVar[bool] = True

    @classmethod
    def recognises(cls, said: Mapping[str, Any]) -> bool:
        return said.get("to") == _LOGITS

    @property
    def name(self) -> str:
        return _LOGITS

    def effect(self, groups: Groups) -> Asked:
        return "path-effect", {}

    def said(self) -> dict[str, Any]:
        return {"measure": "path-effect"}
