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

_EMBEDDINGS = ("embed", "pos_embed", "embed_ln")


def parts_of(layout: Layout) -> dict[Part, list[Tensor]]:
    """Views into the live weights of each part, in the same order for every model of one shape.

    Raises:
        MeasuringError: if the weights of the model's attention are not laid out head by head.
    """
    bridge = layout.bridge
    embeddings = [weight for name in _EMBEDDINGS for weight in _weights(getattr(bridge, name, None))]
    parts: dict[Part, list[Tensor]] = {Embedding(): embeddings}
    for layer, block in enumerate(bridge.blocks):
        for head in range(layout.heads):
            parts[Head(layer, head)] = list(_of_head(layout, Head(layer, head)))
        parts[Mlp(layer)] = _mlp_of(block)
        parts[Norms(layer)] = _rest_of(block)
    parts[Norms(layout.layers)] = _weights(bridge.ln_final)
    tied = {id(weight) for weight in embeddings}
    parts[Unembedding(layout.layers)] = [weight for weight in _weights(bridge.unembed) if id(weight) not in tied]
    return {part: [weight.data for weight in weights] for part, weights in parts.items() if weights}


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


def _mlp_modules(block: Any) -> list[Any]:
    if isinstance(raw(block.mlp), type(raw(block))):  # OPT keeps its MLP's parts in the block itself
        return [getattr(block.mlp, "in"), block.mlp.out]
    return [block.mlp]


def _mlp_of(block: Any) -> list[Tensor]:
    modules = _mlp_modules(block)
    own = [weight for module in modules for weight in _weights(module)]
    # Where the bridge has split a fused matrix, some compute with its parts and some with the whole. Views go with it.
    memory = {weight.untyped_storage().data_ptr() for weight in own}
    split = (weight for module in modules for _, weight in sorted(module.named_parameters()))
    return [*own, *(weight for weight in split if weight.untyped_storage().data_ptr() not in memory)]


def _rest_of(block: Any) -> list[Tensor]:
    """What is neither a head's nor the MLP's: norms, the bias of the attention's output, and the like."""
    # Where one matrix makes queries, keys and values, the bridge computes with its parts (`q`, `k`, `v`).
    heads = [weight for name in ("q", "k", "v", "qkv") for weight in _weights(getattr(block.attn, name, None))]
    mlp = [weight for module in _mlp_modules(block) for weight in module.parameters()]
    taken = {id(weight) for weight in (*heads, raw(block.attn.o).weight, *mlp)}
    return [weight for weight in _weights(block) if id(weight) not in taken]


def _weights(module: Any) -> list[Tensor]:
    """A module's weights, each once, in the order of their names; none where there is no such module."""
    if module is None:
        return []
    return [parameter for _, parameter in sorted(raw(module).named_parameters())]
