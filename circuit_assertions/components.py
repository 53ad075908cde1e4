"""Components by name: a head `L9H10`, the MLP of a layer `MLP4`, the residual stream entering a block `RESID4`."""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass, field

from circuit_assertions.heads import Head, HeadError, parse_head

__all__ = [
    "KINDS",
    "Component",
    "Embedding",
    "Mlp",
    "Norms",
    "Part",
    "Residual",
    "Unembedding",
    "all_of",
    "kind_of",
    "parse_component",
    "parse_part",
]

_OF_LAYER = re.compile(r"(MLP|RESID|NORM)(\d+)")
_NUMBER = re.compile(r"\d+")
_PARTS = "write L9H10, MLP4, NORM3, EMBED or UNEMBED"


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


@dataclass(frozen=True, order=True)
class Norms:
    """The norms of a block and the bias of its attention output; of the layer after the last, the final norm.

    Prints as `NORM4`. Together with heads, MLPs and embeddings these are all the weights of a model.
    """

    layer: int

    def __str__(self) -> str:
        return f"NORM{self.layer}"


@dataclass(frozen=True, order=True)
class Embedding:
    """Token and position embeddings; the unembedding as well where the model ties them. Prints as `EMBED`."""

    layer: int = 0

    def __str__(self) -> str:
        return "EMBED"


@dataclass(frozen=True, order=True)
class Unembedding:
    """The unembedding of a model that does not tie it to the embedding. Prints as `UNEMBED`.

    There is one in a model, whatever its layer, which is said to come after all others where nobody knows their number.
    """

    layer: int = field(default=sys.maxsize, compare=False)

    def __str__(self) -> str:
        return "UNEMBED"


Part = Head | Mlp | Norms | Embedding | Unembedding  # what a graft moves: each weight belongs to one of them

KINDS = {
    "head": "heads",
    "mlp": "MLPs",
    "residual": "the residual stream",
}  # a kind, and what messages call its members


def kind_of(component: Component) -> str:
    """The kind of a component, one of `KINDS`."""
    return "head" if isinstance(component, Head) else "mlp" if isinstance(component, Mlp) else "residual"


def all_of(kind: str, layers: int, heads: int) -> tuple[Component, ...]:
    """Every component of a kind in a model of so many layers, with so many heads each, layer by layer."""
    if kind == "head":
        return tuple(Head(layer, head) for layer in range(layers) for head in range(heads))
    return tuple(Mlp(layer) if kind == "mlp" else Residual(layer) for layer in range(layers))


def parse_component(value: object) -> Component:
    """Read one component as a suite may write it: `L9H10` (or `[9, 10]`), `MLP4`, `RESID4`.

    Raises:
        HeadError: for anything else.
    """
    if isinstance(value, (Head, Mlp, Residual)):
        return value
    if isinstance(value, str) and (match := _OF_LAYER.fullmatch(value.strip())) and match[1] != "NORM":
        return Mlp(int(match[2])) if match[1] == "MLP" else Residual(int(match[2]))
    try:
        return parse_head(value)
    except HeadError as error:
        if isinstance(value, float):
            raise
        raise HeadError(f"{value!r} is not a component: write L9H10, MLP4 or RESID4") from error


def parse_part(text: str) -> Part:
    """Read one part of a model's weights: `L2H0`, `MLP4`, `NORM3`, `EMBED`, `UNEMBED`.

    Raises:
        HeadError: for anything else, with the likely name.
    """
    name = text.strip()
    if name in ("EMBED", "UNEMBED"):
        return Embedding() if name == "EMBED" else Unembedding()
    if (match := _OF_LAYER.fullmatch(name)) and match[1] != "RESID":
        return Mlp(int(match[2])) if match[1] == "MLP" else Norms(int(match[2]))
    if match:
        raise HeadError(f"{name} is the residual stream, which has no weights: {_PARTS}")
    try:
        return parse_head(name)
    except HeadError as error:
        raise HeadError(f"{name!r} is not a part of a model{_meant(name)}: {_PARTS}") from error


def _meant(name: str) -> str:
    """The part with a similar name, with the numbers of this one."""
    numbers = _NUMBER.findall(name)
    close = difflib.get_close_matches(
        _NUMBER.sub("#", name.upper()), ("L#H#", "MLP#", "NORM#", "EMBED", "UNEMBED"), n=1, cutoff=0.7
    )
    if not close or close[0].count("#") != len(numbers):
        return ""
    for number in numbers:
        close[0] = close[0].replace("#", number, 1)
    return f" (did you mean {close[0]}?)"
