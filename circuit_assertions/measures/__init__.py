"""What can be read from a model. The catalogue says what there is and is torch-free; `computing` says how."""

from __future__ import annotations

from circuit_assertions.measures.catalogue import MEASURES, MeasureSpec
from circuit_assertions.measures.reading import Interval, Reading
from circuit_assertions.measures.receivers import Receiver

__all__ = ["MEASURES", "Interval", "MeasureSpec", "Reading", "Receiver"]
