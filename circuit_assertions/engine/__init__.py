"""Exact batched computation on a model: what one forward pass shows, and the exact reading of final rows.

Only this room knows TransformerLens's hook names and module layout. Importing it does not import torch: what needs it
is imported once somebody asks for it, so that errors can be named without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from circuit_assertions.collecting import without_collecting
from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.limits import Limit, LimitError
from circuit_assertions.engine.opened import Opened

if TYPE_CHECKING:
    from circuit_assertions.engine.backends import SlowPatchingWarning, open_patching
    from circuit_assertions.engine.layout import Layout
    from circuit_assertions.engine.model import Model
    from circuit_assertions.engine.pass_cache import PassCache
    from circuit_assertions.engine.passes import Pass, Wanted, run_passes
    from circuit_assertions.engine.readout import Readout

__all__ = [
    "PassCache",
    "Layout",
    "Limit",
    "LimitError",
    "MeasuringError",
    "Model",
    "Opened",
    "Pass",
    "Readout",
    "SlowPatchingWarning",
    "Wanted",
    "open_patching",
    "run_passes",
]

_WHERE = {
    "SlowPatchingWarning": "backends",
    "open_patching": "backends",
    "Layout": "layout",
    "Model": "model",
    "PassCache": "pass_cache",
    "Pass": "passes",
    "Wanted": "passes",
    "run_passes": "passes",
    "Readout": "readout",
}


def __getattr__(name: str) -> Any:
    """What needs torch, once somebody asks for it."""
    if name not in _WHERE:
        raise AttributeError(name)
    with without_collecting():
        return getattr(import_module(f"circuit_assertions.engine.{_WHERE[name]}"), name)
