"""Forward passes over a task's prompts, each run once for everybody who wants something from it.

Prompts of equal length run together and nothing is padded. Only what somebody wants is kept, and only at the positions
that are read: the unembedding sees those positions alone, so no logits are formed that nobody looks at.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.engine.backends import AnyPatching, open_patching
from circuit_assertions.engine.entering import Entering, Place, places_of
from circuit_assertions.engine.layout import UNEMBED_INPUT
from circuit_assertions.engine.memory import budget
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.module_calls import HALVES
from circuit_assertions.engine.work import add_passes
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END, Prompt, PromptSet

__all__ = ["Pass", "Wanted", "bytes_a_prompt", "in_batches_of", "knocked_out", "prompts_together", "run_passes"]

# Only to show that no result depends on it: nothing but a calibration limits batches otherwise than by memory.
_most_together: ContextVar[int] = ContextVar("most_together", default=sys.maxsize)


@dataclass(frozen=True)
class Wanted:
    """What a pass has to keep. Combine with `|`.

    Attributes:
        entering: the places at which the residual stream entering each block is kept; None among them is wherever an
            answer stands.
        whole_templates: whether all prompts of a template are kept in one batch.
    """

    patterns: bool = False
    end_writes: bool = False
    after_block_0: bool = False
    target_logits: bool = False
    patching: bool = False
    whole_templates: bool = False
    entering: frozenset[Place] = frozenset()

    @classmethod
    def of(cls, kinds: Collection[str], at: Place = None) -> Wanted:
        """Some of them, by their names.

        Args:
            at: the place at which `entering` is wanted.
        """
        wanted: dict[str, Any] = dict.fromkeys(kinds, True)
        return cls(**wanted | ({"entering": frozenset({at})} if "entering" in kinds else {}))

    def __or__(self, other: Wanted) -> Wanted:
        return Wanted(
            self.patterns or other.patterns,
            self.end_writes or other.end_writes,
            self.after_block_0 or other.after_block_0,
            self.target_logits or other.target_logits,
            self.patching or other.patching,
            self.whole_templates or other.whole_templates,
            self.entering | other.entering,
        )


@dataclass
class Pass:
    """What one forward pass over some prompts of equal length showed. Lists have one entry per layer.

    Attributes:
        indices: the prompts' indices in their set.
        patterns: attention [prompts, heads, query positions, key positions].
        head_outputs: what each head hands to the output projection at `end` [prompts, heads, d_head].
        attention_outputs: the attention blocks' outputs at `end`, before any post-norm [prompts, d_model].
        final_residual: the residual stream at `end`, before the final norm [prompts, d_model].
        after_block_0: the residual stream leaving block 0 [prompts, positions, d_model].
        entering: the residual stream entering each block, at the places that are wanted.
        target_logits: logits at the positions `read_at` of each prompt [prompts, positions read, d_vocab].
        patching: the clean and the counterfactual run, ready to be patched into each other.
        replacements: what ablated heads put out, by the kind of ablation, kept by the code that ablates.
        ablated: logit difference without a set of heads [prompts], by kind of ablation and set, kept likewise.
        behind: what the same prompts show while a set of heads is knocked out, kept likewise.
    """

    model: Model
    prompts: tuple[Prompt, ...]
    indices: tuple[int, ...]
    patterns: list[Tensor] = field(default_factory=list)
    head_outputs: list[Tensor] = field(default_factory=list)
    attention_outputs: list[Tensor] = field(default_factory=list)
    final_residual: Tensor | None = None
    after_block_0: Tensor | None = None
    entering: Entering | None = None
    target_logits: Tensor | None = None
    patching: AnyPatching | None = None
    replacements: dict[str, list[Tensor]] = field(default_factory=dict)
    ablated: dict[tuple[str, frozenset[Head]], Tensor] = field(default_factory=dict)
    behind: dict[frozenset[Head], Pass] = field(default_factory=dict)

    def positions(self, label: str) -> Tensor:
        """Where each prompt has `label` [prompts]."""
        return torch.tensor([prompt.positions[label] for prompt in self.prompts], device=self.model.device)


def knocked_out(taken: Pass, heads: Collection[Head], replacement: Sequence[Tensor]) -> Pass:
    """Patterns and writes of the same prompts while some heads put out something else at every position.

    Args:
        replacement: a layer each, what they put out [prompts, positions, heads, d_head].
    """

    def putting(layer: int) -> tuple[str, Callable[..., Any]]:
        own = [head.head for head in heads if head.layer == layer]

        def put(value: Tensor, hook: Any) -> Tensor:
            changed = value.clone()
            changed[:, :, own] = replacement[layer][:, :, own].to(value)
            return changed

        return taken.model.layout.head_outputs(layer), put

    changes = [putting(layer) for layer in sorted({head.layer for head in heads})]
    wanted = Wanted(patterns=True, end_writes=True)
    return _run(taken.model, taken.indices, taken.prompts, wanted, changes)


@contextlib.contextmanager
def in_batches_of(most: int | None) -> Iterator[None]:
    """Run at most so many prompts together meanwhile; None for as many as there is memory for."""
    token = _most_together.set(sys.maxsize if most is None else most)
    try:
        yield
    finally:
        _most_together.reset(token)


def run_passes(model: Model, prompts: PromptSet, wanted: Wanted) -> Iterator[Pass]:
    """Run the clean prompts through the model, batch by batch, and hand out what each pass showed.

    The size of a batch follows from the memory that `wanted` takes; the results do not depend on it.
    """
    run = _of_patching if wanted.patching else _run
    for indices, batch in prompts.batches(_batch_size(model, prompts, wanted), wanted.whole_templates):
        yield run(model, indices, batch, wanted)


@torch.no_grad()
def _of_patching(model: Model, indices: tuple[int, ...], batch: tuple[Prompt, ...], wanted: Wanted) -> Pass:
    """The same from the clean run that patching keeps anyway, so that nobody runs the prompts twice."""
    patching = open_patching(model, batch)
    if model.source.dtype in HALVES:  # patching keeps more precise runs than the model's own
        everything = wanted | Wanted(patterns=True, end_writes=True, after_block_0=True)
        return replace(_run(model, indices, batch, everything), patching=patching)
    clean = patching.base
    taken = Pass(model, batch, indices, patterns=clean.patterns, patching=patching)
    rows = torch.arange(len(batch), device=model.device)
    end = taken.positions(END)
    taken.head_outputs = [z[rows, end] for z in clean.head_outputs]
    taken.attention_outputs = [output[rows, end] for output in clean.attention_outputs]
    taken.final_residual = clean.final[rows, end]
    taken.after_block_0 = clean.residual[1] if len(clean.residual) > 1 else clean.final
    if len(clean.residual) == model.layout.layers:
        taken.entering = Entering.whole(clean.residual)
    if wanted.target_logits:
        places = torch.tensor([prompt.read_at for prompt in batch], device=model.device)
        targets = clean.final[rows[:, None], places]  # [prompts, positions read, d_model]
        taken.target_logits = model.readout.all_logits(targets.flatten(0, 1)).view(*places.shape, -1)
    return taken


@torch.no_grad()
def _run(
    model: Model,
    indices: tuple[int, ...],
    batch: tuple[Prompt, ...],
    wanted: Wanted,
    changes: Sequence[tuple[str, Callable[..., Any]]] = (),
) -> Pass:
    taken = Pass(model, batch, indices)
    rows = torch.arange(len(batch), device=model.device)
    end = taken.positions(END)
    places = torch.tensor([prompt.read_at for prompt in batch], device=model.device)  # [prompts, positions read]

    def here(value: Tensor) -> Tensor:
        return value.to(model.device)  # a model may lie on several devices

    def at_end(value: Tensor) -> Tensor:
        return here(value[rows.to(value.device), end.to(value.device)])

    def into(target: list[Tensor], take: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Any], None]:
        def hook(value: Tensor, hook: Any) -> None:
            target.append(take(value))

        return hook

    def keep_final(value: Tensor, hook: Any) -> None:
        taken.final_residual = at_end(value)

    def keep_block_0(value: Tensor, hook: Any) -> None:
        taken.after_block_0 = here(value)

    def only_targets(value: Tensor, hook: Any) -> Tensor:
        return value[rows[:, None].to(value.device), places.to(value.device)] if wanted.target_logits else value[:, :1]

    hooks: list[tuple[str, Callable[..., Any]]] = [*changes, (UNEMBED_INPUT, only_targets)]
    if wanted.entering:
        hooks += _entering(taken, wanted.entering)
    for layer in range(model.layout.layers):
        if wanted.patterns:
            hooks.append((model.layout.pattern(layer), into(taken.patterns, here)))
        if wanted.end_writes:
            hooks.append((model.layout.head_outputs(layer), into(taken.head_outputs, at_end)))
            hooks.append((model.layout.attention_output(layer), into(taken.attention_outputs, at_end)))
    if wanted.end_writes:
        hooks.append((model.layout.final_residual, keep_final))
    if wanted.after_block_0:
        hooks.append((model.layout.residual_after(0), keep_block_0))
    tokens = torch.tensor([prompt.tokens for prompt in batch], device=model.device)
    add_passes(len(tokens))
    logits = model.bridge.run_with_hooks(tokens, fwd_hooks=hooks)
    taken.target_logits = here(logits) if wanted.target_logits else None
    return taken


def _entering(taken: Pass, places: frozenset[Place]) -> list[tuple[str, Callable[..., Any]]]:
    """Hooks that keep what enters each block at some places."""
    positions, slots = places_of(taken.prompts, places)
    blocks: list[Tensor] = []

    def keep(value: Tensor, hook: Any) -> None:
        rows = torch.arange(len(positions), device=value.device)[:, None]
        blocks.append(value[rows, positions.to(value.device)].to(taken.model.device))  # [prompts, slots, d_model]

    taken.entering = Entering(blocks, slots, places)
    return [(taken.model.layout.residual_before(layer), keep) for layer in range(taken.model.layout.layers)]


def _batch_size(model: Model, prompts: PromptSet, wanted: Wanted) -> int:
    return min(prompts_together(model, prompts, wanted), _most_together.get())


def prompts_together(model: Model, prompts: PromptSet, wanted: Wanted) -> int:
    """How many prompts run together, as far as memory decides it."""
    return max(1, budget(model.device) // bytes_a_prompt(model, prompts, wanted))


def bytes_a_prompt(model: Model, prompts: PromptSet, wanted: Wanted) -> int:
    """What a pass takes for each prompt."""
    layout, length = model.layout, prompts.longest
    numbers = 8 * length * layout.d_model  # the residual stream and what a block makes of it
    if wanted.patterns:
        numbers += layout.layers * layout.heads * length * length
    if wanted.end_writes:
        numbers += layout.layers * 2 * layout.d_model
    if wanted.entering:
        kept = max(places_of((prompt,), wanted.entering)[0].shape[1] for prompt in prompts.prompts)
        numbers += layout.layers * kept * layout.d_model
    if wanted.patching:  # two runs, of which everything is kept, and a row for each sender
        numbers += 2 * layout.layers * length * (7 * layout.d_model + layout.heads * length)
        numbers += layout.layers * (layout.heads + 1) * layout.d_model
    if wanted.target_logits:
        numbers += 2 * layout.vocabulary * max(len(prompt.read_at) for prompt in prompts.prompts)
    width = 4 if wanted.patching and model.source.dtype in HALVES else model.source.dtype.itemsize
    return width * numbers
