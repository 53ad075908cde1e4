"""The `repeated-tokens` task: random tokens, repeated once (Olsson et al. 2022; Wang et al. 2022, appendix).

No token occurs twice within the first half, so each token of the second half has exactly one earlier occurrence, and
everything that predicts it must come from there. The published protocol doubles 100 tokens; `length` is shorter by
default so that models with few positions can be asked.

The answer is read at the last token but one: right is the token that comes there, wrong another of the sequence. The
counterfactual is another sequence, repeated as well, that does not contain the answer of this one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from circuit_assertions.tasks.answers import Answers
from circuit_assertions.tasks.encoding import BosPolicy, Encoder
from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.kind import Choice, SeededTask
from circuit_assertions.tasks.prompts import END, Prompt, PromptSet

__all__ = ["RepeatedTokensTask"]

_MOST_DRAWS = 2**16  # of single sequences, for each length
_MOST_TOKENS = 20_000_000  # of all sequences together, with their counterfactuals some gigabytes


class RepeatedTokensTask(SeededTask):
    """Random tokens, repeated."""

    kind: Literal["repeated-tokens"]
    prompts: int = Field(64, ge=2, le=100_000, strict=True, description="how many sequences")
    seed: int = Field(
        0, ge=0, strict=True, description="two audits with the same seed and tokenizer use the same sequences"
    )
    length: int = Field(24, ge=3, le=10_000, strict=True, description="tokens before the repetition")
    bos: BosPolicy = Field("tokenizer", description="whether sequences begin with a BOS token")

    help: ClassVar[str] = (
        "random tokens, repeated once, none twice within the first half; the counterfactual is another such sequence"
    )
    positions: ClassVar[Mapping[str, str]] = {
        "earlier": "where the token at `end` stood before",
        "after-earlier": "the token that followed it there, which is the answer",
        END: "the last token but one, where the answer is read",
    }
    circuit: ClassVar[str] = "induction"
    shorter: ClassVar[str] = "a smaller `length:`"
    offers: ClassVar[frozenset[str]] = frozenset({"repeat", "answer", "wrong-answer", "positions", "counterfactual"})

    @model_validator(mode="after")
    def _fits_the_memory(self) -> RepeatedTokensTask:
        tokens = 2 * self.prompts * self.length
        if tokens > _MOST_TOKENS:
            raise ValueError(
                f"{self.prompts} prompts of twice {self.length} tokens are {tokens} tokens, and a task has at most "
                f"{_MOST_TOKENS}: give fewer prompts or a smaller length"
            )
        return self

    @classmethod
    def fitting(cls, positions: int) -> Self:
        """Sequences of the default length, or as long as so many positions allow, with room for a BOS token."""
        return cls.model_validate({"kind": "repeated-tokens", "length": max(3, min(24, (positions - 2) // 2))})

    def choices(self, tokenizer: Any) -> Mapping[str, Choice]:
        """A sequence is chosen by its length, up to the task's own, and by what is drawn for it."""
        return {"length": Choice(range(3, self.length + 1)), "draw": Choice(range(_MOST_DRAWS))}

    def one(self, tokenizer: Any, chosen: Mapping[str, Any]) -> PromptSet:
        """A single sequence."""
        return self.model_copy(update={"length": chosen["length"], "seed": chosen["draw"], "prompts": 1}).make(
            tokenizer
        )

    def make(self, tokenizer: Any) -> PromptSet:
        """Make the sequences for one tokenizer, from all of its tokens that are not special.

        Raises:
            TaskError: if the vocabulary is smaller than `length`.
        """
        encoder = Encoder(tokenizer, self.bos)
        vocabulary = encoder.ordinary_tokens()
        if len(vocabulary) < self.length:
            least = 3
            way_out = f"use `length: {len(vocabulary)}` or less" if len(vocabulary) >= least else "ask another task"
            raise TaskError(
                f"task repeated-tokens needs {self.length} different tokens, and the vocabulary has "
                f"{len(vocabulary)}: {way_out}"
            )
        rng = random.Random(self.seed)
        further = random.Random(f"twins of {self.seed}")
        made = tuple(
            self._prompt(encoder, rng.sample(vocabulary, self.length), further.sample(vocabulary, self.length), further)
            for _ in range(self.prompts)
        )
        return PromptSet(made, self.model_dump() | {"vocabulary": len(vocabulary)})

    def _prompt(self, encoder: Encoder, drawn: list[int], others: list[int], rng: random.Random) -> Prompt:
        start = len(encoder.prefix)
        last = start + self.length - 1  # of the first half
        tokens = (*encoder.prefix, *drawn, *drawn)
        # The repetition's first token cannot be foretold, so the first target is its second.
        targets = tuple((place, tokens[place + 1]) for place in range(start + self.length, len(tokens) - 1))
        return Prompt(
            tokens=tokens,
            text="",
            positions={"earlier": last - 1, "after-earlier": last, END: len(tokens) - 2},
            right=Answers.of(drawn[-1]),
            wrong=Answers.of(rng.choice(drawn[:-2])),
            counterfactual=(*encoder.prefix, *others, *others),
            template=f"length {self.length}",
            targets=targets,
            repeat=(start, self.length),
        )
