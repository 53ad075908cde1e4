"""Effects: what a component's output does to the answer, and to what other heads attend to and write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.components import Component
from circuit_assertions.engine import Pass
from circuit_assertions.engine.backends import AnyPatching
from circuit_assertions.engine.rows import Sender
from circuit_assertions.heads import Head
from circuit_assertions.measures.receivers import Receiver

__all__ = ["attention_effect", "direct_effect", "path_effect", "pattern_effect", "total_effect", "write_effect"]


@torch.no_grad()
def direct_effect(taken: Pass, heads: Sequence[Head], operands: Mapping[str, str]) -> Tensor:
    """What is lost of the answer metric when a head's write at `end` is taken out of the final residual stream.

    One value for each prompt and head [prompts, heads].

    The final norm is recomputed for each head, not frozen; everything between head and final residual stays as it was.
    Where the architecture norms the attention block's output, that norm is recomputed without the head as well.
    """
    assert taken.final_residual is not None
    readout = taken.model.readout
    full = readout.difference(taken.final_residual, taken.prompts)  # [prompts]
    lost = []
    for head in heads:
        rows = taken.final_residual - _write(taken, head)  # [prompts, d_model]
        lost.append(full - readout.difference(rows, taken.prompts))
    return torch.stack(lost, dim=1)


def path_effect(taken: Pass, senders: Sequence[Sender], operands: Mapping[str, Any]) -> Tensor:
    """Path effects of senders on a receiver [prompts, senders]: the logits, or a `Receiver`'s queries, keys or values.

    With `semantics: total`, whatever follows the senders is live.
    """
    patching, receiver, semantics = _patching(taken, operands), operands["receiver"], operands["semantics"]
    if isinstance(receiver, Receiver):
        return patching.to_inputs(senders, receiver.which, receiver.heads, receiver.at, semantics).T
    return (patching.total(senders) if semantics == "total" else patching.to_logits(senders, semantics)).T


def total_effect(taken: Pass, components: Sequence[Component], operands: Mapping[str, Any]) -> Tensor:
    """Effects of components' own outputs of the other run, everything after them live [prompts, components]."""
    return _patching(taken, operands).total(components, operands.get("at")).T


def pattern_effect(taken: Pass, heads: Sequence[Head], operands: Mapping[str, Any]) -> Tensor:
    """Effects of heads' attention patterns of the other run over live values [prompts, heads]."""
    return _patching(taken, operands).of_patterns(heads, operands.get("at")).T


def attention_effect(taken: Pass, senders: Sequence[Sender], operands: Mapping[str, Any]) -> Tensor:
    """Attention of a `Receiver`'s heads from `query` to `key` that depends on senders [prompts, senders]."""
    receiver, query, key = operands["receiver"], operands["query"], operands["key"]
    patching = _patching(taken, operands)
    return patching.to_attention(senders, receiver.which, receiver.heads, query, key, operands["semantics"]).T


def write_effect(taken: Pass, senders: Sequence[Sender], operands: Mapping[str, Any]) -> Tensor:
    """The part of what a `Receiver`'s heads write directly to the answer that depends on senders [prompts, senders]."""
    receiver, patching = operands["receiver"], _patching(taken, operands)
    return patching.to_writes(senders, receiver.which, receiver.heads, receiver.at, operands["semantics"]).T


def _patching(taken: Pass, operands: Mapping[str, Any]) -> AnyPatching:
    assert taken.patching is not None
    return taken.patching.towards(operands["direction"])


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
