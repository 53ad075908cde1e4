"""Effects: what a head's output does to the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from circuit_assertions.engine import Pass
from circuit_assertions.heads import Head

__all__ = ["direct_effect"]


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
