"""What an output is: a format that the result of an audit is written in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from circuit_assertions.results import AuditResult

__all__ = ["Output"]


@dataclass(frozen=True)
class Output:
    """A format of a file about an audit.

    Attributes:
        name: what `--circuit-output=NAME:FILE` calls it, a word in kebab-case.
        help: what the file holds, in a few words.
        render: the text of the file, made of the result alone.
    """

    name: str
    help: str
    render: Callable[[AuditResult], str]
