"""Damage to the weights of a model in memory, undone bit for bit: what a suite is tested with.

A head is damaged in its own weights, where every way of measuring meets the damage: a plain forward pass, the
arithmetic of path patching, hooks, and measures that read weights. The last would miss a change of activations.

- `negate`, `zero`, `noise`, `swap` change a head's rows of the output projection, which every block shape has.
- `noise-query-key` changes the weights of its queries, and of its keys where it shares them with no other head.
- `zero-mlp`, `noise-mlp` change the MLP's output projection; in a mixture of experts, with several, all weights.
- `round`, `nudge`, `rescale` are the controls: they change weights and no behaviour.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.components import Mlp
from circuit_assertions.engine.arithmetic import raw
from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.layout import Layout
from circuit_assertions.heads import Head

__all__ = [
    "DAMAGES",
    "NUDGE",
    "CannotDamageError",
    "Noise",
    "Replaced",
    "damaged",
    "damages_of",
    "output_of_head",
    "outputs_of_neurons",
]

NUDGE = 1e-6  # of each weight: some steps of float32, which other kernels and devices also differ by
_FACTOR = 2.0  # a power of two, so that values and outputs are rescaled without rounding

Damaged = Head | Mlp


class CannotDamageError(MeasuringError):
    """The weights of this model do not lie in a way that allows this damage."""


@dataclass(frozen=True)
class Replaced:
    """Weights in memory, and what takes their place.

    Attributes:
        live: a view of them.
        new: makes the weights that take their place, of the same shape.
    """

    live: Tensor
    new: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Noise:
    """Seeded noise.

    Attributes:
        strength: its standard deviation, in that of the weights that it is added to.
        of: what it is for: each kind of damage and component has noise of its own.
    """

    strength: float
    seed: int
    of: str

    def adding(self) -> Callable[[Tensor], Tensor]:
        """What adds noise to one weight matrix after another."""
        generator = torch.Generator().manual_seed(Random(f"{self.seed}, {self.of}").getrandbits(63))

        def add(weights: Tensor) -> Tensor:
            # Drawn in float32 on the CPU, so that a mutant is the same in every dtype and on every device.
            drawn = torch.randn(weights.shape, generator=generator).to(weights)
            return weights + self.strength * weights.double().std().to(weights) * drawn

        return add


def damages_of(layout: Layout, kind: str, components: Sequence[Damaged], noise: Noise) -> list[Replaced]:
    """The weights that one kind of damage replaces.

    Args:
        kind: one of `DAMAGES`.
        components: the heads or the MLP that are damaged; none where the kind changes the whole model.

    Raises:
        CannotDamageError: if the model's weights do not allow it, with the reason.
    """
    return DAMAGES[kind](layout, components, noise)


@contextlib.contextmanager
def damaged(replaced: Sequence[Replaced]) -> Iterator[bool]:
    """Replace weights, and restore them bit for bit afterwards. Yields whether any bit of them differs."""
    saved: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for one in replaced:
                new = one.new(one.live)
                saved.append((one.live, one.live.clone()))
                one.live.copy_(new)
        yield any(not torch.equal(live, before) for live, before in saved)
    finally:
        with torch.no_grad():
            for live, before in reversed(saved):
                live.copy_(before)


def _negate(layout: Layout, components: Sequence[Damaged], noise: Noise) -> list[Replaced]:
    return [Replaced(output_of_head(layout, _head(components)), torch.neg)]


def _zero(layout: Layout, components: Sequence[Damaged], noise: Noise) -> list[Replaced]:
    return [Replaced(output_of_head(layout, _head(components)), torch.zeros_like)]


def _noise(layout: Layout, components: Sequence[Damaged], noise: Noise) -> list[Replaced]:
    return [Replaced(output_of_head(layout, _head(components)), noise.adding())]


def _noise_query_key(layout: Layout, components: Sequence[Damaged], noise: Noise) -> list[Replaced]:
    head, add = _head(components), noise.adding()
    queries = _rows(layout, head.layer, "q", head.head, layout.heads)
    groups = layout.groups(head.layer)
    if groups < layout.heads:  # keys that are shared are not this head's
        return [Replaced(queries[0], add)]
    keys = _rows(layout, head.layer, "k", head.head, groups)
    return [Replaced(queries[0], add), Replaced(keys[0], add)]


def _swap(layout: Layout, components: Sequence[Damaged], noise: Noise) -> list[Replaced]:
    one, other = (output_of_head(layout, _head([head])) for head in components)
    if one.shape != other.shape:
        raise CannotDamageError("the output weights of the two heads have other shapes")
    kept = {0: one.clone(), 1: other.clone()}
    return [Replaced(one, lambda live: kept[1]), Replaced(other, lambda live: kept[0])]


def _zero_mlp(layout: Layout, components: Sequence[Damaged], noise: Noise) -> list[Replaced]:
    return [Replaced(weights, torch.zeros_like) for weights in _mlp(layout, components[0].layer)]


def _noise_mlp(layout: Layout, components: Sequence[Damaged], noise: Noise) -> list[Replaced]:
    add = noise.adding()
    return [Replaced(weights, add) for weights in _mlp(layout, components[0].layer) if weights.dim() > 1]


def _round(layout: Layout, components: Sequence[Damaged], noise: Noise) -> list[Replaced]:
    return [Replaced(weights, lambda live: live.bfloat16().to(live)) for weights in _everything(layout)]


def _nudge(layout: Layout, components: Sequence[Damaged], noise: Noise) -> list[Replaced]:
    """Noise that follows from a weight's own value, so that two copies of one weight stay the same."""
    phase = Random(f"{noise.seed}, {noise.of}").uniform(1e4, 2e4)

    def nudge(live: Tensor) -> Tensor:
        wide = live if live.device.type == "mps" else live.double()
        return (wide * (1 + NUDGE * torch.sin(phase * (1 + wide.abs()) * wide.sign()))).to(live)

    return [Replaced(weights, nudge) for weights in _everything(layout)]


def _rescale(layout: Layout, components: Sequence[Damaged], noise: Noise) -> list[Replaced]:
    """The values of heads that share them times a factor, and the outputs of these heads divided by it."""
    heads = [_head([one]) for one in components]
    layer, groups = heads[0].layer, layout.groups(heads[0].layer)
    values = _rows(layout, layer, "v", heads[0].head * groups // layout.heads, groups)
    return [
        *(Replaced(weights, lambda live: live * _FACTOR) for weights in values),
        *(Replaced(output_of_head(layout, head), lambda live: live / _FACTOR) for head in heads),
    ]


DAMAGES: Mapping[str, Callable[[Layout, Sequence[Damaged], Noise], list[Replaced]]] = {
    "negate": _negate,
    "zero": _zero,
    "noise": _noise,
    "noise-query-key": _noise_query_key,
    "swap": _swap,
    "zero-mlp": _zero_mlp,
    "noise-mlp": _noise_mlp,
    "round": _round,
    "nudge": _nudge,
    "rescale": _rescale,
}


def _head(components: Sequence[Damaged]) -> Head:
    (head,) = components
    assert isinstance(head, Head)
    return head


def output_of_head(layout: Layout, head: Head) -> Tensor:
    """A view of what a head writes with [d_head, d_model]."""
    module = raw(layout.bridge.blocks[head.layer].attn.o)
    weight = _by_input(module)  # [heads * d_head, d_model]
    if len(weight) % layout.heads:
        raise CannotDamageError("the output projection of its attention does not divide by its heads")
    width = len(weight) // layout.heads
    return weight[head.head * width : (head.head + 1) * width]


def outputs_of_neurons(layout: Layout, layer: int) -> Tensor:
    """A view of what the neurons of an MLP write with [neurons, d_model].

    Raises:
        CannotDamageError: if the MLP has no single output projection, as in a mixture of experts.
    """
    output = raw(getattr(layout.bridge.blocks[layer].mlp, "out", None))
    if getattr(output, "weight", None) is None or output.weight.dim() != 2:
        raise CannotDamageError(f"MLP{layer} has no neurons with weights of their own")
    return _by_input(output)


def _rows(layout: Layout, layer: int, which: str, number: int, of: int) -> list[Tensor]:
    """Views of the weights [d_head, d_model] and the bias [d_head] of one head's, or group's, projection.

    Args:
        which: `q`, `k` or `v`.
        number: which of the `of` heads or groups.
    """
    module = raw(getattr(layout.bridge.blocks[layer].attn, which, None))
    weight = getattr(module, "weight", None)
    if weight is None:
        raise CannotDamageError("its heads have no weights of their own for queries, keys and values")
    by_output = _by_input(module).T  # [of * d_head, d_model]
    if len(by_output) % of:
        raise CannotDamageError("the projections of its attention do not divide by its heads")
    width = len(by_output) // of
    own = slice(number * width, (number + 1) * width)
    bias = getattr(module, "bias", None)
    return [by_output[own], *([] if bias is None else [bias.data[own]])]


def _by_input(module: Any) -> Tensor:
    """A view of a projection's weight [inputs, outputs]; only GPT-2's Conv1D keeps it so."""
    data: Tensor = module.weight.data
    return data if hasattr(module, "nf") else data.T


def _mlp(layout: Layout, layer: int) -> list[Tensor]:
    """Views of what an MLP writes with: weight [neurons, d_model] and bias; without one projection, all its weights."""
    block = layout.bridge.blocks[layer]
    output = raw(getattr(block.mlp, "out", None))
    if getattr(output, "weight", None) is None:
        return [weight.data for weight in _unique(raw(block.mlp).parameters())]
    bias = getattr(output, "bias", None)
    return [_by_input(output), *([] if bias is None else [bias.data])]


def _everything(layout: Layout) -> list[Tensor]:
    """Every weight of the model, each once."""
    return [weight.data for weight in _unique(layout.bridge.parameters()) if weight.is_floating_point()]


def _unique(weights: Iterator[Tensor]) -> list[Tensor]:
    """Each weight once. One that lies in the memory of another, as a part of a fused matrix may, is left out."""
    listed = list(weights)
    taken: list[tuple[int, int]] = []
    kept = set[int]()
    for weight in sorted(listed, key=lambda one: -one.numel()):
        start = weight.data_ptr()
        end = start + weight.numel() * weight.element_size()
        if not any(first <= start and end <= last for first, last in taken):
            taken.append((start, end))
            kept.add(id(weight))
    return [weight for weight in listed if id(weight) in kept]
