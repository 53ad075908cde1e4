"""Effects: what a head's output does to the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.engine import Pass
from circuit_assertions.heads import Head
from circuit_assertions.measures.receivers import Receiver

__all__ = ["direct_effect", "path_effect", "total_effect"]


@torch.no_grad()
def direct_effect(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """Logit difference lost when a head's write at `end` is taken out of the final residual stream [prompts, heads].

    The final norm is recomputed for each head, not frozen; everything between head and final residual stays as it was.
    Where the architecture norms the attention block's output, that norm is recomputed without the head as well.
    """
    assert taken.final_residual is not None
    right = taken.tokens_of(lambda prompt: prompt.right)
    wrong = taken.tokens_of(lambda prompt: prompt.wrong)
    full = taken.model.readout.logit_difference(taken.final_residual, right, wrong)  # [prompts]
    lost = []
    for head in heads:
        rows = taken.final_residual - _write(taken, head)  # [prompts, d_model]
        lost.append(full - taken.model.readout.logit_difference(rows, right, wrong))
    return torch.stack(lost, dim=1)


def path_effect(taken: Pass, heads: Sequence[Head], operands: Mapping[str, Any]) -> Tensor:
    """Path effects of heads on a receiver [prompts, heads]: the logits, or a `Receiver`'s queries, keys or values."""
    assert taken.patching is not None
    patching, receiver = taken.patching.towards(operands["direction"]), operands["receiver"]
    if not isinstance(receiver, Receiver):
        return patching.to_logits(heads, operands["semantics"]).T
    return patching.to_inputs(heads, receiver.which, receiver.heads, receiver.at, operands["semantics"]).T


def total_effect(taken: Pass, heads: Sequence[Head], operands: Mapping[str, Any]) -> Tensor:
    """Effects of heads' own outputs of the other run, everything after them live [prompts, heads]."""
    assert taken.patching is not None
    return taken.patching.towards(operands["direction"]).total(heads).T


def _write(taken: Pass, head: Head) -> Tensor:
    """What the head adds to the residual stream at `end` [prompts, d_model]."""
    layout = taken.model.layout
    z = taken.head_outputs[head.layer][:, head.head]  # [prompts, d_head]
    own = z @ layout.W_O(head.layer)[head.head]
    post_norm = layout.attention_post_norm(head.layer)
    if post_norm is None:
        return own
    together = taken.attention_outputs[head.layer]
    added: Tensor = post_norm(together) - post_norm(together - own)
    return added
