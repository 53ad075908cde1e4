"""What can be wrong with a checkpoint, or with the device it should run on."""

from __future__ import annotations

from circuit_assertions import CircuitAssertionsError

_MOST_WORDS = 240  # characters of a library's own message that are passed on


class CheckpointError(CircuitAssertionsError):
    """A checkpoint cannot be read, or must not be."""


class DeviceError(CircuitAssertionsError):
    """The chosen device is not available."""


def reason_of(error: BaseException) -> str:
    """The first sentence of a library's message, which may go on for pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    sentence = lines[0].split(". ")[0].rstrip(".:") if lines else ""
    if not sentence or isinstance(error, KeyError):  # of a KeyError the message is the bare key
        sentence = f"{type(error).__name__} {sentence}".rstrip()
    return sentence if len(sentence) <= _MOST_WORDS else f"{sentence[:_MOST_WORDS]}..."
