"""What measuring relies on, checked on the very model at opening: attention shown, writes that add up, a known end.

A model that fails a check is still opened; what relies on the missing fact is then refused with the sentence found
here, and everything else is measured.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from circuit_assertions.engine.layout import FINAL_RESIDUAL, Layout
from circuit_assertions.engine.readout import Readout

__all__ = ["check_model"]

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 2e-2}
_TOKENS = 6


@torch.no_grad()
def check_model(layout: Layout, device: torch.device) -> dict[str, str]:
    """Run a few random tokens once and return what does not hold, each with its reason. Empty when all holds."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, layout.vocabulary, (2, _TOKENS), generator=generator).to(device)
    seen: dict[str, Tensor] = {}

    def keep_as(name: str) -> tuple[str, Callable[..., None]]:
        def keep(value: Tensor, hook: object) -> None:
            seen[name] = value

        return name, keep

    names = [FINAL_RESIDUAL, *(name for layer in range(layout.layers) for name in _hooks(layout, layer))]
    known = set(layout.bridge.hook_dict)
    logits = layout.bridge.run_with_hooks(tokens, fwd_hooks=[keep_as(name) for name in names if name in known])
    limits: dict[str, str] = {}
    for layer in range(layout.layers):
        limits |= {fact: reason for fact, reason in _check_block(layout, layer, seen).items() if fact not in limits}
    return limits | _check_readout(layout, seen, logits)


def _hooks(layout: Layout, layer: int) -> list[str]:
    return [
        layout.pattern(layer),
        layout.head_outputs(layer),
        layout.attention_output(layer),
        layout.attention_write(layer),
        layout.mlp_write(layer),
        layout.residual_before(layer),
        layout.residual_after(layer),
    ]


def _check_block(layout: Layout, layer: int, seen: dict[str, Tensor]) -> dict[str, str]:
    pattern, z, output, write, mlp, before, after = (seen.get(name) for name in _hooks(layout, layer))
    limits = {}
    if pattern is None or pattern.shape[1:] != (layout.heads, _TOKENS, _TOKENS):
        limits["patterns"] = f"block {layer} does not show its attention pattern"
    if z is None or output is None or z.shape[2] != layout.heads:
        limits["writes"] = f"block {layer} does not show what its heads write"
    else:
        bias = layout.b_O(layer)
        summed = torch.einsum("bthd,hdm->btm", z, layout.W_O(layer).to(z.dtype))  # [prompts, positions, d_model]
        error = _relative_error(summed if bias is None else summed + bias, output)
        if error is not None:
            limits["writes"] = f"the heads' writes of block {layer} do not add up to its attention output ({error})"
    if "writes" not in limits and output is not None and write is not None:
        post_norm = layout.attention_post_norm(layer)
        error = _relative_error(output if post_norm is None else post_norm(output), write)
        if error is not None:
            limits["writes"] = f"block {layer} changes its attention output before adding it ({error})"
    if before is None or after is None or write is None or mlp is None:
        limits["residual"] = f"block {layer} does not show what it adds to the residual stream"
    else:
        error = _relative_error(before + write + mlp, after)
        if error is not None:
            limits["residual"] = f"block {layer} does not simply add attention and MLP to the residual stream ({error})"
    return limits


def _check_readout(layout: Layout, seen: dict[str, Tensor], logits: Tensor) -> dict[str, str]:
    final = seen.get(FINAL_RESIDUAL)
    if final is None:
        return {"readout": "the final norm does not show its input"}
    rows = Readout(layout).all_logits(final[:, -1])  # [prompts, d_vocab]
    error = _relative_error(rows, logits[:, -1])
    return {} if error is None else {"readout": f"final norm and unembedding do not give the model's logits ({error})"}


def _relative_error(got: Tensor, expected: Tensor) -> str | None:
    scale = float(expected.abs().max()) or 1.0
    error = float((got - expected).abs().max()) / scale
    return None if error <= _TOLERANCE[expected.dtype] else f"off by {error:.1%} of the largest value"
