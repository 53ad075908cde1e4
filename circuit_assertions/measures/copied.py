"""What copying is measured by: the rows where answers stand, and what a head writes where it attends to a row alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuit_assertions.engine import MeasuringError
from circuit_assertions.heads import Head

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Model, Pass

__all__ = ["answer_rows", "through_head"]


def answer_rows(taken: Pass) -> tuple[Tensor, Tensor, Tensor]:
    """Prompt, position and token of every occurrence of either answer: three tensors [rows].

    Raises:
        MeasuringError: if a prompt holds neither of its answers.
    """
    import torch

    found = [
        (row, place, prompt.tokens[place]) for row, prompt in enumerate(taken.prompts) for place in prompt.answers_at
    ]
    for row in set(range(len(taken.prompts))) - {row for row, _, _ in found}:
        raise MeasuringError(
            f"a copy score needs the answers in the prompt, and {taken.prompts[row].text!r} contains none of them: "
            f"use a task whose prompts contain their answers"
        )
    owners, places, names = torch.tensor(found, device=taken.model.device).T
    return owners, places, names


def through_head(model: Model, head: Head, normed: Tensor) -> Tensor:
    """What a head writes where it attends to one row alone, the bias of its block left out.

    Args:
        normed: rows after the attention norm [rows, d_model].

    Returns:
        [rows, d_model], after the block's post-norm where there is one.
    """
    from circuit_assertions.engine.module_calls import apply_norm

    layout = model.layout
    W_V, b_V = layout.value_weights(head)
    values = normed @ W_V.to(normed)
    if b_V is not None:
        values = values + b_V.to(values)  # [rows, d_head]
    written = layout.clamped(head.layer, values) @ layout.W_O(head.layer)[head.head].to(values)
    return apply_norm(layout.attention_post_norm(head.layer), written)
