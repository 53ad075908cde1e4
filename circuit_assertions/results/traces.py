"""The result of the `traces` verb: what a fine-tuning left in activations on unrelated text."""

from __future__ import annotations

from typing import Literal

from circuit_assertions.results.base import Part, Result
from circuit_assertions.results.values import CheckpointFacts, Figure

__all__ = ["CausalResult", "ReadOutResult", "SteeredResult", "TokenRaised", "TracesResult"]


class TokenRaised(Part):
    """A token that the mean difference raises.

    Attributes:
        over_random, over_differences: how far it stands out, in standard deviations of random directions and of
            differences of two activations.
        of_domain: whether it is one of the domain's words.
    """

    token: str
    over_random: float
    over_differences: float
    of_domain: bool = False


class ReadOutResult(Part):
    """The tokens that stand out most by one read-out.

    Attributes:
        length: of what Patchscope put in, in typical norms; 0 for others.
        height: how far the first token stands out, and `peak` how far it lies above the direction's other tokens: as
            multiples of what is typical of random directions.
        chance: the share of random directions that are as high and as peaked.
    """

    by: str
    length: float
    tokens: tuple[TokenRaised, ...]
    height: float
    peak: float
    chance: float


class SteeredResult(Part):
    """Texts without and with the mean difference added.

    Attributes:
        strength: in natural spreads; 0 if no strength was coherent.
        losses: of the texts without and with it, by the model's own loss, in nats a token.
        texts: pairs of texts without and with it.
    """

    strength: float
    losses: tuple[float, float]
    texts: tuple[tuple[str, str], ...]


class CausalResult(Part):
    """What the tuned model loses on one text when the mean difference is projected out, in nats a token.

    Attributes:
        of: `domain` or `ordinary`.
        loss, baseline_loss: of the tuned model as it is, and of the baseline.
        random, differences: mean of what random directions and differences of two activations cost.
        above: the share of these that cost less than the mean difference.
    """

    of: str
    tokens: int
    loss: float
    baseline_loss: float
    added: Figure
    random: float
    differences: float
    above: float


class TracesResult(Result):
    """Whether a fine-tuning left a trace.

    Attributes:
        texts: unrelated texts; `given` tells whether a person gave them.
        layer: the block after which is read.
        strength: norm of the mean difference, in natural spreads; `halves` the same of the difference between halves.
        by_layer: the strength after each block, by position.
        verdict: a word of `TraceVerdict`, and `why` it is said.
        domain_words: the words of the domain that are over-represented most.
    """

    kind: Literal["traces"] = "traces"
    model: CheckpointFacts
    baseline: CheckpointFacts
    texts: int
    given: bool
    layer: int
    strength: Figure
    halves: float
    by_layer: tuple[tuple[float, ...], ...]
    verdict: str
    why: str
    read_outs: tuple[ReadOutResult, ...] = ()
    steered: SteeredResult | None = None
    causal: tuple[CausalResult, ...] = ()
    domain_words: tuple[str, ...] = ()
