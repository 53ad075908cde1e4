"""Orders by measured values that rounding does not decide.

Sums in another order (more threads, another machine) move a value's last digits. What differs by no more than these is
level, and level things stay in the order in which they came: that of the model, or of their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = ["ranked"]

_DIGITS = 5  # of the largest value, to which values are told apart
_LARGEST = 0.01  # what the largest counts as at least: where all are smaller, their last digits are rounding

_One = TypeVar("_One")


def ranked(items: Iterable[_One], value: Callable[[_One], float], decimals: int | None = None) -> list[_One]:
    """Items by their values, the largest first; level ones in the order in which they come.

    Args:
        decimals: those that the values are printed with, so that what prints alike is level; None where values are not
            printed beside the items, for those that differ by less than 0.001 % of the largest.
    """
    known = list(items)
    values = [float(value(one)) for one in known]
    largest = max([_LARGEST, *map(abs, values)])
    levels = [round(one / largest, _DIGITS) if decimals is None else round(one, decimals) for one in values]
    return [known[place] for place in sorted(range(len(known)), key=lambda place: -levels[place])]
