"""What is known of a checkpoint once it was opened, without its weights. It can be kept, and needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from circuit_assertions.checkpoints.function import FunctionSettings
from circuit_assertions.engine.limits import Limit
from circuit_assertions.heads import Head
from circuit_assertions.shape import Shape

__all__ = ["Opened"]


@dataclass(frozen=True)
class Opened:
    """The facts of an opened checkpoint.

    Attributes:
        identity: fingerprint, dtype, device and so on, which are written with every reading.
        device: where it is, `cuda:1`.
        positions: tokens that it can read at once.
        vocabulary: rows of the unembedding.
        weights: how many numbers its weights are.
        limits: by fact that measures rely on: what keeps the model from having it.
        function: the settings that change what its weights compute.
        notes: for the report: how it was read.
    """

    shape: Shape
    identity: Mapping[str, Any]
    device: str
    positions: int
    vocabulary: int
    weights: int
    limits: Mapping[str, Limit] = field(default_factory=dict)
    function: FunctionSettings = field(default_factory=FunctionSettings)
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Of its weights, then of the settings that change what they compute."""
        return str(self.identity["fingerprint"])

    @property
    def dtype(self) -> str:
        """Of the weights in memory, `float32`."""
        return str(self.identity["dtype"])

    def all_heads(self) -> Iterator[Head]:
        """Every query head, layer by layer."""
        return (Head(layer, head) for layer in range(self.shape.layers) for head in range(self.shape.heads))
