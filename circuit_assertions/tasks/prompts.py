"""Prompts with labelled positions: what every task produces and every measure reads."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from circuit_assertions.tasks.answers import NO_ANSWER, Answers
from circuit_assertions.tasks.metrics import LOGIT_DIFFERENCE, AnswerMetric

__all__ = ["END", "TO_PATCH", "Prompt", "PromptSet"]

END = "end"  # where the answer is read, which every prompt has: the last token, or the last but one of a repetition
# What a task must offer so that a model can be patched on it, and its circuit found, diagnosed and followed.
TO_PATCH = frozenset({"answer", "wrong-answer", "counterfactual"})
_DIGITS = 16


@dataclass(frozen=True)
class Prompt:
    """One prompt, as token ids of one tokenizer.

    Attributes:
        tokens: token ids, a BOS included where the policy asks for one.
        text: what was tokenized, without what stands before it; empty for random tokens.
        positions: label -> index into `tokens`; `end` is always among them.
        right: the tokens that should come after `end`; empty where the task has no answer.
        wrong: the tokens that the right ones are compared with.
        counterfactual: the counterfactual's token ids, of the same length.
        template: the group that balance is counted in, `ABBA/3`.
        targets: (position, next token id) pairs that loss and probability are averaged over; several tokens of one
            position are alternatives.
        repeat: (first index, period) of a sequence that is repeated once.
        metric: by what right and wrong are compared; the task's.
        before: the text in front of every prompt of the task: a conversation, a prefix.
    """

    tokens: tuple[int, ...]
    text: str
    positions: Mapping[str, int]
    right: Answers = NO_ANSWER
    wrong: Answers = NO_ANSWER
    counterfactual: tuple[int, ...] | None = None
    template: str = ""
    targets: tuple[tuple[int, int], ...] = ()
    repeat: tuple[int, int] | None = None
    metric: AnswerMetric = LOGIT_DIFFERENCE
    before: str = ""

    @cached_property
    def hash(self) -> str:
        """Of its token ids, clean and counterfactual, and its answers: 64 bits in hexadecimal digits.

        Values of two models are paired by it, prompt by prompt.
        """
        answers = self.right.plain, self.wrong.plain
        return hashlib.sha256(repr((self.tokens, self.counterfactual, *answers)).encode()).hexdigest()[:_DIGITS]

    @property
    def read_at(self) -> tuple[int, ...]:
        """The positions whose logits are read: those of the targets, in their order, and `end`."""
        return tuple(dict.fromkeys((*(place for place, _ in self.targets), self.positions[END])))

    @property
    def answers_at(self) -> tuple[int, ...]:
        """The positions where one of its answers stands, right or wrong."""
        answers = {*self.right.tokens, *self.wrong.tokens}
        return tuple(place for place, token in enumerate(self.tokens) if token in answers)

    @property
    def alternatives(self) -> tuple[tuple[int, ...], ...]:
        """For each position of a target, in their order, the tokens of which one should come next."""
        by_place: dict[int, tuple[int, ...]] = {}
        for place, token in self.targets:
            by_place[place] = (*by_place.get(place, ()), token)
        return tuple(by_place.values())


@dataclass(frozen=True)
class PromptSet:
    """All prompts of a task for one tokenizer, in a fixed order.

    Attributes:
        settings: how they were made: kind, seed, BOS policy and whatever else the task was told.
    """

    prompts: tuple[Prompt, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def longest(self) -> int:
        """Tokens in the longest prompt."""
        return max(len(prompt.tokens) for prompt in self.prompts)

    @property
    def token_hash(self) -> str:
        """SHA-256 over every token id, clean and counterfactual: two readings share it or are not comparable."""
        digest = hashlib.sha256()
        for prompt in self.prompts:
            answers = prompt.right.plain, prompt.wrong.plain
            digest.update(repr((prompt.tokens, prompt.counterfactual, *answers)).encode())
        return digest.hexdigest()

    @property
    def balance(self) -> dict[str, int]:
        """How many prompts each template gave."""
        return dict(sorted(Counter(prompt.template for prompt in self.prompts).items()))

    def some(self, rows: Iterable[int]) -> PromptSet:
        """The prompts of these indices, in their order."""
        return PromptSet(tuple(self.prompts[row] for row in rows), self.settings)

    def halves(self, split: int = 0) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Indices of two disjoint halves; see `shared_out`."""
        first, second = self.shared_out(2, split)
        return first, second

    def shared_out(self, parts: int, split: int = 0) -> tuple[tuple[int, ...], ...]:
        """Indices of disjoint parts of equal size: the prompts of every template are shared out between them.

        The templates are dealt in a random order. Dealt in their own order, two kinds of template that take turns
        would come into one half each where every template has a single prompt.

        Args:
            split: which of the random splits; each is the same at every call.
        """
        by_template: dict[str, list[int]] = {}
        for index, prompt in enumerate(self.prompts):
            by_template.setdefault(prompt.template, []).append(index)
        templates = sorted(by_template)
        drawn = random.Random(split)
        drawn.shuffle(templates)
        for template in templates if split else ():
            drawn.shuffle(by_template[template])
        dealt = [index for template in templates for index in by_template[template]]
        return tuple(tuple(sorted(dealt[part::parts])) for part in range(parts))

    def taking_turns(self) -> tuple[int, ...]:
        """Indices of all prompts, ordered so that the first ones are of as many templates as there are."""
        seen: Counter[str] = Counter()
        turns = []
        for index, prompt in enumerate(self.prompts):
            turns.append((seen[prompt.template], index))
            seen[prompt.template] += 1
        return tuple(index for _, index in sorted(turns))

    def batches(self, most: int, whole_templates: bool = False) -> Iterator[tuple[tuple[int, ...], tuple[Prompt, ...]]]:
        """Prompts of equal length, at most `most` together, each batch with its prompts' indices in this set.

        Nothing is ever padded, so a prompt's activations do not depend on its neighbours' lengths. With
        `whole_templates` all prompts of a template come in one batch, however many they are.
        """
        by_length: dict[int, list[int]] = {}
        for index, prompt in enumerate(self.prompts):
            by_length.setdefault(len(prompt.tokens), []).append(index)
        for _, indices in sorted(by_length.items()):
            for chosen in self._whole(indices, most) if whole_templates else _cut(indices, most):
                yield tuple(chosen), tuple(self.prompts[index] for index in chosen)

    def _whole(self, indices: list[int], most: int) -> Iterator[list[int]]:
        """Indices in pieces of about `most` that do not part the prompts of a template."""
        by_template: dict[str, list[int]] = {}
        for index in indices:
            by_template.setdefault(self.prompts[index].template, []).append(index)
        piece: list[int] = []
        for group in by_template.values():
            if piece and len(piece) + len(group) > most:
                yield piece
                piece = []
            piece = [*piece, *group]
        yield piece


def _cut(indices: list[int], most: int) -> Iterator[list[int]]:
    return (indices[start : start + most] for start in range(0, len(indices), most))
