"""What GitHub Actions shows of an audit beside its log: annotations at lines of suites.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from circuit_assertions.printable import printable
from circuit_assertions.report.page.rows import row_of
from circuit_assertions.results import AssertionResult

__all__ = ["MOST_ANNOTATIONS", "annotation_lines"]

MOST_ANNOTATIONS = 10  # of one kind in one step; GitHub shows no more


def annotation_lines(failing: Iterable[AssertionResult], path_of: Callable[[str], str]) -> Iterator[str]:
    """Workflow commands that show failed assertions where they are written, the first ten.

    Args:
        failing: assertions that fail the gate, the worst first.
        path_of: a suite's file as the repository names it; empty where it is not a file of the repository.
    """
    for line in islice(failing, MOST_ANNOTATIONS):
        row, path = row_of(line, "", 0), path_of(line.suite)
        said = f"{row.read}, expected {row.expected}" if row.read else row.reason
        text = ". ".join(part for part in (f"{row.verdict} on {row.model}: {said}", row.why) if part)
        properties = {"file": path, "line": str(line.line) if path and line.line is not None else "", "title": row.id}
        told = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
        yield f"::error {told}::{_message(text)}"


def _message(text: str) -> str:
    """The escapes of a message; control characters are shown as escapes first, so that no second command begins."""
    return printable(text).replace("%", "%25")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
