"""The shape of a model: what a circuit file must fit, and which components there can be.

Every room that names a shape, compares two of them, or looks whether a component exists does it with this one class.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from circuit_assertions.components import Component
from circuit_assertions.heads import Head

__all__ = ["Shape"]


@dataclass(frozen=True)
class Shape:
    """Architecture and size of a decoder.

    Attributes:
        architecture: the class of transformers that reads it, `GPT2LMHeadModel`.
        layers: how many blocks it has.
        heads: query heads in each block.
        d_model: width of the residual stream.
    """

    architecture: str
    layers: int
    heads: int
    d_model: int

    def __str__(self) -> str:
        return f"{self.architecture} of {self.size}"

    @property
    def size(self) -> str:
        """`12 layers x 12 heads, d_model 768`."""
        return f"{self.layers} layers x {self.heads} heads, d_model {self.d_model}"

    @property
    def extent(self) -> str:
        """`12 layers of 12 heads, both counted from 0`, for messages about a component that does not exist."""
        return f"{self.layers} layers of {self.heads} heads, both counted from 0"

    def has(self, component: Component) -> bool:
        """Whether a model of this shape has this component."""
        in_layer = not isinstance(component, Head) or component.head < self.heads
        return component.layer < self.layers and in_layer

    def plain(self) -> dict[str, Any]:
        """Its values by name, as circuit files spell them."""
        return asdict(self)
