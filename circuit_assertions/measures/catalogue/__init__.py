"""The measures by name: operands, unit, what they need from a task, one line of help, and where they come from.

This is what a suite is validated against and what `circuit-assertions measures` prints; nothing here imports torch.
"""

from __future__ import annotations

from circuit_assertions.measures.catalogue.attention import ATTENTION
from circuit_assertions.measures.catalogue.behaviour import BEHAVIOUR
from circuit_assertions.measures.catalogue.circuits import CIRCUITS
from circuit_assertions.measures.catalogue.comparing import COMPARING
from circuit_assertions.measures.catalogue.effects import EFFECTS
from circuit_assertions.measures.catalogue.spec import MeasureSpec
from circuit_assertions.measures.catalogue.triage import TRIAGE

__all__ = ["MEASURES", "MeasureSpec"]

MEASURES: dict[str, MeasureSpec] = {
    spec.name: spec for spec in (*BEHAVIOUR, *ATTENTION, *EFFECTS, *CIRCUITS, *COMPARING, *TRIAGE)
}
