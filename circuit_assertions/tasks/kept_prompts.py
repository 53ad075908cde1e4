"""Prompts as JSON and back, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from circuit_assertions.tasks.answers import Answers
from circuit_assertions.tasks.metrics import METRICS
from circuit_assertions.tasks.prompts import Prompt, PromptSet

__all__ = ["plain_prompts", "prompts_from"]


def plain_prompts(prompts: PromptSet) -> dict[str, Any]:
    """Prompts as JSON; every prompt one list, in the order of the fields of `Prompt`."""
    return {
        "settings": dict(prompts.settings),
        "prompts": [
            [
                list(one.tokens),
                one.text,
                dict(one.positions),
                *([list(answers.tokens), list(answers.weights)] for answers in (one.right, one.wrong)),
                None if one.counterfactual is None else list(one.counterfactual),
                one.template,
                [list(target) for target in one.targets],
                None if one.repeat is None else list(one.repeat),
                one.metric.name,
                one.before,
            ]
            for one in prompts.prompts
        ],
    }


def prompts_from(plain: Mapping[str, Any]) -> PromptSet:
    """Prompts out of what `plain_prompts` made.

    Raises:
        KeyError, TypeError, ValueError: if it is something else.
    """
    return PromptSet(tuple(_prompt(*one) for one in plain["prompts"]), dict(plain["settings"]))


def _prompt(
    tokens: list[int],
    text: str,
    positions: Mapping[str, int],
    right: tuple[list[int], list[float]],
    wrong: tuple[list[int], list[float]],
    counterfactual: list[int] | None,
    template: str,
    targets: list[list[int]],
    repeat: list[int] | None,
    metric: str,
    before: str,
) -> Prompt:
    places = [(place, token) for place, token in targets]
    first = None if repeat is None else (repeat[0], repeat[1])
    return Prompt(
        tuple(tokens),
        text,
        dict(positions),
        Answers(tuple(right[0]), tuple(right[1])),
        Answers(tuple(wrong[0]), tuple(wrong[1])),
        None if counterfactual is None else tuple(counterfactual),
        template,
        tuple(places),
        first,
        METRICS[metric],
        before,
    )
