"""The rows of a judged assertion: heads (or the model) with their figures, and the conditions judged on each."""

from __future__ import annotations

from circuit_assertions.results.base import Part
from circuit_assertions.results.values import Figure

__all__ = ["FindingResult", "HeadFinding", "Stratum", "WithoutChat"]


class FindingResult(Part):
    """One condition judged on one row.

    Attributes:
        expected: the condition in words.
        read: what was read, where that is not the row's mean; else empty.
    """

    verdict: str
    expected: str
    read: str = ""


class HeadFinding(Part):
    """One row of a judgement: a head, another component, a mean of heads, or the whole model.

    Attributes:
        name: `L9H9`, `mean of 3 heads`, or empty for measures of the whole model.
        baseline: the mean of the same reading on the baseline.
        amplified: whether it holds and lies far above the baseline.
    """

    name: str
    figure: Figure
    verdict: str
    findings: tuple[FindingResult, ...] = ()
    baseline: float | None = None
    amplified: bool = False


class Stratum(Part):
    """The judgement on the prompts of one kind of template, with its deciding row."""

    verdict: str
    prompts: int
    row: HeadFinding


class WithoutChat(Part):
    """The verdict on the same prompts without their chat template.

    Attributes:
        row: the deciding one; None where they could not be judged.
        reason: why they could not.
    """

    verdict: str
    row: HeadFinding | None = None
    reason: str = ""
