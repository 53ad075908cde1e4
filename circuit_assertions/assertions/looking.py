"""Judge an assertion at look after look, until it is decided or its prompts are used up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from circuit_assertions.assertions.planned import NotApplicable, PlannedAssertion
from circuit_assertions.assertions.verdicts import Judgement, Verdict

__all__ = ["over_looks"]

_Judging = Callable[[PlannedAssertion], Judgement | NotApplicable]


def over_looks(looks: Sequence[PlannedAssertion], judge: _Judging) -> Judgement | NotApplicable:
    """The judgement of the first look that decides, else of the last.

    Args:
        judge: judges the assertion on the prompts of one look.
    """
    judged = judge(looks[0])
    for look in looks[1:]:
        if isinstance(judged, NotApplicable) or judged.verdict is not Verdict.UNRESOLVED or judged.short:
            break
        later = judge(look)
        if isinstance(later, Judgement) and later.short and later.verdict is Verdict.UNRESOLVED:
            later = replace(judged, short=later.short)
        judged = later
    if isinstance(judged, NotApplicable) or len(looks) == 1:
        return judged
    return replace(judged, budget=looks[-1].task.count)
