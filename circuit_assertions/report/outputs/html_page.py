"""A report as one HTML page."""

from __future__ import annotations

from circuit_assertions.report.output import Output
from circuit_assertions.results import AuditResult

__all__ = ["HTML"]


def _render(result: AuditResult) -> str:
    from circuit_assertions.report.page import page

    return page(result)


HTML = Output(
    "html", "a page with verdicts, diagnosis, head maps and attention", _render, suffix=".html", shows_circuits=True
)
