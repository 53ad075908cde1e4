"""A report as one HTML page that needs nothing else: no network, no other file.

Whatever comes from a checkpoint or a suite is text: Jinja escapes it, and control characters are shown as escapes. The
page's policy lets the browser run its own script alone, by its hash, so that nothing else could run if it got in.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.printable import printable
from circuit_assertions.report.page.attention import attention_of
from circuit_assertions.report.page.diagnosis import diagnoses_worst_first, diagnosis_view
from circuit_assertions.report.page.maps import map_group, map_styles
from circuit_assertions.report.page.rows import rows_of
from circuit_assertions.report.page.runs import runs_of
from circuit_assertions.report.page.words import glossary_of, settings_of
from circuit_assertions.report.verdict_sentence import WORST_FIRST, counts_sentence, gate_sentence, tone_of, worst_first
from circuit_assertions.results import AssertionResult, AuditResult

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["MOST_BYTES", "PageError", "page"]

MOST_BYTES = 6_000_000
_FOLDER = "templates"


class PageError(CircuitAssertionsError):
    """A report that does not fit into one page."""


@dataclass(frozen=True)
class _Detail:
    """How much a page shows.

    Attributes:
        heads: of each assertion.
        circuits: whose maps and attention are shown; None for all.
        assertions: the worst ones; None for all.
    """

    heads: int
    circuits: int | None = None
    assertions: int | None = None


_DETAILS = (_Detail(10), _Detail(3, circuits=8), _Detail(1, circuits=2), _Detail(1, circuits=1, assertions=1000))


def page(result: AuditResult) -> str:
    """The page. What is too much for one page of 6 MB is left out, and the page reports it.

    Raises:
        PageError: if even the least is larger.
    """
    for detail in _DETAILS:
        text = _rendered(result, detail)
        if len(text.encode("utf-8")) <= MOST_BYTES:
            return text
    raise PageError(f"the report is larger than {MOST_BYTES // 1_000_000} MB: audit fewer models in one run")


def _rendered(result: AuditResult, detail: _Detail) -> str:
    script, style = _read("report.js"), _read("report.css") + map_styles()
    diagnoses = diagnoses_worst_first(result.diagnoses)
    places = {(one.model, one.circuit): place for place, one in enumerate(diagnoses)}
    circuits = sorted(result.circuits, key=lambda one: places.get((one.model, one.circuit), len(places)))
    circuits = circuits[: detail.circuits]
    groups = [group for shown in circuits if (group := map_group(shown)) is not None]
    lines = worst_first(result.assertions)[: detail.assertions]
    rows = rows_of(lines, detail.heads)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            sentence=gate_sentence(result),
            counts=counts_sentence(result),
            tone="good" if result.gate.passed else "bad",
            diagnoses=[diagnosis_view(found) for found in diagnoses],
            maps=groups,
            attention=[view for shown in circuits if (view := attention_of(shown)) is not None],
            not_shown=[(shown, text) for shown in circuits for text in shown.left_out],
            runs=runs_of(result),
            rows=rows,
            verdicts=_verdicts(result.assertions),
            several=len({line.model for line in result.assertions}) > 1,
            compared=any(row.before is not None for row in rows),
            left_out=list(_left_out(result, detail)),
            glossary=glossary_of(result),
            settings=settings_of(result),
            script=script,
            style=style,
            script_hash=_hash(script),
            style_hash=_hash(style),
        )
    )


def _verdicts(lines: Sequence[AssertionResult]) -> list[tuple[str, str, int]]:
    """Verdict, tone and count of each that occurs, the worst first."""
    counts = {word: sum(line.counted == word for line in lines) for word in WORST_FIRST}
    return [(word, tone_of(word), count) for word, count in counts.items() if count]


def _left_out(result: AuditResult, detail: _Detail) -> list[str]:
    left = []
    if detail.assertions is not None and len(result.assertions) > detail.assertions:
        left.append(f"{len(result.assertions) - detail.assertions} more assertions")
    if detail.circuits is not None and len(result.circuits) > detail.circuits:
        left.append(f"heads and attention of {len(result.circuits) - detail.circuits} more circuits")
    return left


@cache
def _environment() -> Environment:
    from jinja2 import DictLoader, Environment, StrictUndefined

    folder = resources.files("circuit_assertions.report").joinpath(_FOLDER)
    templates = {one.name: one.read_text("utf-8") for one in folder.iterdir() if one.name.endswith(".j2")}
    return Environment(
        loader=DictLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: Any) -> Any:
    """Text with control characters as escapes; markup is this package's own and has been escaped."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


@cache
def _read(name: str) -> str:
    return resources.files("circuit_assertions.report").joinpath(_FOLDER, name).read_text("utf-8")


def _hash(text: str) -> str:
    """A source of a content security policy: the hash of an element's text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"
