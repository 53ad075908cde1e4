"""The `templates` task: texts with slots that are filled from lists of words; the counterfactual changes one thing.

    The {subject:thing} near the {attractor} -> `is`, and with another word at `subject` `are`

A slot is written `{label:list}`, `{list}` where both have one name, `{:list}` without a label, or `{label:=other}` with
the word of another slot. A label that comes again has the same word again; its first place is the position `label`, the
next ones are `label-2` and so on. The counterfactual has another word in one slot (`changed`). All else stays as it is.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from circuit_assertions.tasks.answer_words import answers_after
from circuit_assertions.tasks.chained import ChainedTask
from circuit_assertions.tasks.drawing import Drawn, draw
from circuit_assertions.tasks.encoding import BosPolicy, Encoder
from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.kind import SeededTask
from circuit_assertions.tasks.metrics import LOGIT_DIFFERENCE, METRICS, AnswerMetric, MetricName
from circuit_assertions.tasks.prompts import END, Prompt, PromptSet
from circuit_assertions.tasks.slots import Texts

__all__ = ["TemplatesTask"]

_HASH_DIGITS = 12


class TemplatesTask(SeededTask, ChainedTask):
    """Templates with slots, and lists of words."""

    kind: Literal["templates"]
    prompts: int = Field(128, ge=2, le=100_000, strict=True, description="how many prompts")
    seed: int = Field(
        0, ge=0, strict=True, description="two audits with the same seed and tokenizer use the same prompts"
    )
    bos: BosPolicy = Field("tokenizer", description="whether prompts begin with a BOS token")
    texts: tuple[Texts, ...] = Field(
        min_length=1, max_length=1_000, description="templates with their words; prompts are shared out between them"
    )
    joined: bool = Field(
        False, strict=True, description="whether answers follow without a space, as digits of a number do"
    )
    metric: MetricName = Field(LOGIT_DIFFERENCE.name, description="by what right and wrong answers are compared")

    help: ClassVar[str] = (
        "texts with slots that are filled from lists of words; the counterfactual has another word in one of them"
    )
    positions: ClassVar[Mapping[str, str]] = {END: "the last token, where the answer is read"}
    by_name: ClassVar[bool] = False
    shorter: ClassVar[str] = "shorter `templates:`"
    circuit: ClassVar[str] = ""  # it has the name of the task or of its chain
    offers: ClassVar[frozenset[str]] = frozenset({"answer", "wrong-answer", "positions", "counterfactual"})

    @property
    def answer_metric(self) -> AnswerMetric:
        """By what right and wrong answers are compared."""
        return METRICS[self.metric]

    def labels(self) -> frozenset[str]:
        """The positions that every one of the templates names."""
        return frozenset.intersection(*(texts.positions for texts in self.texts)) | {END}

    def make(self, tokenizer: Any) -> PromptSet:
        """Make the prompts for one tokenizer. Words with other numbers of tokens than most of their list are left out.

        Raises:
            TaskError: if too few words are left, an answer is not a single token, a counterfactual has another length,
                or the tokenizer's chat template cannot be used.
        """
        before = self.before(tokenizer)
        encoder = Encoder(tokenizer, self.bos, before)
        usable = [texts.usable(encoder, self.prefix) for texts in self.texts]
        drawn = draw(usable, self.prompts, random.Random(self.seed))
        read = encoder.encode_all([text for one in drawn for text in (one.clean, one.twin)])
        made = tuple(
            self._prompt(number, one, encoder, *clean, twin)
            for number, (one, clean, (twin, _)) in enumerate(zip(drawn, read[::2], read[1::2], strict=True), start=1)
        )
        settings = self.model_dump(include={"kind", "prompts", "seed", "bos"}) | {
            "templates": sum(len(texts.templates) for texts in self.texts),
            "words": sum(texts.word_count for texts in usable),
            "texts": self._hash(),
        }
        return PromptSet(made, {**settings, **before.settings})

    def _prompt(
        self,
        number: int,
        drawn: Drawn,
        encoder: Encoder,
        tokens: tuple[int, ...],
        positions: Mapping[str, int],
        twin: tuple[int, ...],
    ) -> Prompt:
        text = drawn.clean.text
        if len(tokens) != len(twin):
            raise TaskError(
                f"prompt {number}: {text!r} has {len(tokens)} tokens for this tokenizer and its counterfactual "
                f"{drawn.twin.text!r} has {len(twin)}: choose words that give both the same length"
            )
        right, wrong = (
            answers_after(encoder, text, words, f"prompt {number}", joined=self.joined)
            for words in (drawn.right, drawn.wrong)
        )
        end = len(tokens) - 1
        return Prompt(
            tokens=tokens,
            text=text,
            before=encoder.before.text,
            positions=dict(positions) | {END: end},
            right=right,
            wrong=wrong,
            counterfactual=twin,
            template=drawn.template,
            targets=tuple((end, token) for token in right.tokens),
        )

    def _hash(self) -> str:
        """What tells these templates and words from others, in the settings of the prompts."""
        said = json.dumps([self.model_dump(include={"texts", "joined"})], sort_keys=True, default=str)
        return hashlib.sha256(said.encode()).hexdigest()[:_HASH_DIGITS]
