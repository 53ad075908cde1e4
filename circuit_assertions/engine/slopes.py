"""What grafts and transplants would do, to first order: one backward pass for all of them.

For choosing what to try, never for a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from circuit_assertions.components import Mlp, Part
from circuit_assertions.engine.layout import UNEMBED_INPUT
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.pair import Pair
from circuit_assertions.engine.parts import parts_of
from circuit_assertions.engine.rows import Sender
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END, Prompt, PromptSet

__all__ = ["Slopes", "answers", "slopes", "slopes_of_activations", "slopes_of_views"]

_TOGETHER = 32  # prompts whose activations are kept for the way back


def slopes(into: Model, source: Model, prompts: PromptSet, parts: Sequence[Part]) -> dict[Part, float]:
    """About what each part of `source`, a model of the same shape, adds to the mean answer metric of `into`.

    The change of its weights, times the gradient at `into`. Both models are left as they were.
    """
    slope = _slope(into, prompts)
    ours, theirs = parts_of(into.layout), parts_of(source.layout)
    return {
        part: sum(
            float(((other.to(own) - own) * _in_memory(own, slope[_place(own)])).sum(dtype=torch.float64))
            for own, other in zip(ours[part], theirs[part], strict=True)
        )
        for part in parts
    }


def slopes_of_views(model: Model, prompts: PromptSet, views: Sequence[Tensor]) -> list[Tensor]:
    """Gradient of the mean answer metric in views of the model's weights, each in its view's shape.

    The model is left as it was.
    """
    slope = _slope(model, prompts)
    return [_in_memory(view, slope[_place(view)]) for view in views]


@torch.no_grad()
def answers(model: Model, prompts: PromptSet) -> Tensor:
    """The answer metric at `end`, by plain forward passes of the model as it is now [prompts], float64 on the CPU."""
    found = torch.empty(len(prompts), dtype=torch.float64)
    for indices, batch in prompts.batches(_TOGETHER):
        found[list(indices)] = _differences(model, batch)[0].double().cpu()
    return found


def _slope(model: Model, prompts: PromptSet) -> dict[int, Tensor]:
    """Gradient of the mean answer metric, laid out as the weights' memory is, by the place of that memory.

    Several parameters may be views of one another: a fused projection, and its queries, keys and values.
    """
    weights = [weight for weight in model.layout.bridge.original_model.parameters() if weight.is_floating_point()]
    slope: dict[int, Tensor] = {}
    for weight in weights:
        if _place(weight) not in slope:
            numbers = weight.untyped_storage().nbytes() // weight.element_size()
            slope[_place(weight)] = torch.zeros(numbers, dtype=weight.dtype, device=weight.device)
    with _learning(weights), torch.enable_grad():
        for _, batch in prompts.batches(_TOGETHER):
            mean = _differences(model, batch)[0].sum() / len(prompts)
            for weight, gradient in zip(weights, torch.autograd.grad(mean, weights, allow_unused=True), strict=True):
                if gradient is not None:
                    _in_memory(weight, slope[_place(weight)]).add_(gradient)
    return slope


@dataclass
class Slopes:
    """What single activations of one model would add in another, to first order.

    Attributes:
        outputs: what each head and each MLP puts out.
        patterns: each head's attention pattern alone.
    """

    outputs: dict[Sender, float] = field(default_factory=dict)
    patterns: dict[Head, float] = field(default_factory=dict)


def slopes_of_activations(into: Model, source: Model, runs: Iterable[Pair]) -> Slopes:
    """About what activations of `source` add to the mean answer metric of `into`.

    Args:
        runs: batch by batch, the run of `into` as `base` and the run of `source` as `other`.
    """
    layers, layout = range(into.layout.layers), into.layout
    names = [name(layer) for name in (layout.attention_output, layout.mlp_write, layout.pattern) for layer in layers]
    total, added = 0, Slopes()
    for pair in runs:
        total += len(pair.prompts)
        with _learning(list(layout.bridge.original_model.parameters())), torch.enable_grad():
            differences, values = _differences(into, pair.prompts, names)
            slopes = torch.autograd.grad(differences.sum(), values)
        with torch.no_grad():
            for layer in layers:
                attention, mlp, pattern = (slope.to(pair.base.final) for slope in slopes[layer :: len(layers)])
                _add_outputs(added, layer, (into, source), pair, attention, mlp)
                moved = pair.other.patterns[layer] - pair.base.patterns[layer]  # [prompts, heads, queries, keys]
                for head, gain in enumerate((moved * pattern).sum((0, 2, 3)).tolist()):
                    added.patterns[Head(layer, head)] = added.patterns.get(Head(layer, head), 0.0) + gain
    outputs = {one: gain / total for one, gain in added.outputs.items()}
    return Slopes(outputs, {head: gain / total for head, gain in added.patterns.items()})


def _add_outputs(
    added: Slopes, layer: int, models: tuple[Model, Model], pair: Pair, attention: Tensor, mlp: Tensor
) -> None:
    """What a layer's heads and its MLP add, by the gradients where they write [prompts, positions, d_model]."""
    own, others = (
        run.head_outputs[layer] * torch.einsum("bpm,hdm->bphd", attention, model.layout.W_O(layer).to(attention))
        for model, run in zip(models, (pair.base, pair.other), strict=True)
    )
    for head, gain in enumerate((others - own).sum((0, 1, 3)).tolist()):
        added.outputs[Head(layer, head)] = added.outputs.get(Head(layer, head), 0.0) + gain
    moved = pair.other.mlp_writes[layer] - pair.base.mlp_writes[layer]
    added.outputs[Mlp(layer)] = added.outputs.get(Mlp(layer), 0.0) + float((moved * mlp).sum())


def _differences(model: Model, prompts: Sequence[Prompt], names: Sequence[str] = ()) -> tuple[Tensor, list[Tensor]]:
    """The answer metric at `end` [prompts] and the activations of these names, with what they were computed from."""
    kept: dict[str, Tensor] = {}

    def keeping(name: str) -> Any:
        def keep(value: Tensor, hook: Any) -> Tensor:  # a hook may be known by several names
            kept[name] = value
            return value  # what a hook sees may be a view that only goes on where it is given back (OPT)

        return keep

    tokens = torch.tensor([prompt.tokens for prompt in prompts], device=model.device)
    hooks: list[tuple[str, Any]] = [(UNEMBED_INPUT, lambda value, hook: value[:, :1])]
    hooks += [(name, keeping(name)) for name in (model.layout.final_residual, *names)]
    model.bridge.run_with_hooks(tokens, fwd_hooks=hooks)
    final = kept[model.layout.final_residual].to(model.device)
    rows = torch.arange(len(prompts), device=final.device)
    ends = torch.tensor([prompt.positions[END] for prompt in prompts], device=final.device)
    return model.readout.difference(final[rows, ends], prompts), [kept[name] for name in names]


def _place(weight: Tensor) -> int:
    return weight.untyped_storage().data_ptr()


def _in_memory(weight: Tensor, memory: Tensor) -> Tensor:
    """Those entries of `memory` [numbers] that stand where the weight's stand in its own."""
    return memory.as_strided(weight.shape, weight.stride(), weight.storage_offset())


@contextmanager
def _learning(weights: Sequence[Parameter]) -> Iterator[None]:
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for weight, learning in zip(weights, before, strict=True):
            weight.requires_grad_(learning)
