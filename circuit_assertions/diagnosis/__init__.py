"""Two or three checkpoints compared, and one examined closely: what broke, its origin, whether it recovered.

Importing it does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from circuit_assertions.diagnosis.errors import DiagnosisError, NoCircuitError
from circuit_assertions.diagnosis.function import Function, HeadChange, RoleChange
from circuit_assertions.diagnosis.recovery import Recovery
from circuit_assertions.measures.figures import Figure

if TYPE_CHECKING:
    from circuit_assertions.diagnosis.lenses import Diagnosis
    from circuit_assertions.diagnosis.origin import Origin

__all__ = [
    "Diagnosis",
    "DiagnosisError",
    "Figure",
    "Function",
    "HeadChange",
    "NoCircuitError",
    "Origin",
    "Recovery",
    "RoleChange",
]


def __getattr__(name: str) -> Any:
    """What needs torch, once somebody asks for it."""
    if name == "Diagnosis":
        from circuit_assertions.diagnosis.lenses import Diagnosis

        return Diagnosis
    if name == "Origin":
        from circuit_assertions.diagnosis.origin import Origin

        return Origin
    raise AttributeError(name)
