"""What can be read from a model: each measure declared beside its computation, and found by name in `MEASURES`.

Importing it imports no torch; what computes does so once a model is there.
"""

from __future__ import annotations

from circuit_assertions.measures.declaring import Measure
from circuit_assertions.measures.reading import Interval, Reading
from circuit_assertions.measures.receivers import Receiver
from circuit_assertions.measures.registry import MEASURES

__all__ = ["MEASURES", "Interval", "Measure", "Reading", "Receiver"]
