"""Ordinary text: rows of tokens that a model writes itself, or that a person gives, and what a model loses on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.model import Model
from circuit_assertions.tasks.encoding import BosPolicy, Encoder

__all__ = ["losses_of_text", "sampled_text", "tokens_of_text"]

_TOGETHER = 16  # rows of one forward pass


@torch.no_grad()
def sampled_text(model: Any, first: Sequence[Sequence[int]], length: int, seed: int) -> Tensor:
    """Text that a model writes, at temperature 1 [texts, length].

    Args:
        model: of transformers.
        first: the tokens that each text begins with, the same number for all.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([list(one) for one in first], device=device)
    said = model(input_ids=tokens, use_cache=True)
    while tokens.shape[1] < length:
        chances = said.logits[:, -1].double().softmax(dim=1).cpu()
        drawn = torch.multinomial(chances, 1, generator=generator).to(device)
        tokens = torch.cat((tokens, drawn), dim=1)
        if tokens.shape[1] < length:
            said = model(input_ids=drawn, past_key_values=said.past_key_values, use_cache=True)
    return tokens.cpu()


def tokens_of_text(text: str, tokenizer: Any, length: int, most: int, bos: BosPolicy = "tokenizer") -> Tensor:
    """A text as rows of equal length, each with the BOS that the tokenizer puts before a text [texts, length].

    What is left at the end of the text, too short for a row, is not used.

    Args:
        most: how many rows at most.

    Raises:
        MeasuringError: if the text is empty, or too short for two rows.
    """
    prefix = list(Encoder(tokenizer, bos).prefix)
    ids = tokenizer.encode(text, add_special_tokens=False)
    own = length - len(prefix)
    rows = [prefix + ids[start : start + own] for start in range(0, len(ids) - own + 1, own)]
    if not ids:
        raise MeasuringError("the text is empty: give one with some thousand words")
    if len(rows) < 2:
        raise MeasuringError(f"the text has {len(ids)} tokens, too few for two rows of {own}: give a longer one")
    return torch.tensor(rows[:most])


@torch.no_grad()
def losses_of_text(model: Model, rows: Tensor) -> Tensor:
    """Cross-entropy of each text in nats, the mean over its tokens but the first [texts], float64 on the CPU.

    Args:
        rows: tokens [texts, positions].
    """
    found = list[Tensor]()
    for start in range(0, len(rows), _TOGETHER):
        tokens = rows[start : start + _TOGETHER].to(model.device)
        logits = model.bridge(tokens).float()[:, :-1]  # [texts, positions - 1, d_vocab]
        each = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        found.append(each.view(len(tokens), -1).mean(dim=1).double().cpu())
    return torch.cat(found)
