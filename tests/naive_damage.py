"""Damage to Hugging Face's own modules, one plain line for each kind; weights are found by their names in the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.checkpoints.parts import parts_of
from circuit_assertions.components import Mlp
from circuit_assertions.heads import Head

_MLP_OUTPUTS = ("c_proj", "down_proj", "dense_4h_to_h", "fc2", "fc_out")


@torch.no_grad()
def damage(model: Any, kind: str, components: Sequence[Head | Mlp], strength: float, seed: int, name: str) -> None:
    """Damage a model of transformers in place."""
    generator = torch.Generator().manual_seed(Random(f"{seed}, {name}").getrandbits(63))

    def add_noise(weights: Tensor) -> None:
        weights += strength * weights.std() * torch.randn(weights.shape, generator=generator).to(weights.dtype)

    if kind == "round":
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16).to(parameter.dtype))
        return
    if isinstance(components[0], Mlp):
        for weights in mlp_outputs(model, components[0].layer):
            if kind == "zero-mlp":
                weights.zero_()
            elif weights.dim() > 1:
                add_noise(weights)
        return
    heads = [head for head in components if isinstance(head, Head)]
    outputs = [output_of(model, head) for head in heads]  # each [d_head, d_model]
    if kind == "negate":
        outputs[0].neg_()
    elif kind == "zero":
        outputs[0].zero_()
    elif kind == "noise":
        add_noise(outputs[0])
    elif kind == "swap":
        one, other = (output.clone() for output in outputs)
        outputs[0].copy_(other)
        outputs[1].copy_(one)
    elif kind == "noise-query-key":
        matrices = [weights for weights in parts_of(model).weights[heads[0]][:-1] if weights.dim() == 2]
        add_noise(matrices[0])
        if shared_by(model) == 1:
            add_noise(matrices[1])
    elif kind == "rescale":
        own = parts_of(model).weights[heads[0]][:-1]
        values = max(place for place, weights in enumerate(own) if weights.dim() == 2)
        for weights in own[values:]:  # the values' weights, and their bias where there is one
            weights *= 2
        for output in outputs:
            output /= 2


def output_of(model: Any, head: Head) -> Tensor:
    return parts_of(model).weights[head][-1].T


def shared_by(model: Any) -> int:
    """How many heads share keys and values: those of a group that have no weights for keys."""
    heads = [weights for part, weights in parts_of(model).weights.items() if isinstance(part, Head) and part.layer == 0]
    with_keys = sum(len([one for one in weights if one.dim() == 2]) > 2 for weights in heads)
    return len(heads) // with_keys


def mlp_outputs(model: Any, layer: int) -> list[Tensor]:
    """What an MLP writes with, [neurons, d_model] and bias; in a mixture of experts all its weights."""
    (block,) = (
        module
        for name, module in model.named_modules()
        if name.split(".")[-2:] in (["h", str(layer)], ["layers", str(layer)], ["blocks", str(layer)])
    )
    mlp = next((child for name, child in block.named_modules() if name in ("mlp", "ffn", "block_sparse_moe")), block)
    if any(name.endswith("experts") for name, _ in mlp.named_modules()):
        return [parameter.data for parameter in mlp.parameters()]
    return list(_of_projection(mlp))


def _of_projection(mlp: Any) -> Iterator[Tensor]:
    (output,) = (module for name, module in mlp.named_modules() if name.rpartition(".")[2] in _MLP_OUTPUTS)
    yield output.weight.data if hasattr(output, "nf") else output.weight.data.T
    if getattr(output, "bias", None) is not None:
        yield output.bias.data
