"""What the report of a test carries of the audit: the typed results, as JSON in one attribute.

Attributes of reports cross pytest-xdist. JUnit files get the same results without the values of single prompts.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from circuit_assertions.results import AssertionResult, Reported

__all__ = ["attach", "junit_properties", "note", "reported_by"]

_NOTED = pytest.StashKey[Reported]()
_ATTRIBUTE = "circuit_audit"
_FEW = 8  # reports whose results are kept parsed: every hook of one report asks for them


def note(item: pytest.Item, **known: Any) -> None:
    """Note what is now known of an item, in place of what was known: fields of `Reported`."""
    item.stash[_NOTED] = item.stash.get(_NOTED, Reported()).model_copy(update=known)


def attach(item: pytest.Item, report: pytest.TestReport) -> None:
    """Give a report what was noted of its item. The values of single prompts go with the call alone."""
    noted = item.stash.get(_NOTED, None)
    if noted is not None:
        sent = noted if report.when == "call" else noted.without_values()
        report.__dict__[_ATTRIBUTE] = sent.model_dump_json()


def reported_by(report: pytest.TestReport) -> Reported | None:
    """What a report says of the audit; None where it is about something else."""
    text = getattr(report, _ATTRIBUTE, None)
    return None if text is None else _read(text)


@functools.lru_cache(maxsize=_FEW)
def _read(text: str) -> Reported:
    return Reported.model_validate_json(text)


def junit_properties(reported: Reported) -> list[tuple[str, str]]:
    """What JUnit files show of it, as (name, JSON) pairs."""
    plain = reported.without_values().model_dump(mode="json")
    properties: dict[str, Any] = {}
    if plain["assertions"] and reported.of_suite:
        (properties["circuit_assertion"],) = plain["assertions"]
        properties |= _figures_of(reported.assertions[0])
    elif plain["assertions"]:
        properties["circuit_expectations"] = plain["assertions"]
    if reported.model is not None:
        properties["circuit_model"] = plain["model"]
    if reported.limit is not None:
        properties["circuit_limit"] = plain["limit"]
    if reported.reason:
        properties["circuit_error"] = reported.reason
    return [(name, json.dumps(value)) for name, value in properties.items()]


def _figures_of(line: AssertionResult) -> dict[str, float | int]:
    """What was read, as properties of their own whose values are numbers, for tools that draw them over runs."""
    if not line.rows:
        return {}
    figure, before = line.rows[0].figure, line.rows[0].baseline
    found: dict[str, float | int] = {
        "circuit_mean": figure.mean,
        "circuit_low": figure.low,
        "circuit_high": figure.high,
    }
    if before is not None:
        found["circuit_baseline"] = before
    if line.reading is not None:
        found["circuit_prompts"] = line.reading.prompts
    return found
