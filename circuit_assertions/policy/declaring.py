"""How a threshold is declared: its default, range and unit, what it decides, and where its number comes from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Above", "Below", "Count", "Level", "Share", "Thresholds", "threshold"]

Share = Annotated[float, Field(gt=0, lt=1)]
Below = Annotated[float, Field(gt=0, le=1)]
Above = Annotated[float, Field(gt=1, le=10)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Level = Annotated[float, Field(ge=0.5, lt=1)]


class Thresholds(BaseModel):
    """Thresholds of one part of the project. None is changed in place, and none is converted from another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def threshold(default: float, unit: str, decides: str, origin: str) -> Any:
    """A field of `Thresholds`; its annotation has the range.

    Args:
        default: the value in the policy `default`.
        unit: of the value.
        decides: one sentence, what follows from a figure above or below it.
        origin: `measured: FILE, ...`, `paper: ...` or `argument: ...`.
    """
    return Field(default, description=decides, json_schema_extra={"unit": unit, "origin": origin})
