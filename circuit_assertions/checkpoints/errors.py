"""What can be wrong with a checkpoint, or with the device it should run on."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError


class CheckpointError(CircuitAssertionsError):
    """A checkpoint cannot be read, or must not be."""


class DeviceError(CircuitAssertionsError):
    """The device that was asked for is not there."""
