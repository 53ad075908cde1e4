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
        suffix: of files that `--circuit-report=FILE` writes in it, `.html`; empty where it writes none.
        shows_circuits: whether it shows head effects and attention, which are read for it then.
    """

    name: str
    help: str
    render: Callable[[AuditResult], str]
    suffix: str = ""
    shows_circuits: bool = False
