"""A report as Markdown."""

from __future__ import annotations

from circuit_assertions.report.output import Output
from circuit_assertions.results import AuditResult

__all__ = ["MARKDOWN"]


def _render(result: AuditResult) -> str:
    from circuit_assertions.report.markdown import markdown

    return markdown(result)


MARKDOWN = Output("md", "verdicts, diagnosis and heads as Markdown tables", _render, suffix=".md", shows_circuits=True)
