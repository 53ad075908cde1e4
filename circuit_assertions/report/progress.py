"""Progress on long readings: two seconds of silence, then a few words that are overwritten, and wiped at the end.

Where output is no terminal, a line of its own every half minute, so that a log shows that work goes on. The words are
for pytest, whose own line they leave as it is; on the command line's terminal `live_progress` shows a bar.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from circuit_assertions.printable import printable

__all__ = ["Progress"]

_BACK = "\b"
_PATIENCE = 2.0  # seconds without a word
_BETWEEN_LINES = 30.0  # seconds between lines that stay


@dataclass
class Progress:
    """Shows how far a reading has come.

    Attributes:
        stream: where to write.
        live: whether a line can be overwritten there.
        whole: whether many readings are one piece of work, whose clock runs from `begin` to `end`.
    """

    stream: TextIO
    live: bool
    whole: bool = False
    clock: Callable[[], float] = time.monotonic
    _started: float | None = None
    _said: float = field(default=float("-inf"))
    _width: int = 0

    def begin(self) -> None:
        """Start the clock before the first reading."""
        self._started = self.clock()

    def end(self) -> None:
        """Wipe the line, and be patient again with what follows."""
        self._wipe()
        self._started, self._said = None, float("-inf")

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say that `done` of `total` prompts, or others, are read. The last call wipes the line, but of a whole."""
        now = self.clock()
        if self._started is None:
            self._started = now
        finished = done >= total and not self.whole
        if now - self._started >= _PATIENCE and not finished:
            self._say(what, done, total, now)
        if finished:
            self.end()

    def of_run(self, done: int, total: int, what: str = "checkpoints") -> None:
        """Say how many of a run's checkpoints, or others, were read. Here what is read says it too."""

    def _say(self, what: str, done: int, total: int, now: float) -> None:
        assert self._started is not None
        text = printable(f"reading {what}: {done} of {total}, {now - self._started:.0f} s")
        if self.live:
            # Behind whatever stands on the line already, with the cursor back where it was: that is pytest's.
            self._width = max(self._width, len(text))
            self.stream.write(f"{text.ljust(self._width)}{_BACK * self._width}")
        elif now - self._said >= _BETWEEN_LINES:
            self.stream.write(f"\n{text}\n")
            self._said = now
        self.stream.flush()

    def _wipe(self) -> None:
        if self.live and self._width:
            self.stream.write(f"{' ' * self._width}{_BACK * self._width}")
            self.stream.flush()
        self._width = 0
