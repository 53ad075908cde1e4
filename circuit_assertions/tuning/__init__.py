"""What a fine-tuning hid or left behind: whether a behaviour is removed or only wrapped, and traces in activations."""

from __future__ import annotations

from circuit_assertions.tuning.errors import TuningError

__all__ = ["TuningError"]
