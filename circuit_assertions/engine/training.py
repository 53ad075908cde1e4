"""Fine-tuning in memory in small steps: how soon a model answers a task again.

The model is a copy that was read from the files for this alone (`checkpoints.opening.open_copy`). Prompts are padded on
the right, where no position before can see the padding.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.engine.readout import SaidInFull, unrounded
from circuit_assertions.tasks import END, Prompt, PromptSet

__all__ = ["Course", "Training", "look_at", "said_at_end"]

_TOGETHER = 64  # prompts of one forward pass without gradients


@dataclass(frozen=True)
class Course:
    """How a model is fine-tuned.

    Attributes:
        rate: learning rate of AdamW, which decays no weights.
        batch: prompts of one step.
        steps: after how many it ends.
    """

    rate: float
    batch: int
    steps: int


def look_at(steps: int) -> tuple[int, ...]:
    """The steps after which a model is asked: 0, 1, 2, 3, 4, 6, 8, 11, ..., each about the root of 2 times the last."""
    seen = {0, steps}
    for power in range(2 * math.ceil(math.log2(max(steps, 1))) + 1):
        seen.add(min(steps, round(2 ** (power / 2))))
    return tuple(sorted(seen))


@dataclass
class Training:
    """Fine-tunes one copy of a model again and again, each time from the weights that it came with.

    Attributes:
        model: of transformers.
        trained, asked: the prompts whose right answers it learns, and those by which it is asked.
    """

    model: Any
    trained: PromptSet
    asked: PromptSet

    def __post_init__(self) -> None:
        self._start = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}

    def run(self, course: Course, seed: int, enough: Callable[[Tensor], bool]) -> Iterator[tuple[int, Tensor]]:
        """Fine-tune, and yield the number of steps and the answer metric [prompts asked] at each look.

        Args:
            seed: of the order of the prompts.
            enough: whether to stop, given the answer metric.
        """
        self._reset()
        weights = [weight for weight in self.model.parameters() if weight.is_floating_point()]
        for weight in weights:
            weight.requires_grad_(True)
        optimizer = torch.optim.AdamW(weights, course.rate, weight_decay=0.0)
        drawn = _order(len(self.trained), course.batch, seed)
        done = 0
        for look in look_at(course.steps):
            for _ in range(look - done):
                self._step(optimizer, [self.trained.prompts[row] for row in next(drawn)])
            done = look
            answered = self.answers()
            yield done, answered
            if enough(answered):
                break
        self._reset()

    @torch.no_grad()
    def answers(self) -> Tensor:
        """The answer metric of the prompts that are asked [prompts], float64 on the CPU."""
        found = list[Tensor]()
        for start in range(0, len(self.asked), _TOGETHER):
            some = self.asked.prompts[start : start + _TOGETHER]
            logits = said_at_end(self.model, some)
            said = SaidInFull(logits)
            right, wrong = [one.right for one in some], [one.wrong for one in some]
            found.append(some[0].metric.of(said, right, wrong).double().cpu())
        return torch.cat(found)

    def _step(self, optimizer: torch.optim.Optimizer, prompts: Sequence[Prompt]) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            spoken = unrounded(said_at_end(self.model, prompts)).log_softmax(dim=1)  # [prompts, d_vocab]
            right = [
                row[list(prompt.right.tokens)].logsumexp(dim=0) for row, prompt in zip(spoken, prompts, strict=True)
            ]
            loss = -torch.stack(right).mean()
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    @torch.no_grad()
    def _reset(self) -> None:
        for name, weight in self.model.named_parameters():
            weight.copy_(self._start[name])
            weight.grad = None


def said_at_end(model: Any, prompts: Sequence[Prompt]) -> Tensor:
    """Logits of a model of transformers at `end` of each prompt [prompts, d_vocab]."""
    longest = max(len(prompt.tokens) for prompt in prompts)
    device = next(model.parameters()).device
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long, device=device)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt.tokens)] = torch.tensor(prompt.tokens)
    ends = torch.tensor([prompt.positions[END] for prompt in prompts], device=device)
    logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits[torch.arange(len(prompts), device=device), ends]


def _order(count: int, batch: int, seed: int) -> Iterator[list[int]]:
    """Indices of the prompts of one step after another: all prompts in a random order, then in another."""
    drawn, ahead = random.Random(seed), list[int]()
    while True:
        while len(ahead) < batch:
            again = list(range(count))
            drawn.shuffle(again)
            ahead += again
        yield ahead[:batch]
        ahead = ahead[batch:]
