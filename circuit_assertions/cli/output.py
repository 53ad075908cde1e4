"""What a verb prints on standard output, and its exit code where that cannot be written."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.printable import printable_output

__all__ = ["CUT_OFF", "Outcome", "hush", "open_streams", "printed", "say"]

CUT_OFF = 141  # what a shell says of a program that a closed pipe ended: 128 + SIGPIPE


@dataclass(frozen=True)
class Outcome:
    """What a verb found: all that it prints, and its exit code. The code is known before anything is printed."""

    text: str
    code: int = 0


def open_streams() -> None:
    """Make standard output fit for any text, and standard error for being closed.

    Raises:
        CircuitAssertionsError: if there is no standard output.
    """
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (for as long as the program runs)
    if sys.stdout is None:
        raise CircuitAssertionsError("there is no standard output to print on: leave it open, or send it to a file")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may hold what the terminal's encoding has no letter for.
        sys.stdout.reconfigure(errors="backslashreplace")


def say(outcome: Outcome) -> int:
    """Print what a verb found. Returns its exit code, also where the reader has gone: `... | head` has seen enough.

    Raises:
        CircuitAssertionsError: if it cannot be printed.
    """
    try:
        if outcome.text:
            print(printable_output(outcome.text))
        sys.stdout.flush()
    except BrokenPipeError:
        hush(sys.stdout)
    except OSError as error:
        hush(sys.stdout)
        raise CircuitAssertionsError(f"standard output cannot be written: {error.strerror}") from error
    return outcome.code


def printed(lines: Iterable[tuple[str, str]]) -> str:
    """The text of (text, verdict) lines, in the colours of standard output if it shows any."""
    from circuit_assertions.report.colours import colours_of, in_colour

    return "\n".join(in_colour(lines, colours_of(sys.stdout)))


def hush(*streams: TextIO) -> None:
    """Let what these still hold go nowhere: Python flushes them once more when it ends, and fails where that does."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
