"""Progress on a terminal of the command line, by rich: a bar, the time that passed, and an estimate of what is left.

It appears after two seconds, redraws itself, and is wiped at the end. pytest and logs have `progress` instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TaskID, TextColumn
from rich.progress import Progress as Display
from rich.progress import Task as Shown
from rich.table import Column
from rich.text import Text

from circuit_assertions.printable import printable
from circuit_assertions.report.progress import Progress

__all__ = ["LiveProgress", "can_be_redrawn"]

_PER_SECOND = 4  # redraws; the work needs the processor
_STEADY = 3600.0  # seconds from which the speed is estimated: a checkpoint of a run may take minutes


def can_be_redrawn(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which lines can be drawn again. FORCE_COLOR makes no log one."""
    return stream.isatty() and not Console(file=stream, force_jupyter=False).is_dumb_terminal


class _What(ProgressColumn):
    """What is read, with nothing taken for markup."""

    def render(self, task: Shown) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class _Times(ProgressColumn):
    """How long a piece of work has taken, and how long what is shown may still take."""

    def render(self, task: Shown) -> Text:
        passed = f"{task.get_time() - task.fields['since']:.0f} s"
        left = task.time_remaining
        return Text(passed if left is None else f"{passed}, about {left:.0f} s left")


@dataclass
class LiveProgress(Progress):
    """Shows how far a reading has come and, of a training run, how many of its checkpoints were read."""

    live: bool = True
    _display: Display | None = None
    _shown: dict[str, TaskID] = field(default_factory=dict)  # the lines: `run` and `reading`
    _what: str = ""
    _run: tuple[str, int, int] | None = None

    def of_run(self, done: int, total: int, what: str = "checkpoints") -> None:
        """Say how many of a run's checkpoints, or others, were read."""
        self._run = what, done, total

    def _say(self, what: str, done: int, total: int, now: float) -> None:
        if self._display is None:
            self._display = self._opened()
        if self._run is not None:
            self._line("run", *self._run, new=False)
        self._line("reading", f"reading {what}", done, total, new=what != self._what)
        self._what = what

    def _line(self, name: str, text: str, done: int, total: int, new: bool) -> None:
        assert self._display is not None
        said: dict[str, Any] = {"description": printable(text), "total": total, "completed": done}
        if name not in self._shown:
            self._shown[name] = self._display.add_task(**said, since=self._started)
        elif new:
            self._display.reset(self._shown[name], **said, since=self._started)
        else:
            self._display.update(self._shown[name], **said)

    def _opened(self) -> Display:
        display = Display(
            _What(),  # the one that is cut off where the terminal is narrow
            BarColumn(12, table_column=Column(no_wrap=True)),
            TextColumn("{task.completed:.0f} of {task.total:.0f}", markup=False, table_column=Column(no_wrap=True)),
            _Times(table_column=Column(no_wrap=True)),
            console=Console(file=self.stream, force_terminal=True, force_interactive=True, force_jupyter=False),
            get_time=self.clock,
            refresh_per_second=_PER_SECOND,
            speed_estimate_period=_STEADY,
            transient=True,
            redirect_stdout=False,
        )
        display.start()
        return display

    def _wipe(self) -> None:
        if self._display is not None:
            self._display.stop()
        self._display, self._what = None, ""
        self._shown.clear()
