"""The result of an audit as JSON."""

from __future__ import annotations

from circuit_assertions.report.output import Output
from circuit_assertions.results import AuditResult

__all__ = ["JSON"]


def _render(result: AuditResult) -> str:
    return result.to_json() + "\n"


JSON = Output("json", "every assertion with its readings, the diagnoses, and the gate", _render, suffix=".json")
