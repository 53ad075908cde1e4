"""Open any checkpoint safely, name it, fingerprint it.

`sources` and `safety` read nothing but file names and JSON, so that a wrong path is refused before anything heavy is
imported; `opening` is the only module here that imports torch, transformers and TransformerLens, and is therefore
imported where it is used and not here.
"""

from __future__ import annotations

from circuit_assertions.checkpoints.errors import CheckpointError, DeviceError
from circuit_assertions.checkpoints.settings import Opening, Permissions
from circuit_assertions.checkpoints.sources import Checkpoint, find_checkpoints, step_of
from circuit_assertions.checkpoints.weights import fingerprint

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "DeviceError",
    "Opening",
    "Permissions",
    "find_checkpoints",
    "fingerprint",
    "step_of",
]
