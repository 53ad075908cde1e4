"""What measures of knocked-out heads share: their operands, and how their prompts are told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from circuit_assertions.measures.operands import OfASet

__all__ = ["ABLATED", "BIASED", "HALVES", "SEARCHED", "SHARE", "Ablated", "Ablation"]

Ablation = Literal["mean", "resample", "zero"]

SHARE = "share of the logit difference"
ABLATED = "what ablated heads put out"
SEARCHED = "how the subset K of incompleteness and minimality is searched"
HALVES = "on every other prompt of each template, and read on the others; with fewer than 32 prompts on the same ones, "
BIASED = f"{HALVES}which biases it upwards"


class Ablated(OfASet):
    """A set of heads, and what replaces the output of ablated heads."""

    ablation: Ablation = Field("mean", description=ABLATED)
