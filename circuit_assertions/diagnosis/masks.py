"""Desiderata-based component masking: which heads carry what a counterfactual changes.

A weight for each head is learned so that the answer moves to the one that the counterfactual brings, with a penalty for
each head that is patched, then rounded (Davies et al. 2023, arXiv 2307.03637; Prakash et al. 2024, arXiv 2402.14811,
section 5). Masks are learned on one part of the prompts, the penalty is chosen on another, and what is reported is read
on a third.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.errors import DiagnosisError
from circuit_assertions.diagnosis.view import View, check_enough
from circuit_assertions.heads import Head
from circuit_assertions.measures.figures import Figure
from circuit_assertions.measures.intervals import interval_of_share
from circuit_assertions.tasks import PromptSet, Task

__all__ = ["PENALTIES", "Mask", "Step", "carried_by", "find_mask", "learn"]

PENALTIES = (0.3, 0.1, 0.03, 0.01)  # logits a head, the dearest first; the paper has 0.01
_STEPS, _BATCH, _RATE = 30, 32, 0.1  # batches and rate are the paper's, which has two epochs of many more prompts
_SEARCH, _CHOOSE, _REPORT = range(3)  # parts of the prompts
_ENOUGH = 0.95  # of the best share among the penalties: the dearest penalty that has it is chosen
_RANDOM = 10


@dataclass(frozen=True)
class Step:
    """What one penalty led to.

    Attributes:
        heads: those that are patched.
        carries: the share of the prompts of the choosing part whose answer moves.
    """

    penalty: float
    heads: tuple[Head, ...]
    carries: float


@dataclass(frozen=True)
class Mask:
    """The heads that carry one thing.

    Attributes:
        what: what the counterfactual changes.
        path: the penalties, the dearest first.
        chosen: the one whose heads are reported.
        carries: the share of the reporting part's prompts whose answer moves with these heads; `random`: with as many
            random heads of each layer, the mean of several sets; `everyone`: with all heads.
        prompts: how many each part has.
    """

    checkpoint: Checkpoint
    what: str
    path: tuple[Step, ...]
    chosen: Step
    carries: Figure
    random: float
    everyone: Figure
    prompts: tuple[int, int, int]


def find_mask(
    audit: Audit,
    checkpoint: Checkpoint,
    task: Task,
    what: str,
    *,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Mask:
    """Learn which heads carry what the task's counterfactual can change alone.

    Args:
        penalties: for each head that is patched, in the unit of the answer metric.
        seed: of the order in which prompts are read.

    Raises:
        DiagnosisError: if the task's counterfactual cannot change this alone, there are too few prompts, or the
            model does not do the task.
        TaskError, CheckpointError, MeasuringError: if the model cannot be asked.
    """
    changed = task.changing(what)
    if changed is None:
        can = f"only {', '.join(task.changes)}" if task.changes else "nothing"
        raise DiagnosisError(f"the counterfactual of {task.kind} can change {can} alone, not {what!r}")
    prompts = audit.prompts(changed, checkpoint)
    check_enough(prompts, "to learn a mask by", audit.policy)
    view = View(audit, checkpoint, changed)
    if not view.figure(view.behaviour()).interval.low > 0:
        raise DiagnosisError(
            f"{checkpoint} does not do the task: its {changed.answer_metric.called} is not clearly above 0, so that no "
            f"head can carry its answer"
        )
    parts = tuple(prompts.shared_out(3))
    path = []
    for number, penalty in enumerate(penalties):
        tell(f"{what}: penalty {penalty:g}", number, len(penalties))
        heads = learn(audit, checkpoint, prompts.some(parts[_SEARCH]), penalty, seed)
        path.append(Step(penalty, heads, float(_moved(view, parts[_CHOOSE], heads).mean())))
    best = max(step.carries for step in path)
    chosen = next(step for step in path if step.carries >= _ENOUGH * best)
    everyone = tuple(view.all_heads)
    return Mask(
        checkpoint,
        what,
        tuple(path),
        chosen,
        carried_by(view, chosen.heads, parts[_REPORT]),
        _by_chance(view, chosen.heads, parts[_REPORT]),
        carried_by(view, everyone, parts[_REPORT]),
        (len(parts[_SEARCH]), len(parts[_CHOOSE]), len(parts[_REPORT])),
    )


def learn(audit: Audit, checkpoint: Checkpoint, prompts: PromptSet, penalty: float, seed: int = 0) -> tuple[Head, ...]:
    """The heads that a learned and rounded mask patches."""
    import torch

    from circuit_assertions.engine.masking import masked_metric, outputs_of_counterfactuals

    model = audit.model(checkpoint)
    shape, drawn = model.shape, random.Random(seed)
    kept = torch.ones(shape.layers, shape.heads, device=model.device, requires_grad=True)
    optimizer = torch.optim.Adam([kept], lr=_RATE)
    batches = [batch for _, batch in prompts.batches(_BATCH)]
    others = [outputs_of_counterfactuals(model, batch) for batch in batches]
    turns = chain.from_iterable(drawn.sample(range(len(batches)), len(batches)) for _ in range(_STEPS))
    for number in islice(turns, _STEPS):
        with torch.enable_grad():
            moved = masked_metric(model, batches[number], others[number], kept).mean()
            loss = moved + penalty * (1 - kept).sum()
            (gradient,) = torch.autograd.grad(loss, [kept])
        kept.grad = gradient
        optimizer.step()
        with torch.no_grad():
            kept.clamp_(0, 1)
    patched = (kept < 1 / 2).nonzero().tolist()
    return tuple(Head(layer, head) for layer, head in patched)


def carried_by(view: View, heads: Sequence[Head], rows: Sequence[int]) -> Figure:
    """How often the answer moves with these heads, on these prompts."""
    moved = _moved(view, rows, heads)
    return Figure(float(moved.mean()), interval_of_share(moved, view.level))


def _moved(view: View, rows: Sequence[int], heads: Sequence[Head]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """1 where the answer moves to the counterfactual's [prompts]; of no heads nothing moves."""
    some = replace(view, rows=tuple(rows))
    if not heads:
        return np.zeros(len(rows))
    return np.asarray(some.by_prompt("carries", set=tuple(sorted(heads))), dtype=np.float64)


def _by_chance(view: View, heads: Sequence[Head], rows: Sequence[int]) -> float:
    """The mean share of random sets with as many heads in each layer."""
    from circuit_assertions.measures.head_sets import random_sets

    sets = random_sets(view.audit.model(view.checkpoint), heads)[:_RANDOM] if heads else []
    return float(np.mean([_moved(view, rows, sorted(one)).mean() for one in sets])) if sets else 0.0
