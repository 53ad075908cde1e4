"""Reports: the results of an audit as text. Terminal text is plain; colour is added where it is printed."""

from __future__ import annotations

from circuit_assertions.report.explaining import explain
from circuit_assertions.report.listing import measures_listing, prompts_listing, tasks_listing
from circuit_assertions.report.progress import Progress
from circuit_assertions.report.summary import summary_lines

__all__ = ["Progress", "explain", "measures_listing", "prompts_listing", "summary_lines", "tasks_listing"]
