"""Errors that nobody foresaw, of a library or of this package, told in one sentence instead of a traceback."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from circuit_assertions import CircuitAssertionsError

__all__ = ["TRACEBACK", "UnexpectedError", "sentence_of", "tell_unexpected", "text_of", "wants_traceback"]

TRACEBACK = "CIRCUIT_ASSERTIONS_TRACEBACK"  # the variable of the environment that shows where an error was raised
_MOST_CHARACTERS = 240


class UnexpectedError(CircuitAssertionsError):
    """An exception of another kind than this package raises, with what was being done.

    Attributes:
        same: what two of them have in common that have the same cause.
    """

    @property
    def same(self) -> str:
        """Class and text of the exception, whatever was being done."""
        return "" if self.__cause__ is None else sentence_of(self.__cause__)


def sentence_of(error: BaseException) -> str:
    """An exception's class and the first line of its text."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def text_of(error: BaseException) -> str:
    """The whole text of an exception in one line; its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def wants_traceback() -> bool:
    """Whether exceptions are to be let through as they are."""
    return os.environ.get(TRACEBACK, "0") not in ("", "0")


@contextlib.contextmanager
def tell_unexpected(what: str) -> Iterator[None]:
    """Turn exceptions of other kinds than this package's into one of its own. Ctrl-C passes through.

    Args:
        what: what cannot be done, by the name of the checkpoint: `path/ cannot be opened`.

    Raises:
        UnexpectedError: with `what`, the exception's class, and its text.
    """
    try:
        yield
    except (CircuitAssertionsError, BrokenPipeError):
        raise
    except Exception as error:
        if wants_traceback():
            raise
        raise UnexpectedError(
            f"{what}: {sentence_of(error)} ({TRACEBACK}=1 shows where it was raised)"
        ) from error.with_traceback(
            None  # its frames would keep the model alive
        )
