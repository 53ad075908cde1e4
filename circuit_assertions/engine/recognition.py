"""What a model's blocks compute, found out by trying: the proof on the spot that the arithmetic is this model's own.

What differs between architectures (where the MLP reads, how queries and keys are normed and turned, which keys a query
may see) is not looked up by name: what there is gets tried on a few prompts, and what reproduces the whole of a
captured run is kept. Where nothing does, hooks measure instead. What takes effect on some prompts only, perhaps only on
patched ones, cannot be proven by a run: clamps and soft caps are read from the model, and attention sinks are refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from circuit_assertions.engine.arithmetic import Block, Turn, raw
from circuit_assertions.engine.cache import Run
from circuit_assertions.engine.layout import Layout
from circuit_assertions.engine.module_calls import HALVES, apply_norm

__all__ = ["NotRecognisedError", "recognise"]

_TRIED = 2  # prompts that tell most wrong candidates from the right one


class NotRecognisedError(Exception):
    """No supported arithmetic reproduces a block. Never reaches the user: the hooks take over."""


def recognise(layout: Layout, run: Run, likely: Sequence[Block] = ()) -> list[Block]:
    """The arithmetic of every block, proven on a captured run.

    Args:
        likely: what was recognised on another run of the same model. It is tried first, and proven like any other.

    Raises:
        NotRecognisedError: with the reason, if some block does something that is not supported.
    """
    runs = (run.of_prompts(_TRIED), run) if run.prompts > _TRIED else (run,)
    known = {block.layer: block for block in likely if _still(block, run)}
    return [known.get(layer) or _recognise_block(layout, layer, runs) for layer in range(layout.layers)]


def _still(block: Block, run: Run) -> bool:
    """Whether what was recognised on another run holds of this one."""
    with _wrong_if_impossible() as tried:
        tried.append(_is_read(block.layer, block.reads, block.mlp_norm, run) and _reproduces(block, run))
    return tried == [True]


def _recognise_block(layout: Layout, layer: int, runs: Sequence[Run]) -> Block:
    run, original = runs[0], raw(layout.bridge.blocks[layer].attn)
    if getattr(original, "sinks", None) is not None:
        raise NotRecognisedError(f"block {layer} has attention sinks, which are not supported")
    reads, norm = _recognise_mlp(layout, layer, runs)
    softcap = float(getattr(original, "attn_logit_softcapping", None) or 0.0)
    pattern = run.patterns[layer]
    rounded = pattern.dtype == torch.float64 and bool((pattern == pattern.float().double()).all())
    softmax = torch.float32 if rounded or pattern.dtype in HALVES else pattern.dtype
    turns: tuple[Turn | None, ...] = (_turn_halves, _turn_pairs) if layer in run.rotary else (None,)
    scales = _scales(original, layout.d_head(layer))
    for turn, scale, window in itertools.product(turns, scales, _windows(original)):
        block = Block(layout, layer, reads, norm, turn, scale, softcap, window, softmax)
        with _wrong_if_impossible() as tried:
            tried.append(all(_reproduces(block, each) for each in runs))
        if tried == [True]:
            return block
    raise NotRecognisedError(f"the attention of block {layer} is not computed in a supported way")


def _recognise_mlp(layout: Layout, layer: int, runs: Sequence[Run]) -> tuple[Literal["middle", "before"], Any]:
    block = layout.bridge.blocks[layer]
    norms = [raw(getattr(block, name)) for name in ("ln2", "ln1") if hasattr(block, name)]
    candidates: list[tuple[Literal["middle", "before"], Any]] = []
    for norm in (*norms, None):  # without any before the MLP: OLMo 2
        candidates += [("middle", norm), ("before", norm)]
    for reads, norm in candidates:
        with _wrong_if_impossible() as tried:
            tried.append(all(_is_read(layer, reads, norm, each) for each in runs))
        if tried == [True]:
            return reads, norm
    raise NotRecognisedError(f"the MLP of block {layer} has an input that is not supported")


@contextmanager
def _wrong_if_impossible() -> Iterator[list[bool]]:
    """A candidate that cannot even be computed with this model's parts is none: norms by head, other shapes."""
    try:
        yield []
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return


def _is_read(layer: int, reads: Literal["middle", "before"], norm: Any, run: Run) -> bool:
    rows = run.residual[layer]
    if reads == "middle":
        rows = rows + run.attention_writes[layer]
    return _close(apply_norm(norm, rows), run.mlp_inputs[layer])


def _reproduces(block: Block, run: Run) -> bool:
    layer = block.layer
    pattern, z = block.attend(run.residual[layer], run.rotary.get(layer))
    if not _close(pattern, run.patterns[layer]) or not _keys_stand_alone(block, run):
        return False
    write = block.attention_write(block.output(z))
    after = block.after(run.residual[layer], write)
    following = run.residual[layer + 1] if layer + 1 < len(run.residual) else run.final
    return _close(write, run.attention_writes[layer]) and _close(after, following)


def _keys_stand_alone(block: Block, run: Run) -> bool:
    """Whether keys come out the same where each head is given a copy of its group's, as receivers are."""
    projected, rotary = block.project("k", block.normed(run.residual[block.layer])), run.rotary.get(block.layer)
    together = block.for_each_query_head(block.placed("k", projected, rotary))
    return _close(block.placed("k", block.for_each_query_head(projected), rotary), together)


def _scales(original: Any, d_head: int) -> list[float]:
    """What this attention may multiply its scores by: its own word, the usual root, or nothing at all (GPT-Neo)."""
    said = getattr(original, "scaling", None)
    usual = [d_head**-0.5, 1.0]
    return [float(said), *usual] if isinstance(said, int | float) else usual


def _windows(original: Any) -> list[int]:
    """How far back this attention may look, by its own word or by its configuration's; 0 for no limit."""
    config = getattr(original, "config", None)
    said = (
        getattr(original, "sliding_window", None),
        getattr(config, "sliding_window", None),
        getattr(config, "window_size", None),  # GPT-Neo, in every other layer
    )
    return [int(window) for window in said if isinstance(window, int)] + [0]


def _turn_halves(rows: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding that pairs dimension i with i + half (Llama, NeoX); only the first dimensions are turned."""
    width = cosine.shape[-1]
    turned, rest = rows[..., :width], rows[..., width:]
    low, high = turned.chunk(2, dim=-1)
    other = torch.cat((-high, low), dim=-1)
    return torch.cat((turned * cosine[..., None, :] + other * sine[..., None, :], rest), dim=-1)


def _turn_pairs(rows: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding that pairs neighbouring dimensions (GPT-J)."""
    width = cosine.shape[-1]
    turned, rest = rows[..., :width], rows[..., width:]
    even, odd = turned[..., ::2], turned[..., 1::2]
    other = torch.stack((-odd, even), dim=-1).flatten(-2)
    return torch.cat((turned * cosine[..., None, :] + other * sine[..., None, :], rest), dim=-1)


def _close(got: Tensor, expected: Tensor) -> bool:
    if got.shape != expected.shape:
        return False
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-3}.get(expected.dtype, 1e-1)
    # NaN of a damaged model proves nothing, and whatever follows it is NaN by any arithmetic.
    known = expected.isfinite()
    scale = float(expected.where(known, 0.0).abs().max()) or 1.0
    return float((got - expected).where(known, 0.0).abs().max()) <= tolerance * scale
