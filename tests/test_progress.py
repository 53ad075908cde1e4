"""Progress: silent when work is short, one line when it is long, nothing left behind."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from said import says
from terminal_screen import Terminal

from circuit_assertions.printable import printable
from circuit_assertions.report import Progress
from circuit_assertions.report.live_progress import LiveProgress, can_be_redrawn

WORK = "ioi on here"


def told(live: bool, times: list[float]) -> str:
    """What is written when one reading reports at these times, the last of them being its end."""
    clock: Iterator[float] = iter(times)
    stream = io.StringIO()
    progress = Progress(stream, live, clock=lambda: next(clock))
    for done, _ in enumerate(times[:-1]):
        progress(WORK, done, len(times) - 1)
    progress(WORK, len(times) - 1, len(times) - 1)
    return stream.getvalue()


@pytest.mark.parametrize("live", [True, False])
def test_nothing_is_said_of_work_that_takes_less_than_two_seconds(live: bool) -> None:
    assert told(live, [0.0, 0.9, 1.9, 1.99]) == ""


def test_a_terminal_shows_it_in_place_and_wipes_it() -> None:
    said = told(True, [0.0, 3.0, 4.0, 5.0])
    first, second = (f"reading {WORK}: 1 of 3, 3 s", f"reading {WORK}: 2 of 3, 4 s")
    back = "\b" * len(first)
    assert said == f"{first}{back}{second}{back}{' ' * len(first)}{back}"


def test_a_log_gets_a_line_every_half_minute() -> None:
    lines = told(False, [0.0, 3.0, 10.0, 20.0, 34.0, 50.0, 51.0]).split()
    assert lines.count("reading") == 2


def test_each_reading_is_given_its_own_two_seconds() -> None:
    clock = iter([0.0, 3.0, 3.5, 100.0, 101.0])
    stream = io.StringIO()
    progress = Progress(stream, True, clock=lambda: next(clock))
    for done, total in ((0, 2), (1, 2), (2, 2)):
        progress("first", done, total)
    stream.truncate(0)
    progress("second", 0, 2)
    progress("second", 1, 2)
    assert "second" not in stream.getvalue()


def test_a_piece_of_work_of_many_readings_has_one_clock_and_one_line() -> None:
    clock = iter([0.0, 1.0, 1.9, 2.5, 3.0])
    stream = io.StringIO()
    progress = Progress(stream, True, whole=True, clock=lambda: next(clock))
    progress.begin()
    progress("ioi, behaviour", 0, 9)
    progress("ioi, behaviour", 9, 9)
    assert stream.getvalue() == ""
    progress("ioi, step 1", 0, 9)
    progress("ioi, step 1", 9, 9)
    shown = "reading ioi, step 1: 9 of 9, 3 s"
    assert stream.getvalue().endswith(shown + "\b" * len(shown))
    progress.end()
    assert stream.getvalue().endswith(" " * len(shown) + "\b" * len(shown))


def test_in_a_log_it_says_a_line_every_half_minute_whatever_the_number_of_readings() -> None:
    clock = iter([0.0, *(float(second) for second in range(3, 63, 2))])
    stream = io.StringIO()
    progress = Progress(stream, False, whole=True, clock=lambda: next(clock))
    progress.begin()
    for _ in range(15):
        progress("ioi", 0, 9)
        progress("ioi", 9, 9)
    assert stream.getvalue().count("reading") == 2


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_a_terminal_of_the_command_line_shows_how_long_it_took_and_may_still_take(terminal: Terminal) -> None:
    clock = Clock()
    progress = LiveProgress(terminal, clock=clock)
    for done in range(3):
        clock.now = 10.0 * done
        progress(WORK, done, 8)
    clock.now = 30.0
    progress(WORK, 3, 8)
    assert progress._display is not None
    progress._display.refresh()
    (shown,) = (line for line in terminal.screen if line)
    assert says(shown, f"reading {WORK}", "3 of 8", "30 s", "50 s")
    progress(WORK, 8, 8)
    assert not any(terminal.screen)


def test_the_command_line_is_as_patient(terminal: Terminal) -> None:
    clock = Clock()
    progress = LiveProgress(terminal, clock=clock)
    for done in range(3):
        progress(WORK, done, 2)
        clock.now += 0.9
    assert terminal.getvalue() == ""


def test_a_run_has_a_line_of_its_own_above_the_reading(terminal: Terminal) -> None:
    clock = Clock()
    progress = LiveProgress(terminal, whole=True, clock=clock)
    progress.begin()
    for place in range(4):
        progress.of_run(place, 5)
        for done in range(3):
            clock.now += 10.0
            progress(f"step {place}", done, 2)
    assert progress._display is not None
    progress._display.refresh()
    run, reading = (line for line in terminal.screen if line)
    assert says(run, "3 of 5", "120 s", "60 s")
    assert says(reading, "reading step 3", "2 of 2", "120 s")
    progress.end()
    assert not any(terminal.screen)


@pytest.mark.parametrize("text", ["[/red] [bold]x[/bold]", ":smile: {0}", "a\x1b[2Jb", "\n" * 3, "x" * 500])
def test_nothing_in_what_is_read_is_taken_for_markup_or_breaks_the_line(text: str, terminal: Terminal) -> None:
    clock = Clock()
    progress = LiveProgress(terminal, clock=clock)
    progress(text, 0, 2)
    clock.now = 3.0
    progress(text, 1, 2)
    (shown,) = (line for line in terminal.screen if line)
    assert shown.startswith(f"reading {printable(text)}"[:40])
    assert says(shown, "1 of 2")
    progress.end()


def test_lines_are_drawn_again_on_terminals_alone(monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> None:
    assert can_be_redrawn(terminal)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not can_be_redrawn(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not can_be_redrawn(terminal)
