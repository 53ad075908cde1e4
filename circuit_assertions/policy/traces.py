"""Thresholds of the traces that a narrow fine-tuning leaves in activations on unrelated text."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from circuit_assertions.policy.declaring import Below, Count, Thresholds, threshold
from circuit_assertions.verdict_words import TraceVerdict

__all__ = ["TraceThresholds"]

_MINDER = "paper: arXiv 2510.13900 (as quoted by others)"
_MEASURED = "measured: docs/traces.md, by `python -m fixtures.traces`"


class TraceThresholds(Thresholds):
    """TRACE, NO TRACE."""

    trace_strength_above: Below = threshold(
        0.02,
        "natural spread of activations",
        f"A mean difference whose interval does not lie above this leaves {TraceVerdict.NO_TRACE}.",
        "argument: a fiftieth of the spread; random noise of a hundredth of the weights moves activations less",
    )
    trace_height_above: Annotated[float, Field(gt=1, le=100)] = threshold(
        1.9,
        "times what is typical of random directions",
        f"A mean difference is a {TraceVerdict.TRACE} only if its most raised token stands out more than this.",
        f"{_MEASURED}: between broad fine-tunes whose peak is large and narrow ones, of other seeds than those that "
        f"report",
    )
    trace_peak_above: Annotated[float, Field(gt=1, le=100)] = threshold(
        1.25,
        "times what is typical of random directions",
        f"A mean difference is a {TraceVerdict.TRACE} only if its most raised token lies further above its other "
        f"tokens than this: a new distribution of many words is none.",
        f"{_MEASURED}: between broad fine-tunes whose height is large and narrow ones, of other seeds than those that "
        f"report",
    )
    trace_chance_below: Annotated[float, Field(gt=0, lt=1)] = threshold(
        0.05,
        "share of directions",
        f"A mean difference is a {TraceVerdict.TRACE} only if at most this share of random directions and of random "
        f"differences of activations is as high and as peaked.",
        "argument: the error rate that is stated for the verdict",
    )
    trace_texts: Annotated[int, Field(ge=16, le=100_000)] = threshold(
        512,
        "texts",
        "The mean difference is taken over so many texts at most.",
        "argument: the difference of two halves is then a few per cent of the mean difference",
    )
    trace_positions: Annotated[int, Field(ge=1, le=1000)] = threshold(
        5, "tokens", "It is read on so many first tokens of each text.", f"{_MINDER}: the first five"
    )
    trace_random: Annotated[int, Field(ge=8, le=100_000)] = threshold(
        64,
        "directions",
        "Read-outs and the causal share are compared with so many random directions, and with so many differences of "
        "two activations.",
        f"{_MINDER}: 64 of each",
    )
    trace_added: Below = threshold(
        0.3,
        "natural spread of activations",
        "Directions are added to the residual stream with this length to see which tokens they raise.",
        "argument: small compared with the spread, so that later blocks react nearly linearly",
    )
    trace_coherent_within: Annotated[float, Field(gt=0, le=10)] = threshold(
        1.0,
        "nats a token",
        "A text is steered as strongly as it loses at most so much more than one that is not steered, by the model's "
        "own loss.",
        "argument: a perplexity of 2.7 times that of the model's own text",
    )
    trace_causal_tokens: Annotated[int, Field(ge=64, le=10_000_000)] = threshold(
        2048,
        "tokens",
        "The causal share is read on so many tokens of the domain, and on so many of ordinary text.",
        "argument: the loss of so many tokens is known to a few hundredths of a nat",
    )
    trace_steps: Count = threshold(
        6,
        "steps",
        "The strength of steering is searched in so many steps, each halving the range of its logarithm.",
        f"{_MINDER}: 12 steps of a linear range up to 100; six steps of a logarithmic one are as fine",
    )
