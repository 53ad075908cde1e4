"""Standard error as a terminal, and what is to be seen there after all that was written."""

from __future__ import annotations

import io
import re

__all__ = ["Terminal"]

_PARTS = re.compile(r"\x1b\[(?P<given>[?0-9;]*)(?P<order>[A-Za-z])|(?P<sign>.)", re.DOTALL)


class Terminal(io.StringIO):
    """A terminal that knows the orders of lines that are drawn again: back, up, to the left, and wipe."""

    def isatty(self) -> bool:
        """It is one."""
        return True

    @property
    def screen(self) -> list[str]:
        """The lines, without colours and without blanks at their ends."""
        lines, row, column = [""], 0, 0
        for part in _PARTS.finditer(self.getvalue()):
            sign, order = part["sign"], part["order"]
            if order == "A":
                row -= int(part["given"] or 1)
            elif order == "K":
                lines[row] = ""
            elif sign == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif sign == "\b":
                column = max(0, column - 1)
            elif sign == "\r":
                column = 0
            elif sign:
                lines[row] = lines[row][:column].ljust(column) + sign + lines[row][column + 1 :]
                column += 1
        return [line.rstrip() for line in lines]
