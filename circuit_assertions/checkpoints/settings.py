"""How checkpoints are opened in one audit, and what the user allows beyond the safe default."""

from __future__ import annotations

from dataclasses import dataclass, field

from circuit_assertions.checkpoints.sources import Checkpoint

__all__ = ["Opening", "Permissions"]


@dataclass(frozen=True)
class Permissions:
    """What the user allows beyond the safe default."""

    pickle: bool = False
    remote_code: bool = False


@dataclass(frozen=True)
class Opening:
    """How checkpoints are opened in one audit.

    Attributes:
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `float32`, `bfloat16`, `float16` or `float64`; what the weights are cast to while they are read.
        tokenizer: a folder or hub id whose tokenizer is used instead of the checkpoint's own.
        base: the checkpoint that provides what another one lacks: the weights of an adapter's base, a tokenizer.
    """

    device: str = "auto"
    dtype: str = "float32"
    tokenizer: str | None = None
    base: Checkpoint | None = None
    permissions: Permissions = field(default_factory=Permissions)
