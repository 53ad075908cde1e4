"""Progress: silent when work is short, one line when it is long, nothing left behind."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from circuit_assertions.report import Progress

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
