"""A checkpoint of which a record has the readings, and whose weights are not opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.measures import Reading
from circuit_assertions.request import Request
from circuit_assertions.shape import Shape
from circuit_assertions.tasks import PromptSet

__all__ = ["Known", "RecordedCheckpoint", "TooFewRecordedError", "WeightsNotGivenError", "recorded_settings"]


class WeightsNotGivenError(CircuitAssertionsError):
    """Something needs the weights of a checkpoint of which there is only a record."""


class TooFewRecordedError(CircuitAssertionsError):
    """A record has a reading of fewer prompts than are needed; the message names the command that makes one of more."""


class Known(NamedTuple):
    """What is known of a checkpoint, opened or recorded.

    Attributes:
        identity: fingerprint, dtype and device, which are written with every reading.
    """

    fingerprint: str
    shape: Shape
    identity: Mapping[str, Any]


class RecordedCheckpoint(Protocol):
    """A checkpoint whose readings come from a record."""

    @property
    def checkpoint(self) -> Checkpoint:
        """What it is called by; never opened."""

    @property
    def known(self) -> Known:
        """What the record says of it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the report."""

    def read(self, request: Request, prompts: PromptSet) -> Reading:
        """The recorded reading of these prompts.

        Raises:
            TooFewRecordedError: if the record has it of fewer prompts.
            CircuitAssertionsError: if it has no such reading, or one of other prompts or settings.
        """


def recorded_settings(then: str, now: str) -> tuple[str, ...]:
    """A note that settings differ which change what a model computes, if the fingerprints of two models show it."""
    if then.partition("-")[2] == now.partition("-")[2]:
        return ()
    return (
        "config.json differs from the baseline's in what changes the function; its record does not have these settings",
    )
