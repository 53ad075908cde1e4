"""Which weights of a Hugging Face model are a head's, an MLP's, a norm's: a question of module and parameter names.

Heads can be separated where queries, keys and values have their own projections, in any architecture, and where one
projection makes them all in a known order. Under grouped-query attention keys and values belong to the
first head of their group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.components import Embedding, Mlp, Norms, Part, Unembedding
from circuit_assertions.heads import Head

__all__ = ["Parts", "parts_of"]

_MLPS = ("mlp", "ffn", "feed_forward", "block_sparse_moe", "fc1", "fc2")
_OUTPUTS = ("o_proj", "out_proj", "c_proj", "dense")
_FUSED = ("c_attn", "query_key_value", "qkv_proj", "Wqkv")
_SEPARATE = ("q_proj", "k_proj", "v_proj")

# Queries of all heads, then all keys, then all values; or group by group of heads that share a key and a value.
_CONCATENATED = ("gpt2", "phi3", "mpt")
_INTERLEAVED = ("gpt_neox", "bloom")


class _NotByHeadError(Exception):
    """Why a block's heads cannot be told apart."""


@dataclass(frozen=True)
class Parts:
    """The weights of one model by part.

    Attributes:
        heads: of a block; 0 where the configuration does not say.
        weights: views into the live weights of each part, in the same order for every model of one shape. A weight is
            in one part at most, and in exactly one where heads and MLPs of all blocks are separated.
        reasons: by layer, why its heads are not among them.
    """

    layers: int
    heads: int
    weights: dict[Part, list[Tensor]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)


def parts_of(model: Any) -> Parts:
    """Tell the parts of a model apart.

    Args:
        model: a causal language model of transformers, as it is read from a checkpoint.

    Raises:
        CheckpointError: if it has no list of blocks.
    """
    blocks = _blocks(model)
    parts = Parts(len(blocks), _heads_of(model.config))
    outside = _around(model, blocks, parts.layers)
    parts.weights[Embedding()] = outside.pop(Embedding(), [])
    for layer, block in enumerate(blocks):
        _add_block(parts, layer, block, model.config)
    parts.weights.update(outside)
    return parts


def _blocks(model: Any) -> nn.ModuleList:
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise CheckpointError(f"a {type(model).__name__} keeps its blocks in no list, so its parts have no numbers")
    return max(lists, key=lambda one: sum(parameter.numel() for parameter in one.parameters()))


def _heads_of(config: Any) -> int:
    heads = getattr(config.get_text_config(), "num_attention_heads", None)
    return heads if isinstance(heads, int) else 0  # some architectures have a number for each layer


def _around(model: Any, blocks: nn.ModuleList, layers: int) -> dict[Part, list[Tensor]]:
    """What lies before and after the blocks: embeddings, the final norm, the unembedding where it is not tied."""
    inside = {id(parameter) for parameter in blocks.parameters()}
    tied = {id(parameter) for parameter in model.get_input_embeddings().parameters()}
    end = model.get_output_embeddings()
    unembedding = {id(parameter) for parameter in end.parameters()} - tied if end is not None else set()
    found: dict[Part, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if id(parameter) in inside:
            continue
        part: Part = Norms(layers)
        if id(parameter) in unembedding:
            part = Unembedding(layers)
        elif "embed" in name or isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Embedding):
            part = Embedding()
        found.setdefault(part, []).append(parameter.data)
    return found


def _add_block(parts: Parts, layer: int, block: Any, config: Any) -> None:
    taken: set[int] = set()
    try:
        inputs, output = _attention(block)
        for head, weights in enumerate(_by_head(inputs, output, parts.heads, config)):
            parts.weights[Head(layer, head)] = weights
        taken.update(id(weights) for weights in (output.weight, *_unique(inputs)))
    except _NotByHeadError as error:
        parts.reasons[layer] = str(error)
    mlp = _unique(module for name, module in block.named_modules() if name.rpartition(".")[2] in _MLPS)
    if mlp:
        parts.weights[Mlp(layer)] = [parameter.data for parameter in mlp]
        taken.update(map(id, mlp))
    rest = _unique([block])
    if not mlp or layer in parts.reasons:  # what is left may be anything
        rest = _unique(module for module in block.modules() if "norm" in type(module).__name__.lower())
    left = [parameter.data for parameter in rest if id(parameter) not in taken]
    if left:  # the norms of some architectures have no weights
        parts.weights[Norms(layer)] = left


def _unique(modules: Iterable[Any]) -> list[Any]:
    """The parameters of some modules, each once."""
    return list({id(parameter): parameter for module in modules for parameter in module.parameters()}.values())


def _attention(block: Any) -> tuple[list[Any], Any]:
    """The projections that a block's heads read with, one or three, and the one that they write with."""
    found = []
    for module in block.modules():
        children = dict(module.named_children())
        inputs = [children[name] for name in (*_FUSED, *_SEPARATE) if name in children]
        outputs = [children[name] for name in _OUTPUTS if name in children]
        if len(inputs) in (1, 3) and len(outputs) == 1:
            found.append((inputs, outputs[0]))
    if len(found) != 1:
        raise _NotByHeadError("its attention has no projections with known names")
    return found[0]


def _by_head(inputs: Sequence[Any], output: Any, heads: int, config: Any) -> list[list[Tensor]]:
    """The weights of each head."""
    if not heads:
        raise _NotByHeadError("its configuration does not contain the number of heads in a block")
    columns = _by_output(output, output.weight)  # [d_model, heads * d_head]
    width = _exact(columns.shape[1], heads)
    rows = _fused(inputs[0], heads, width, config) if len(inputs) == 1 else _separate(inputs, heads, width)
    return [
        [
            *(_by_output(module, weight)[span] for module, span in rows[head] for weight in module.parameters()),
            columns[:, head * width : (head + 1) * width],
        ]
        for head in range(heads)
    ]


def _separate(inputs: Sequence[Any], heads: int, width: int) -> list[list[tuple[Any, slice]]]:
    """For each head, the rows that are its own in the projections of queries, keys and values."""
    groups = _exact(len(inputs[2].weight), width)
    share = _exact(heads, groups)
    query, *shared = inputs
    rows = [[(query, _nth(head, _exact(len(query.weight), heads)))] for head in range(heads)]
    for group in range(groups):
        rows[group * share].extend((one, _nth(group, _exact(len(one.weight), groups))) for one in shared)
    return rows


def _fused(module: Any, heads: int, width: int, config: Any) -> list[list[tuple[Any, slice]]]:
    """For each head, the rows that are its own where one projection makes queries, keys and values."""
    groups = _exact(_exact(len(_by_output(module, module.weight)), width) - heads, 2)
    share = _exact(heads, groups)
    if _is_interleaved(config):
        queries = [head // share * (share + 2) + head % share for head in range(heads)]
        others = [(group * (share + 2) + share, group * (share + 2) + share + 1) for group in range(groups)]
    else:
        queries = list(range(heads))
        others = [(heads + group, heads + groups + group) for group in range(groups)]
    rows = [[(module, _nth(query, width))] for query in queries]
    for group, pair in enumerate(others):
        rows[group * share].extend((module, _nth(one, width)) for one in pair)
    return rows


def _is_interleaved(config: Any) -> bool:
    kind = config.model_type
    if kind == "falcon":
        return bool(config.new_decoder_architecture or not config.multi_query)
    if kind == "gpt_bigcode":
        return not config.multi_query
    if kind not in (*_CONCATENATED, *_INTERLEAVED):
        raise _NotByHeadError(f"one matrix makes its queries, keys and values, in an order that is not known of {kind}")
    return kind in _INTERLEAVED


def _by_output(module: Any, weight: Any) -> Tensor:
    """A view of a projection's weight [outputs, inputs] or bias [outputs]; GPT-2's Conv1D keeps its weight turned."""
    data: Tensor = weight.data
    return data.T if hasattr(module, "nf") and data.dim() == 2 else data


def _nth(number: int, width: int) -> slice:
    return slice(number * width, (number + 1) * width)


def _exact(size: int, parts: int) -> int:
    """How large each of so many equal parts is."""
    if parts < 1 or size < parts or size % parts:
        raise _NotByHeadError("the shapes of its attention's weights do not divide by its heads")
    return size // parts
