"""Traces of narrow fine-tuning: what the mean activation difference on unrelated text says of a fine-tuning.

After Minder et al. (arXiv 2510.13900): narrow fine-tuning moves the activations on any text in a direction that tells
its domain. Only the model and its baseline are asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.sides import check_fit
from circuit_assertions.measures.figures import Array, number
from circuit_assertions.policy import Policy
from circuit_assertions.tasks.encoding import BosPolicy
from circuit_assertions.tuning.causal import CausalShare, causal_share
from circuit_assertions.tuning.differing import Difference, between, middle_layer
from circuit_assertions.tuning.domain import over_represented
from circuit_assertions.tuning.errors import TuningError
from circuit_assertions.tuning.readouts import ReadOut, read_out
from circuit_assertions.tuning.steered import Steered, steer
from circuit_assertions.tuning.texts import as_texts, ordinary_text
from circuit_assertions.verdict_words import TraceVerdict

__all__ = ["FIRST", "Asked", "Tracing", "against", "difference_of", "trace"]

FIRST = 1  # the position at the start that is not read: a BOS token, or where attention rests without one
_DOMAIN_WORDS = 50
_LOSS_LENGTH = 64  # tokens of a row whose loss is read


@dataclass(frozen=True)
class Asked:
    """What is asked.

    Attributes:
        text: unrelated text; None for text that the baseline writes.
        domain: text of what the model may have been trained on; None for none.
        causal: whether the causal share is read.
        layer: the block after which is read; None for the middle one.
        steered: whether texts are written with a trace added.
    """

    model: Checkpoint
    baseline: Checkpoint
    text: str | None = None
    domain: str | None = None
    causal: bool = False
    layer: int | None = None
    steered: bool = True
    tell: Callable[[str, int, int], None] = lambda what, done, total: None


@dataclass(frozen=True)
class Tracing:
    """What was found.

    Attributes:
        tokens: the texts that the mean difference was taken over [texts, positions].
        why: the verdict in one sentence.
        read_outs: empty where nothing differs.
        domain_words: the words that the domain has more often than the unrelated text.
    """

    asked: Asked
    difference: Difference
    tokens: Array
    verdict: TraceVerdict
    why: str
    policy: Policy
    audit: Audit
    read_outs: tuple[ReadOut, ...] = ()
    steered: Steered | None = None
    causal: tuple[CausalShare, ...] = ()
    domain_words: tuple[str, ...] = ()


def difference_of(audit: Audit, asked: Asked) -> tuple[Difference, Array]:
    """The mean difference, and the texts that it was taken over, tokens [texts, positions].

    Raises:
        DiagnosisError: if the checkpoints have different shapes.
        TuningError: if their tokenizers differ, or there is no such layer.
        MeasuringError: if the text is empty or too short.
    """
    check_fit(audit, asked.model, asked.baseline)
    model, baseline = audit.model(asked.model), audit.model(asked.baseline)
    layers = baseline.layout.layers
    layer = middle_layer(layers) if asked.layer is None else asked.layer
    if layer >= layers:
        raise TuningError(f"{asked.model} has no layer {layer}: it has {layers}, from 0")
    policy = audit.policy
    tokens = _text(audit, asked, asked.text, policy.trace_texts, policy.trace_positions + FIRST)
    _check_tokenizers(audit, asked, tokens)
    return between(model, baseline, tokens, FIRST, layer, asked.tell), tokens


def trace(audit: Audit, asked: Asked) -> Tracing:
    """Say whether a fine-tuning left a trace of its domain on unrelated text. No checkpoint is changed.

    Raises:
        as `difference_of`; TuningError also if the domain has no words of its own.
    """
    difference, tokens = difference_of(audit, asked)
    words = _domain_words(audit, asked, tokens)
    found = Tracing(asked, difference, tokens, TraceVerdict.NO_TRACE, "", audit.policy, audit, domain_words=words)
    if not difference.direction.any():
        return replace(found, why="the activations of both models are the same")
    baseline, model = audit.model(asked.baseline), audit.model(asked.model)
    found = replace(found, read_outs=read_out(baseline, difference, tokens, audit.policy, asked.tell))
    found = _judged(found)
    if found.verdict is TraceVerdict.TRACE and asked.steered:
        found = replace(found, steered=steer(model, difference, tokens, FIRST, audit.policy, asked.tell))
    return replace(found, causal=tuple(_causal(audit, asked, difference))) if asked.causal else found


def against(strength_low: float, height: float, peak: float, chance: float, policy: Policy) -> str:
    """Why a mean difference is no trace, in one sentence; empty where it is one.

    Args:
        strength_low: the low end of the strength's interval.
        height, peak, chance: of the read-out `added`, as `StandsOut` has them.
    """
    if strength_low <= policy.trace_strength_above:
        return f"the activations are moved by no more than {number(policy.trace_strength_above)} of their spread"
    told = {
        "stands out": (height, policy.trace_height_above),
        "lies above the other tokens": (peak, policy.trace_peak_above),
    }
    for what, (value, bound) in told.items():
        if value <= bound:
            return (
                f"its most raised token {what} {number(value)} times as much as a random direction's, and a trace's "
                f"more than {number(bound)} times"
            )
    if chance > policy.trace_chance_below:
        return f"{chance:.0%} of random directions raise a token as much"
    return ""


def _judged(found: Tracing) -> Tracing:
    strength, out = found.difference.strength, found.read_outs[0].found
    why = against(strength.interval.low, out.height, out.peak, out.chance, found.policy)
    if why:
        return replace(found, why=why)
    return replace(
        found,
        verdict=TraceVerdict.TRACE,
        why=f"on unrelated text the activations are moved by {number(strength.mean)} of their spread, in a direction "
        f"whose most raised token stands out {number(out.height)} times as much as a random direction's",
    )


def _causal(audit: Audit, asked: Asked, difference: Difference) -> list[CausalShare]:
    policy = audit.policy
    models = audit.model(asked.model), audit.model(asked.baseline)
    length = min(_LOSS_LENGTH, models[0].layout.positions)
    rows = -(-policy.trace_causal_tokens // length)
    given = {"domain": asked.domain, "ordinary": asked.text}
    return [
        causal_share(of, models, difference, _text(audit, asked, text, rows, length), policy, asked.tell)
        for of, text in given.items()
        if of == "ordinary" or text is not None
    ]


def _text(audit: Audit, asked: Asked, text: str | None, most: int, length: int) -> Array:
    has_bos = audit.model(asked.baseline).source.tokenizer.bos_token_id is not None
    bos: BosPolicy = "always" if has_bos else "never"
    tokens: Array = ordinary_text(audit, asked.baseline, text, most, length, bos).numpy()
    return tokens


def _check_tokenizers(audit: Audit, asked: Asked, tokens: Array) -> None:
    own, other = (audit.model(one).source.tokenizer for one in (asked.model, asked.baseline))
    texts = list(as_texts(other, tokens, FIRST))
    ids = [one(texts, add_special_tokens=False)["input_ids"] for one in (own, other)]
    if ids[0] != ids[1] or own.get_vocab() != other.get_vocab():
        raise TuningError(
            f"the tokenizer of {asked.model} reads text otherwise than that of {asked.baseline}: give both the right "
            f"one with --tokenizer=path/"
        )


def _domain_words(audit: Audit, asked: Asked, tokens: Array) -> tuple[str, ...]:
    if asked.domain is None:
        return ()
    if not asked.domain.strip():
        raise TuningError("the domain's text is empty: give one with some thousand words")
    text = asked.text
    if text is None:
        text = "\n".join(as_texts(audit.model(asked.baseline).source.tokenizer, tokens, FIRST))
    return tuple(over_represented(asked.domain, text, _DOMAIN_WORDS))
