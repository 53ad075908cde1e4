"""Exact batched computation on a model: what one forward pass shows, and the exact reading of final rows.

Only this room knows TransformerLens's hook names and module layout.
"""

from __future__ import annotations

from circuit_assertions.engine.choosing import SlowPatchingWarning, open_patching
from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.keeping import KeptPasses
from circuit_assertions.engine.layout import Layout
from circuit_assertions.engine.limits import Limit, LimitError
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.passes import Pass, Wanted, run_passes
from circuit_assertions.engine.readout import Readout

__all__ = [
    "KeptPasses",
    "Layout",
    "Limit",
    "LimitError",
    "MeasuringError",
    "Model",
    "Pass",
    "Readout",
    "SlowPatchingWarning",
    "Wanted",
    "open_patching",
    "run_passes",
]
