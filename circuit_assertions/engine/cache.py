"""One captured run: what path patching and ablation take from a clean or a counterfactual pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.engine.layout import UNEMBED_INPUT
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.work import add_passes
from circuit_assertions.tasks import Prompt

__all__ = ["Run", "capture", "capture_both"]


@dataclass
class Run:
    """What one forward pass over prompts of equal length left behind. Lists have one entry per layer.

    Attributes:
        tokens: token ids [prompts, positions].
        residual: the residual stream entering each block [prompts, positions, d_model].
        head_outputs: what each head hands to the output projection [prompts, positions, heads, d_head].
        attention_outputs: attention before any post-norm [prompts, positions, d_model].
        attention_writes: what attention adds to the residual stream [prompts, positions, d_model].
        mlp_writes: what the MLP adds to the residual stream [prompts, positions, d_model].
        patterns: attention [prompts, heads, query positions, key positions].
        mlp_inputs: what the MLP reads, after its norm [prompts, positions, d_model].
        final: the residual stream before the final norm [prompts, positions, d_model].
        rotary: cosine and sine of the rotary embedding by layer, where there is one [1, positions, rotated].
    """

    tokens: Tensor
    residual: list[Tensor] = field(default_factory=list)
    head_outputs: list[Tensor] = field(default_factory=list)
    attention_outputs: list[Tensor] = field(default_factory=list)
    attention_writes: list[Tensor] = field(default_factory=list)
    mlp_writes: list[Tensor] = field(default_factory=list)
    patterns: list[Tensor] = field(default_factory=list)
    mlp_inputs: list[Tensor] = field(default_factory=list)
    final: Tensor = field(default_factory=lambda: torch.empty(0))
    rotary: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def prompts(self) -> int:
        """Prompts in the batch."""
        return int(self.tokens.shape[0])

    @property
    def positions(self) -> int:
        """Tokens in each prompt."""
        return int(self.tokens.shape[1])

    def of_prompts(self, count: int) -> Run:
        """What it left behind of so many prompts, the first ones."""
        kept = {
            name: [value[:count] for value in getattr(self, name)]
            for name in vars(self)
            if name not in ("tokens", "final", "rotary")
        }
        return Run(self.tokens[:count], **kept, final=self.final[:count], rotary=self.rotary)


@torch.no_grad()
def capture(model: Model, tokens: Tensor) -> Run:
    """Run `tokens` [prompts, positions] through the model once and keep what patching needs. No logits are formed."""
    run, layout = Run(tokens), model.layout
    hooks: list[tuple[str, Callable[..., Any]]] = [(UNEMBED_INPUT, lambda value, hook: value[:, :1])]

    def keep(name: str, into: list[Tensor]) -> None:
        def hook(value: Tensor, hook: Any) -> None:
            into.append(value.detach().to(model.device))  # a model may lie on several devices

        hooks.append((name, hook))

    def keep_rotary(layer: int) -> None:
        seen: list[Tensor] = []

        def hook(value: Tensor, hook: Any) -> None:
            seen.append(value.detach().to(model.device))
            if len(seen) == 2:
                run.rotary[layer] = (seen[0], seen[1])

        hooks.extend((name, hook) for name in layout.rotary(layer))

    finals: list[Tensor] = []
    keep(layout.final_residual, finals)
    for layer in range(layout.layers):
        for name, into in _kept(run, model, layer):
            if name in layout.hooks:
                keep(name, into)
        if layout.hooks.issuperset(layout.rotary(layer)):
            keep_rotary(layer)
    layout.bridge.run_with_hooks(tokens, fwd_hooks=hooks)
    run.final = finals[-1]  # some models norm their embeddings with the same module
    for layer in range(layout.layers):
        table = layout.rotary_table(layer)
        if layer not in run.rotary and table is not None:
            run.rotary[layer] = _looked_up(table, run)
    return run


def capture_both(model: Model, prompts: Sequence[Prompt]) -> tuple[Run, Run]:
    """The runs of the clean prompts and of their counterfactuals. Prompts are of equal length."""
    clean = torch.tensor([prompt.tokens for prompt in prompts], device=model.device)
    twins = torch.tensor([prompt.counterfactual for prompt in prompts], device=model.device)
    add_passes(len(clean) + len(twins))
    return capture(model, clean), capture(model, twins)


def _looked_up(table: Tensor, run: Run) -> tuple[Tensor, Tensor]:
    """Cosine and sine [1, positions, rotated] from a table of half as many sines, then cosines [positions, rotated]."""
    sine, cosine = table[: run.positions].to(run.final).chunk(2, dim=-1)
    return cosine.repeat_interleave(2, dim=-1)[None], sine.repeat_interleave(2, dim=-1)[None]


def _kept(run: Run, model: Model, layer: int) -> Sequence[tuple[str, list[Tensor]]]:
    layout = model.layout
    return (
        (layout.residual_before(layer), run.residual),
        (layout.head_outputs(layer), run.head_outputs),
        (layout.attention_output(layer), run.attention_outputs),
        (layout.attention_write(layer), run.attention_writes),
        (layout.mlp_write(layer), run.mlp_writes),
        (layout.mlp_input(layer), run.mlp_inputs),
        (layout.pattern(layer), run.patterns),
    )
