"""Discovery: find which heads have which role in any checkpoint. Importing it does not import torch."""

from __future__ import annotations

from circuit_assertions.diagnosis.discovery.discovering import Discovery, Stability, discover
from circuit_assertions.diagnosis.discovery.following import UNEXPLAINED, Effect, Followed, Placed
from circuit_assertions.diagnosis.discovery.writing import circuit_content, circuit_file

__all__ = [
    "UNEXPLAINED",
    "Discovery",
    "Effect",
    "Followed",
    "Placed",
    "Stability",
    "circuit_content",
    "circuit_file",
    "discover",
]
