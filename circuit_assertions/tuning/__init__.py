"""What a fine-tuning hid: whether a behaviour that it took away is removed, or only wrapped."""

from __future__ import annotations

from circuit_assertions.tuning.errors import TuningError

__all__ = ["TuningError"]
