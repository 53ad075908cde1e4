"""Expectations that no reading can meet, or that every reading meets: known from the range of the measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from circuit_assertions.assertions.proposed import Proposed
from circuit_assertions.assertions.schema import Expectation
from circuit_assertions.assertions.spelling import Percent
from circuit_assertions.measures import Measure
from circuit_assertions.measures.reading import interval_of_share
from circuit_assertions.tasks import GivenPromptsTask, Task

__all__ = ["bound_problem", "range_problems"]

Told = tuple[tuple[str, ...], str]  # keys below `expect`, and what is wrong


def range_problems(spec: Measure, expect: Expectation, task: Task | None = None) -> Iterator[Told]:
    """What can never hold or never fail of an expectation, whatever the model.

    Args:
        task: what is asked, where it is known: of few prompts no share can be shown to be near 1 or 0.
    """
    ranged = expect.mostly is None or not spec.of_means
    for key, at_least, number in _bounds(expect):
        problem = _unit_problem(spec, number) or (bound_problem(spec, number, at_least) if ranged else "")
        if problem:
            yield key, problem
    if expect.between is not None:
        yield from _between_problems(spec, expect.between, ranged)
    if expect.sign is not None and spec.lowest == 0 and ranged:
        never = "fail" if expect.sign == "positive" else "hold"
        yield ("sign",), f"{spec.name} is never negative, so `sign: {expect.sign}` can never {never}: give a bound"
    if task is not None:
        yield from _too_few_prompts(spec, expect, task)


def bound_problem(spec: Measure, bound: float, at_least: bool) -> str:
    """Why a bound can never hold or never fail for readings of this measure; empty where it can do both."""
    low, high = spec.lowest, spec.highest
    beyond = high is not None and bound > high, low is not None and bound < low
    word = "at-least" if at_least else "at-most"
    if beyond[0] if at_least else beyond[1]:
        never = "hold"
    elif (low is not None and bound <= low) if at_least else (high is not None and bound >= high):
        never = "fail"
    else:
        return ""
    return f"{spec.name} {spec.range_text}: {word} {bound:g} can never {never}{spec.meant(bound)}"


def _bounds(expect: Expectation) -> Iterator[tuple[tuple[str, ...], bool, float]]:
    for key, bound, at_least in (("at-least", expect.at_least, True), ("at-most", expect.at_most, False)):
        if isinstance(bound, Proposed):
            if bound.otherwise is not None:
                yield (key, "otherwise"), at_least, bound.otherwise
        elif bound is not None:
            yield (key,), at_least, bound


def _between_problems(spec: Measure, between: Sequence[float], ranged: bool) -> Iterator[Told]:
    outside = [bound for bound in between if spec.is_outside(bound)]
    unit = next((problem for problem in (_unit_problem(spec, bound) for bound in between) if problem), "")
    if unit:
        yield ("between",), unit
    elif outside and ranged:
        yield ("between",), f"{spec.name} {spec.range_text}: {outside[0]:g} lies outside{spec.meant(outside[0])}"
    elif tuple(between) == (spec.lowest, spec.highest):
        yield ("between",), f"{spec.name} {spec.range_text}: this can never fail"


def _unit_problem(spec: Measure, bound: float) -> str:
    if not isinstance(bound, Percent) or spec.is_share:
        return ""
    return (
        f"{100 * bound:g}% is a share, and {spec.name} is read in {spec.unit}: give a number, or `retains:` for a "
        f"share of the baseline's reading"
    )


def _too_few_prompts(spec: Measure, expect: Expectation, task: Task) -> Iterator[Told]:
    """Shares of prompts that stay open even where every prompt is met, or none is: the interval is Wilson's."""
    prompts = len(task.pairs) if isinstance(task, GivenPromptsTask) else task.prompts
    most, least = interval_of_share(np.ones(prompts)).low, interval_of_share(np.zeros(prompts)).high
    asked: list[tuple[tuple[str, ...], bool, float]] = []
    if expect.mostly is not None:
        asked = [(("mostly",), True, expect.mostly)]
    elif spec.hits:
        asked = [*_bounds(expect)]
        asked += [
            (("between",), at_least, bound)
            for at_least, bound in zip((True, False), expect.between or (), strict=False)
        ]
    for key, at_least, bound in asked:
        if (bound > most if at_least else bound < least) and not spec.is_outside(bound):
            shown = f"above {most:.3f}" if at_least else f"below {least:.3f}"
            yield (
                key,
                f"{prompts} prompts can never show that a share is {shown}, so {bound:g} can never hold: use more "
                "prompts, or another bound",
            )
