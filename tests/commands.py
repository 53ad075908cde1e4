"""A verb of the command line, run inside this process."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Self

from circuit_assertions.cli import main

__all__ = ["Said"]


@dataclass(frozen=True)
class Said:
    """What one run of a command left behind."""

    code: int
    out: str
    err: str

    @classmethod
    def by(cls, *arguments: object) -> Self:
        """Run the command with these arguments, the verb first."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(map(str, arguments)))
        return cls(code, out.getvalue(), err.getvalue())
