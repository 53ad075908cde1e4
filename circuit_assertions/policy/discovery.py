"""Thresholds of discovery: whether a model does a task, which heads count, and how stable a circuit is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from circuit_assertions.policy.declaring import Count, Share, Thresholds, threshold

__all__ = ["DiscoveryThresholds"]


class DiscoveryThresholds(Thresholds):
    """Whether there is a circuit, and which heads are in it. What a role requires is in the files of chains."""

    least_rate: Share = threshold(
        0.75,
        "share of prompts",
        "A model does a task if its interval of the share of right answers lies above it.",
        "argument: between guessing (half) and always right",
    )
    undecided_draws: Annotated[int, Field(ge=1, le=64)] = threshold(
        4,
        "times the prompts of the task",
        "More prompts are drawn up to this while it is undecided whether the model does the task.",
        "argument: four times as many prompts halve an interval; a model that is still undecided lies at the bound",
    )
    discovered_prompts: Count = threshold(
        256,
        "prompts",
        "Where the prompts of a task grow, its circuit is found on the first look with so many, or on the last.",
        "argument: the number that `discover` asks by default; the first look of a suite may be too small to find a "
        "circuit by",
    )
    least_effect: Share = threshold(
        0.02,
        "share of the logit difference",
        "A head with a smaller effect is not in the circuit.",
        "argument: dozens of heads with smaller effects would be needed to carry a behaviour; --least-effect changes "
        "it for one discovery",
    )
    exit_share: Annotated[float, Field(gt=0, lt=1)] = threshold(
        0.2,
        "share of the error of a discovery",
        "The chance that a head with a large enough effect leaves the search before all prompts are read.",
        "argument: a small part, so that the intervals of the heads that stay are hardly wider",
    )
    stable_above: Share = threshold(
        0.7,
        "Jaccard index",
        "A circuit whose halves of the prompts agree less than this is reported as unstable.",
        "argument: at 0.7, two circuits of ten heads differ in about two heads each",
    )
    stability_splits: Annotated[int, Field(ge=1, le=100)] = threshold(
        5,
        "splits into halves",
        "The stability of a circuit is the mean of so many splits.",
        "argument: one split of the same prompts gives values from 0.5 to 1.0 for the same circuit",
    )
    proposal_together: Count = threshold(
        1000,
        "intervals",
        "A proposed bound is one that the model itself clears with its interval among so many that hold together.",
        "argument: the assertions, heads and looks of a usual suite, its intervals are at most as wide",
    )
