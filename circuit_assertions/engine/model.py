"""A checkpoint opened for measuring: the bridge, its layout, and what was found when it was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.checkpoints.opening import OpenCheckpoint
from circuit_assertions.engine.arithmetic import Block
from circuit_assertions.engine.checks import check_model
from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.layout import Layout
from circuit_assertions.engine.limits import Limit, limits_of
from circuit_assertions.engine.opened import Opened
from circuit_assertions.engine.readout import Readout
from circuit_assertions.shape import Shape
from circuit_assertions.unexpected import text_of

__all__ = ["Model"]


@dataclass(frozen=True)
class Model:
    """An open checkpoint that can be measured.

    Attributes:
        limits: by fact that measures rely on, as `checks` tells them: what keeps this model from having it.
        runs_end: whether logits of changed final residual rows are had by running the model's own end.
        recognised: the arithmetic of its blocks, as it was last proven; what is tried first on the next run.
    """

    source: OpenCheckpoint
    limits: Mapping[str, Limit] = field(default_factory=dict)
    runs_end: bool = False
    recognised: list[Block] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, source: OpenCheckpoint) -> Model:
        """Check the structure of an open checkpoint once, on a few random tokens, and wrap it.

        Raises:
            MeasuringError: if the components of the model cannot be identified.
        """
        try:
            reasons, readout = check_model(Layout(source.bridge), source.device)
        except CircuitAssertionsError:
            raise
        except Exception as error:
            # Models are built in more ways than are known here, and what takes an unknown one apart fails anywhere.
            raise MeasuringError(
                f"{source.checkpoint} holds a {source.architecture}, whose components cannot be identified, so nothing "
                f"of it can be measured ({text_of(error)})"
            ) from error
        return cls(source, limits_of(reasons), readout.runs)

    @property
    def bridge(self) -> Any:
        """The TransformerBridge."""
        return self.source.bridge

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.source.device

    @cached_property
    def layout(self) -> Layout:
        """Structural facts and weights by head."""
        return Layout(self.source.bridge)

    @property
    def shape(self) -> Shape:
        """Architecture and size."""
        layout = self.layout
        return Shape(self.source.architecture, layout.layers, layout.heads, layout.d_model)

    @cached_property
    def readout(self) -> Readout:
        """The end of the model."""
        return Readout(self.layout, self.runs_end)

    def identity(self) -> dict[str, Any]:
        """What tells readings of this model from those of another: written beside every reading."""
        return {
            "fingerprint": self.source.fingerprint,
            "architecture": self.source.architecture,
            "dtype": str(self.source.dtype).removeprefix("torch."),
            "device": self.device.type,
            "attention": "eager",
        }

    def opened(self) -> Opened:
        """What is known of it without its weights."""
        layout, source = self.layout, self.source
        return Opened(
            shape=self.shape,
            identity=self.identity(),
            device=str(source.device),
            positions=layout.positions,
            vocabulary=layout.vocabulary,
            weights=sum(weight.numel() for weight in layout.bridge.parameters()),
            limits=self.limits,
            function=source.function,
            notes=tuple(source.notes),
        )
