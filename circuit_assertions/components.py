"""Components by name: a head `L9H10`, the MLP of a layer `MLP4`, the residual stream entering a block `RESID4`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from circuit_assertions.heads import Head, HeadError, parse_head

__all__ = ["Component", "Mlp", "Residual", "parse_component"]

_OF_LAYER = re.compile(r"(MLP|RESID)(\d+)")


@dataclass(frozen=True, order=True)
class Mlp:
    """The MLP of a layer. Prints as `MLP4`."""

    layer: int

    def __str__(self) -> str:
        return f"MLP{self.layer}"


@dataclass(frozen=True, order=True)
class Residual:
    """The residual stream entering a block; `RESID0` is the embedding. Prints as `RESID4`."""

    layer: int

    def __str__(self) -> str:
        return f"RESID{self.layer}"


Component = Head | Mlp | Residual


def parse_component(value: object) -> Component:
    """Read one component as a suite may write it: `L9H10` (or `[9, 10]`), `MLP4`, `RESID4`.

    Raises:
        HeadError: for anything else.
    """
    if isinstance(value, (Head, Mlp, Residual)):
        return value
    if isinstance(value, str) and (match := _OF_LAYER.fullmatch(value.strip())):
        return Mlp(int(match[2])) if match[1] == "MLP" else Residual(int(match[2]))
    try:
        return parse_head(value)
    except HeadError as error:
        if isinstance(value, float):
            raise
        raise HeadError(f"{value!r} names no component: write L9H10, MLP4 or RESID4") from error
