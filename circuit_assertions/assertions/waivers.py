"""Waivers: an assertion that is known not to hold is still judged, and does not fail the gate until a date."""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from circuit_assertions.tasks.schema import Strict

__all__ = ["PYTEST_MARKS", "Waiver", "refuse_pytest_marks"]

# Marks that pytest itself acts on: with them an assertion would not be judged, or pytest would need arguments.
_OFF = ("xfail", "skip", "skipif")
PYTEST_MARKS = (*_OFF, "usefixtures", "parametrize", "filterwarnings")

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_AS = "write the day as 2027-03-01"


def _day(value: Any) -> datetime.date:
    if isinstance(value, datetime.datetime):
        raise ValueError(f"{value} has a time of day: {_AS}")
    if isinstance(value, datetime.date):
        return value
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is not a date of the calendar ({error}): {_AS}") from None
    raise ValueError(f"{value!r} is not a date: {_AS}")


def _reason(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a waiver needs a reason as text: who accepted this, and why")
    return " ".join(value.split())


class Waiver(Strict):
    """Why an assertion need not hold, and until when."""

    until: Annotated[datetime.date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})] = (
        Field(description="the last day of the waiver: 2027-03-01")
    )
    reason: Annotated[str, BeforeValidator(_reason)] = Field(description="why the assertion need not hold until then")

    def expired(self, today: datetime.date | None = None) -> bool:
        """Whether its last day is over."""
        return (today or datetime.date.today()) > self.until


def refuse_pytest_marks(marks: tuple[str, ...]) -> tuple[str, ...]:
    """The same marks.

    Raises:
        ValueError: if pytest itself acts on one of them.
    """
    for mark in marks:
        if mark in _OFF:
            raise ValueError(
                f"the mark {mark!r} would switch the assertion off: write `waive: {{until: 2027-03-01, reason: "
                f"TEXT}}`, which still judges it and reports it"
            )
        if mark in PYTEST_MARKS:
            raise ValueError(
                f"the mark {mark!r} is used by pytest itself: choose another; marks are for selection by `pytest -m`"
            )
    return marks
