"""A model's weights by part: which tensors, and which rows or columns of them, are a head's, an MLP's, a norm's.

Every weight belongs to exactly one part, so that parts can be exchanged between two models of one shape. Under
grouped-query attention keys and values are shared: they belong to the first head of their group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from circuit_assertions.components import Embedding, Mlp, Norms, Part, Unembedding
from circuit_assertions.engine.arithmetic import raw
from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.layout import Layout
from circuit_assertions.heads import Head

__all__ = ["parts_of"]


def parts_of(layout: Layout) -> dict[Part, list[Tensor]]:
    """Views into the live weights of each part, in the same order for every model of one shape.

    Raises:
        MeasuringError: if the weights of the model's attention are not laid out head by head.
    """
    bridge = layout.bridge
    parts: dict[Part, list[Tensor]] = {Embedding(): list(_embeddings(bridge))}
    for layer, block in enumerate(bridge.blocks):
        for head in range(layout.heads):
            parts[Head(layer, head)] = list(_of_head(layout, Head(layer, head)))
        parts[Mlp(layer)] = _mlp_of(block)
        parts[Norms(layer)] = list(_norms_of(block))
    parts[Norms(layout.layers)] = _unique(raw(bridge.ln_final))
    tied = {tensor.data_ptr() for tensor in parts[Embedding()]}
    unembedding = [tensor for tensor in _unique(raw(bridge.unembed)) if tensor.data_ptr() not in tied]
    if unembedding:
        parts[Unembedding(layout.layers)] = unembedding
    return {part: tensors for part, tensors in parts.items() if tensors}


def _embeddings(bridge: Any) -> Iterator[Tensor]:
    for name in ("embed", "pos_embed"):
        module = raw(getattr(bridge, name, None))
        if module is not None and hasattr(module, "parameters"):
            yield from _unique(module)


def _of_head(layout: Layout, head: Head) -> Iterator[Tensor]:
    attention = layout.bridge.blocks[head.layer].attn
    width, share = layout.d_head(head.layer), layout.heads // layout.groups(head.layer)
    own = slice(head.head * width, (head.head + 1) * width)
    group = slice(head.head // share * width, (head.head // share + 1) * width)
    for name, rows in (("q", own), ("k", group), ("v", group)):
        if name == "q" or head.head % share == 0:
            module = raw(getattr(attention, name))
            yield _outputs(module, layout.d_model, rows)
            if getattr(module, "bias", None) is not None:
                yield module.bias.data[rows]
    output = raw(attention.o)
    weight = output.weight.data
    yield weight[own] if _is_transposed(output) else weight[:, own]


def _outputs(module: Any, inputs: int, rows: slice) -> Tensor:
    """Some of a projection's outputs, whichever way its weight lies."""
    weight: Tensor = module.weight.data
    if inputs not in weight.shape:
        raise MeasuringError(f"the attention's weights [{', '.join(map(str, weight.shape))}] do not lie head by head")
    return weight[:, rows] if _is_transposed(module) else weight[rows]


def _is_transposed(module: Any) -> bool:
    """Whether a weight is [inputs, outputs], as GPT-2's Conv1D has it, instead of [outputs, inputs]."""
    return hasattr(module, "nf")


def _mlp_of(block: Any) -> list[Tensor]:
    module = raw(block.mlp)
    if isinstance(module, type(raw(block))):  # OPT keeps its MLP's parts in the block itself
        return [*_unique(raw(getattr(block.mlp, "in"))), *_unique(raw(block.mlp.out))]
    return _unique(module)


def _norms_of(block: Any) -> Iterator[Tensor]:
    for name in ("ln1", "ln1_post", "ln2", "ln2_post"):
        module = raw(getattr(block, name, None))
        if module is not None and hasattr(module, "parameters"):
            yield from _unique(module)
    for name in ("q_norm", "k_norm"):
        module = raw(getattr(block.attn, name, None))
        if module is not None:
            yield from _unique(module)
    bias = getattr(raw(block.attn.o), "bias", None)
    if bias is not None:
        yield bias.data


def _unique(module: Any) -> list[Tensor]:
    """A module's weights, each once, in the order of their names."""
    return [parameter.data for _, parameter in sorted(module.named_parameters())]
