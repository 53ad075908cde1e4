"""Thresholds of the origin of a loss (weights) and of its expression (activations), and how much the searches try."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from circuit_assertions.policy.declaring import Below, Count, Share, Thresholds, threshold
from circuit_assertions.verdict_words import OriginVerdict

__all__ = ["ExpressionThresholds", "OriginThresholds"]

_OF_LOSS = "share of the loss"


class OriginThresholds(Thresholds):
    """LOCALIZED and DIFFUSE."""

    origin_restores: Below = threshold(
        0.9,
        _OF_LOSS,
        "Components are an origin only if the baseline's weights of them restore at least this.",
        "argument: what is left is a tenth of the loss, as in least-lost: of less no origin can be named",
    )
    origin_part_restores: Share = threshold(
        0.03,
        _OF_LOSS,
        "A component belongs to an origin only if it adds at least this to what the others restore.",
        "argument: below the tenth of the loss that origin-restores leaves open, even for three components",
    )
    origin_part_of_behaviour: Share = threshold(
        0.02,
        "share of the baseline's behaviour",
        "A component belongs to an origin only if it adds at least this to what the others restore.",
        "argument: the size of an effect that counts (negligible-effect): where little is lost, any fine-tuning moves "
        "some share of it",
    )
    origin_few: Below = threshold(
        0.1,
        "share of all components",
        f"An origin of more components than this is not {OriginVerdict.LOCALIZED}.",
        "argument: few enough to be inspected and grafted; larger sets restore much by their size",
    )
    origin_few_at_least: Count = threshold(
        4,
        "components",
        f"An origin of so many components is {OriginVerdict.LOCALIZED} in models with few components too.",
        "argument: the heads of one layer of a small model",
    )
    origin_random_below: Below = threshold(
        0.5,
        "share of origin-restores",
        f"An origin is {OriginVerdict.LOCALIZED} only if random sets of as many components of the same kinds "
        "restore less than this.",
        "argument: if half of it is restored by chance, the components that were found are not special",
    )
    origin_tried: Count = threshold(
        24,
        "components",
        "So many of the components that differ are tried one by one: those that matter most to first order.",
        "argument: twice origin-removable, so that a component which first order ranks too low is still tried",
    )
    origin_removable: Count = threshold(
        12,
        "components",
        "A set is found by removing components from so many, where these restore enough together.",
        "argument: removing finds components that work only together; its cost grows with the square of their number",
    )
    origin_random_sets: Annotated[int, Field(ge=1, le=1000)] = threshold(
        10,
        "sets",
        "What random sets restore is the mean of so many.",
        "argument: the mean is compared with a bound far from it; ten sets are enough for that",
    )


class ExpressionThresholds(Thresholds):
    """Which outputs of the baseline restore the behaviour."""

    expression_restores: Below = threshold(
        0.9,
        _OF_LOSS,
        "The smallest set of outputs whose interval lies above it is reported.",
        "argument: the bound of origin-restores, so that origin and expression can be compared",
    )
    expression_prompts: Count = threshold(
        96,
        "prompts",
        "Outputs are transplanted on at most so many prompts: a third searches, a third chooses, a third reports.",
        "argument: twice the fewest prompts of a mean in each third; transplants are many, and the intervals of their "
        "shares are narrow (docs/lab.md)",
    )
    expression_all: Count = threshold(
        40,
        "components",
        "In models with at most so many heads and MLPs, each is tried one by one.",
        "argument: more than the 25 of the embedded model, and affordable",
    )
    expression_tried: Annotated[int, Field(ge=0, le=1_000_000)] = threshold(
        8,
        "components",
        "In larger models so many are tried one by one: those that matter most to first order.",
        "argument: more than expression-most, so that the best set is not all that was tried",
    )
    expression_most: Count = threshold(
        6,
        "components",
        "A set of outputs has at most so many components.",
        "argument: few enough to be inspected",
    )
