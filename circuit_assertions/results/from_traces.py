"""The result of the `traces` verb, from what was found."""

from __future__ import annotations

from circuit_assertions.results.base import PolicyUsed
from circuit_assertions.results.traces import CausalResult, ReadOutResult, SteeredResult, TokenRaised, TracesResult
from circuit_assertions.results.values import CheckpointFacts, Figure
from circuit_assertions.tuning.causal import CausalShare
from circuit_assertions.tuning.domain import overlap
from circuit_assertions.tuning.readouts import ReadOut
from circuit_assertions.tuning.tracing import Tracing

__all__ = ["traces_result"]

_SHOWN = 20  # tokens of a read-out


def traces_result(found: Tracing) -> TracesResult:
    """What was found, as a typed result."""
    asked, difference, opened = found.asked, found.difference, found.audit.opened
    steered = found.steered
    return TracesResult(
        policy=PolicyUsed.of(found.policy),
        model=CheckpointFacts.of(asked.model, opened(asked.model)),
        baseline=CheckpointFacts.of(asked.baseline, opened(asked.baseline)),
        texts=len(found.tokens),
        given=asked.text is not None,
        layer=difference.layer,
        strength=Figure.of(difference.strength),
        halves=difference.halves,
        by_layer=tuple(tuple(row) for row in difference.by_layer.tolist()),
        verdict=found.verdict,
        why=found.why,
        read_outs=tuple(_read_out(found, one) for one in found.read_outs),
        steered=None
        if steered is None
        else SteeredResult(
            strength=steered.strength,
            losses=steered.losses,
            texts=tuple(zip(steered.plain, steered.steered, strict=True)),
        ),
        causal=tuple(map(_causal, found.causal)),
        domain_words=found.domain_words,
    )


def _read_out(found: Tracing, one: ReadOut) -> ReadOutResult:
    decode = found.audit.model(found.asked.baseline).source.tokenizer.decode
    chosen = one.found.top(_SHOWN)
    texts = [decode([token]) for token in chosen]
    known = set(overlap(texts, found.domain_words))
    return ReadOutResult(
        by=one.by,
        length=one.length,
        tokens=tuple(
            TokenRaised(
                token=text,
                over_random=float(one.found.over_random[token]),
                over_differences=float(one.found.over_differences[token]),
                of_domain=text in known,
            )
            for token, text in zip(chosen, texts, strict=True)
        ),
        height=one.found.height,
        peak=one.found.peak,
        chance=one.found.chance,
    )


def _causal(one: CausalShare) -> CausalResult:
    return CausalResult(
        of=one.of,
        tokens=one.tokens,
        loss=one.whole,
        baseline_loss=one.baseline,
        added=Figure.of(one.added),
        random=float(one.random.mean()),
        differences=float(one.differences.mean()),
        above=one.above,
    )
