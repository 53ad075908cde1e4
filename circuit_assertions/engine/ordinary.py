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

__all__ = ["losses_of_rows", "losses_of_text", "next_tokens", "sampled_text", "tokens_of_text"]

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
        drawn = next_tokens(said.logits, generator).to(device)
        tokens = torch.cat((tokens, drawn), dim=1)
        if tokens.shape[1] < length:
            said = model(input_ids=drawn, past_key_values=said.past_key_values, use_cache=True)
    return tokens.cpu()


def next_tokens(logits: Tensor, generator: torch.Generator) -> Tensor:
    """The token behind each text, drawn at temperature 1 from logits [texts, positions, d_vocab]: [texts, 1], CPU."""
    chances = logits[:, -1].double().softmax(dim=1).cpu()
    return torch.multinomial(chances, 1, generator=generator)


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
        found.append(losses_of_rows(model.bridge(tokens).float(), tokens))
    return torch.cat(found)


def losses_of_rows(logits: Tensor, tokens: Tensor, first: int = 1) -> Tensor:
    """Cross-entropy of each row in nats, the mean over its tokens from `first` on [rows], float64 on the CPU.

    Args:
        logits: [rows, positions, d_vocab]
        tokens: [rows, positions]
    """
    said = logits[:, first - 1 : -1]  # [rows, positions - first, d_vocab]
    each = cross_entropy(said.flatten(0, 1), tokens[:, first:].flatten(), reduction="none")
    return each.view(len(tokens), -1).mean(dim=1).double().cpu()
