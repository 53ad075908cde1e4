"""Discovery: find which heads have which role in any checkpoint. Importing it does not import torch."""

from __future__ import annotations

from circuit_assertions.diagnosis.discovery.circuit_file import circuit_content, circuit_file
from circuit_assertions.diagnosis.discovery.find_circuit import Discovery, Stability, discover
from circuit_assertions.diagnosis.discovery.followed import Effect, Followed, Placed

__all__ = [
    "Discovery",
    "Effect",
    "Followed",
    "Placed",
    "Stability",
    "circuit_content",
    "circuit_file",
    "discover",
]
