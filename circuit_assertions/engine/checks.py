"""What measuring relies on, checked on the very model at opening: attention shown, writes that add up, a known end.

A model that fails a check is still opened; what relies on the missing fact is then refused with the sentence found
here, and everything else is measured.

`patterns`: blocks show their attention. `outputs`: what is put in the place of heads' and MLPs' outputs is what the
model goes on with. `inputs`: likewise queries, keys and values. `values`: what a head puts out is its attention over
its values. `reads`: its values are a projection of what its block reads. `writes`: what heads put out adds up to what
attention adds to the residual stream. `residual`: blocks do nothing but add. `readout`: the end gives the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.engine.arithmetic import raw
from circuit_assertions.engine.layout import Layout
from circuit_assertions.engine.module_calls import apply_norm
from circuit_assertions.engine.readout import Readout

__all__ = ["check_model"]

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 2e-2}
_STILL = 1e-4  # what moves by less, of the largest value, has not been moved
_TOKENS = 6
_QKV = ("q", "k", "v")

Seen = dict[str, Tensor]
Hook = tuple[str, Callable[[Tensor, Any], Tensor | None]]


@torch.no_grad()
def check_model(layout: Layout, device: torch.device) -> tuple[dict[str, str], Readout]:
    """Run a few random tokens and return what does not hold, each with its reason, and the end of the model.

    The dictionary is empty if everything holds.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, layout.vocabulary, (2, _TOKENS), generator=generator).to(device)
    names = [layout.final_residual, *(name for layer in range(layout.layers) for name in _hooks(layout, layer))]
    seen, logits = _see(layout, tokens, names)
    limits: dict[str, str] = {}
    for layer in range(layout.layers):
        limits |= {fact: reason for fact, reason in _check_block(layout, layer, seen).items() if fact not in limits}
    if "outputs" not in limits:
        limits |= _check_outputs(layout, tokens, seen)
        if not {"inputs", "patterns"} & set(limits):
            limits |= _check_inputs(layout, tokens, seen)
    readout, error = _known_end(layout, seen, logits)
    return limits | error, readout


def _see(layout: Layout, tokens: Tensor, names: Sequence[str], changes: Sequence[Hook] = ()) -> tuple[Seen, Tensor]:
    """What some hooks show of a run, those that there are, and the run's logits.

    A model that norms its embeddings with its final norm (NanoChat) shows the end last. A block that runs twice in a
    pass shows nothing: which of its runs is meant?
    """
    seen: Seen = {}
    twice: set[str] = set()

    def keep_as(name: str) -> Hook:
        def keep(value: Tensor, hook: object) -> None:
            if name in seen and name != layout.final_residual:
                twice.add(name)
            seen[name] = value.to(tokens.device)  # a model may lie on several devices

        return name, keep

    hooks = [*changes, *(keep_as(name) for name in dict.fromkeys(names) if name in layout.hooks)]
    logits: Tensor = layout.bridge.run_with_hooks(tokens, fwd_hooks=hooks)
    return {name: value for name, value in seen.items() if name not in twice}, logits.to(tokens.device)


def _hooks(layout: Layout, layer: int) -> list[str]:
    return [
        layout.pattern(layer),
        layout.head_outputs(layer),
        layout.attention_output(layer),
        layout.attention_write(layer),
        layout.mlp_write(layer),
        layout.residual_before(layer),
        layout.residual_after(layer),
        *(layout.projected(layer, which) for which in _QKV),
    ]


def _check_block(layout: Layout, layer: int, seen: Seen) -> dict[str, str]:
    pattern, z, output, write, mlp, before, after, *projected = (seen.get(name) for name in _hooks(layout, layer))
    limits = {}
    if pattern is None or pattern.shape[1:] != (layout.heads, _TOKENS, _TOKENS):
        limits["patterns"] = f"block {layer} does not show its attention pattern"
    if z is None or output is None or z.dim() != 4 or z.shape[2] != layout.heads:
        limits |= dict.fromkeys(("outputs", "writes"), f"block {layer} does not show what its heads write")
    else:
        limits |= _check_writes(layout, layer, z, output, write)
    if before is None or after is None or write is None or mlp is None:
        limits["residual"] = f"block {layer} does not show what it adds to the residual stream"
        if before is None or mlp is None or after is None:
            limits.setdefault("outputs", limits["residual"])
    else:
        error = _relative_error(before + write + mlp, after)
        if error is not None:
            limits["residual"] = f"block {layer} does not simply add attention and MLP to the residual stream ({error})"
    if before is None or any(value is None or value.dim() != 4 for value in projected):
        limits["inputs"] = f"block {layer} does not show its heads' queries, keys and values"
    if "inputs" in limits:
        return limits | {"reads": limits["inputs"]}
    return limits | _check_values(layout, layer, seen, limits)


def _check_writes(layout: Layout, layer: int, z: Tensor, output: Tensor, write: Tensor | None) -> dict[str, str]:
    bias = layout.b_O(layer)
    summed = torch.einsum("bthd,hdm->btm", z, layout.W_O(layer).to(z))  # [prompts, positions, d_model]
    error = _relative_error(summed if bias is None else summed + bias.to(summed), output)
    if error is not None:
        return {"writes": f"the heads' writes of block {layer} do not add up to its attention output ({error})"}
    if write is None:
        return {}
    error = _relative_error(apply_norm(layout.attention_post_norm(layer), output), write)
    return {} if error is None else {"writes": f"block {layer} changes its attention output before adding it ({error})"}


def _check_values(layout: Layout, layer: int, seen: Seen, limits: Mapping[str, str]) -> dict[str, str]:
    """Whether heads put out their attention over their values, and those are made of what the block reads."""
    pattern, z, _, _, _, before, _, queries, keys, values = (seen.get(name) for name in _hooks(layout, layer))
    assert queries is not None
    assert keys is not None
    assert values is not None
    groups = layout.groups(layer)
    if queries.shape[2] != layout.heads or keys.shape[2] != groups or values.shape[2] != groups:
        return dict.fromkeys(("inputs", "reads"), f"block {layer} does not show its heads' queries, keys and values")
    found = {}
    if pattern is not None and z is not None and not {"patterns", "outputs"} & set(limits):
        repeated = layout.clamped(layer, values).repeat_interleave(layout.heads // groups, dim=2)
        error = _relative_error(torch.einsum("bhqk,bkhd->bqhd", pattern.to(values), repeated), z)
        if error is not None:
            found["values"] = f"heads of block {layer} put out more than their attention over their values ({error})"
    if not layout.has_value_weights(layer):
        return found | {"reads": f"heads of block {layer} have no value weights of their own"}
    assert before is not None
    normed = apply_norm(raw(layout.attention_norm(layer)), before)
    weights, bias = layout.projection_weights(layer, "v").to(normed), layout.bridge.blocks[layer].attn.b_V
    made = torch.einsum("btm,gmd->btgd", normed, weights)
    # A norm may round to float32 whatever the model's dtype, and the bridge's own need not.
    error = _relative_error(made if bias is None else made + bias.to(made).view(groups, -1), values, least=1e-6)
    if error is not None:
        found["reads"] = f"values of block {layer} are not a projection of what it reads ({error})"
    return found


def _check_outputs(layout: Layout, tokens: Tensor, seen: Seen) -> dict[str, str]:
    """Whether what is put in the place of heads' and MLPs' outputs is what the model goes on with."""
    layers = range(layout.layers)
    entering = [layout.residual_before(layer) for layer in layers]
    leaving = [layout.residual_after(layer) for layer in layers]
    heads, mlps = [layout.head_outputs(layer) for layer in layers], [layout.mlp_write(layer) for layer in layers]

    def see(moved: Sequence[str], names: Sequence[str]) -> Seen:
        """A run in which every block is entered as before, some values are moved, heads and MLPs stay otherwise."""
        changes = [
            _put(name, _moved(seen[name]) if name in moved else seen[name]) for name in (*entering, *heads, *mlps)
        ]
        return _see(layout, tokens, names, changes)[0]

    with _reading_projections(layout) as read:
        see(heads, [])
    for layer in layers:
        expected = _moved(seen[heads[layer]]).flatten(-2)
        if (
            layer not in read
            or _relative_error(read[layer].to(expected.device).view(expected.shape), expected) is not None
        ):
            return {"outputs": f"block {layer} does not go on with what is put in the place of its heads' outputs"}
    after, carried = see(mlps, leaving), see(entering, leaving)
    for layer, name in enumerate(leaving):
        if _stays(after, seen, name):
            return {"outputs": f"block {layer} does not go on with what is put in the place of its MLP's output"}
        if _stays(carried, seen, name):
            return {"outputs": f"what block {layer} shows as its MLP's output holds the residual stream as well"}
    return {}


def _check_inputs(layout: Layout, tokens: Tensor, seen: Seen) -> dict[str, str]:
    """Whether queries, keys and values that are put in are what heads attend with."""
    layers = range(layout.layers)
    for which in _QKV:
        shown = [layout.head_outputs(layer) if which == "v" else layout.pattern(layer) for layer in layers]
        moved = [layout.projected(layer, which) for layer in layers]
        changes = [_put(layout.residual_before(layer), seen[layout.residual_before(layer)]) for layer in layers]
        changes += [_put(name, _moved(seen[name])) for name in moved]
        after, _ = _see(layout, tokens, shown, changes)
        for layer, name in enumerate(shown):
            if _stays(after, seen, name):
                what = {"q": "queries", "k": "keys", "v": "values"}[which]
                return {"inputs": f"block {layer} does not go on with what is put in the place of its heads' {what}"}
    return {}


def _put(name: str, value: Tensor) -> Hook:
    return name, lambda live, hook: value.to(live.device, copy=True)  # some models add to it in place


def _moved(value: Tensor) -> Tensor:
    """Other numbers of the same size, the same ones each time."""
    drawn = torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(value)
    return value + value.float().pow(2).mean().sqrt().to(value) * drawn


def _stays(after: Seen, before: Seen, name: str) -> bool:
    if name not in after or name not in before or after[name].shape != before[name].shape:
        return True
    return float((after[name] - before[name]).abs().max()) <= _STILL * float(before[name].abs().max())


@contextmanager
def _reading_projections(layout: Layout) -> Iterator[dict[int, Tensor]]:
    """What the model's own output projections are handed, by layer."""
    read: dict[int, Tensor] = {}
    handles = []

    def keep(layer: int) -> Callable[[Any, tuple[Any, ...]], None]:
        def hook(_module: Any, inputs: tuple[Any, ...]) -> None:
            read[layer] = inputs[0].detach().clone()

        return hook

    for layer in range(layout.layers):
        handles.append(raw(layout.bridge.blocks[layer].attn.o).register_forward_pre_hook(keep(layer)))
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def _known_end(layout: Layout, seen: Seen, logits: Tensor) -> tuple[Readout, dict[str, str]]:
    """The end of the model: computed where that gives its logits, else run; and what is wrong where neither does."""
    computed, final = Readout(layout), seen.get(layout.final_residual)
    if final is None:
        return computed, {"readout": "the final norm does not show its input"}
    found = ""
    for readout in (computed, Readout(layout, runs=True)):
        try:
            error = _relative_error(readout.all_logits(final[:, -1]), logits[:, -1])  # [prompts, d_vocab]
        except (AttributeError, RuntimeError, ValueError, TypeError) as reason:  # its parts are others, or not there
            error = str(reason).splitlines()[0]
        if error is None:
            return readout, {}
        found = found or error
    return computed, {"readout": f"final norm and unembedding do not give the model's logits ({found})"}


def _relative_error(got: Tensor, expected: Tensor, least: float = 0.0) -> str | None:
    if got.shape != expected.shape:
        return f"{list(got.shape)} instead of {list(expected.shape)}"
    scale = float(expected.abs().max()) or 1.0
    error = float((got - expected).abs().max()) / scale
    return None if error <= max(_TOLERANCE[expected.dtype], least) else f"off by {error:.1%} of the largest value"
