"""Ordinary text of a run: what a person gives, or what the baseline writes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.tasks.encoding import BosPolicy

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["as_texts", "ordinary_text"]

_SEED = 0


def ordinary_text(
    audit: Audit, baseline: Checkpoint, text: str | None, most: int, length: int, bos: BosPolicy = "tokenizer"
) -> Tensor:
    """Rows of tokens [texts, length].

    Args:
        text: what a person gives; None to let the baseline write. What it writes begins with its BOS token, or with a
            random one where it has none.
        most: how many rows at most; what the baseline writes has as many.
        length: tokens of a row; fewer where the model reads fewer.
        bos: whether text that a person gives begins with a BOS token.

    Raises:
        MeasuringError: if the text is empty or too short.
    """
    from circuit_assertions.checkpoints.opening import open_copy
    from circuit_assertions.engine.ordinary import sampled_text, tokens_of_text
    from circuit_assertions.tasks.encoding import Encoder

    model = audit.model(baseline)
    tokenizer, length = model.source.tokenizer, min(length, model.layout.positions)
    if text is not None:
        return tokens_of_text(text, tokenizer, length, most, bos)
    ordinary, drawn = Encoder(tokenizer, "never").ordinary_tokens(), random.Random(_SEED)
    begin = tokenizer.bos_token_id
    first = [[drawn.choice(ordinary) if begin is None else begin] for _ in range(most)]
    return sampled_text(open_copy(baseline, audit.opening), first, length, _SEED)


def as_texts(tokenizer: Any, rows: Iterable[Any], first: int) -> tuple[str, ...]:
    """Rows of tokens as text, each from its position `first` on."""
    return tuple(tokenizer.decode(row[first:].tolist()) for row in rows)
