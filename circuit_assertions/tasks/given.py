"""The `prompts` task: the user's own pairs of clean and counterfactual text, with marked positions and answers.

Positions are marked in the text itself: `{giver:Tim} gave a ball to` labels the last token of `Tim` as `giver`; a
literal brace is doubled, `{{`. `end` is the last token and needs no mark.

An answer is one word, a list of words of which any will do, or words with their weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import (
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from circuit_assertions.bounded import UnreadableError, read_bounded
from circuit_assertions.tasks.answer_words import AnswerWords, answers_after
from circuit_assertions.tasks.chained import ChainedTask
from circuit_assertions.tasks.encoding import BosPolicy, Encoder, Marked
from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.metrics import LOGIT_DIFFERENCE, METRICS, AnswerMetric, MetricName
from circuit_assertions.tasks.prompts import END, Prompt, PromptSet
from circuit_assertions.tasks.schema import Strict

__all__ = ["GivenPrompt", "GivenPromptsTask"]

_MARK = re.compile(r"\{\{|\}\}|\{([^{}:]*):([^{}]*)\}|[{}]")
_LABEL = re.compile(r"[a-z][a-z0-9-]*")
_MOST_BYTES = 64_000_000  # of a file of prompts
_MOST_PAIRS = 100_000  # as many prompts as the other tasks make at most


class GivenPrompt(Strict):
    """One pair: a clean text, its counterfactual of the same length, and the answers after the clean text."""

    clean: str = Field(min_length=1, description="the text, positions marked as {label:words}")
    counterfactual: str | None = Field(None, description="the counterfactual text, with as many tokens")
    right: AnswerWords | None = Field(
        None, description="the next word that is right; a list of words, or words with their weights, each up to 1"
    )
    wrong: AnswerWords | None = Field(None, description="the wrong next word that it is compared with, likewise")

    @field_validator("clean", "counterfactual")
    @classmethod
    def _marks_can_be_read(cls, text: str | None) -> str | None:
        if text is not None:
            read_marks(text)
        return text


class GivenPromptsTask(ChainedTask):
    """The user's own prompts, inline or from a JSONL file."""

    kind: Literal["prompts"]
    pairs: tuple[GivenPrompt, ...] = Field((), max_length=_MOST_PAIRS, description="the prompts, inline")
    file: str | None = Field(None, description="a JSONL file with one prompt per line, relative to the suite")
    bos: BosPolicy = Field("tokenizer", description="whether prompts begin with a BOS token")
    metric: MetricName = Field(LOGIT_DIFFERENCE.name, description="by what right and wrong answers are compared")

    help: ClassVar[str] = "your own pairs"
    positions: ClassVar[Mapping[str, str]] = {END: "the last token, where the answer is read"}
    by_name: ClassVar[bool] = False
    shorter: ClassVar[str] = "shorter texts"

    circuit: ClassVar[str] = ""  # it has the name of the task or of its chain

    @model_validator(mode="before")
    @classmethod
    def _read_file(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("file"), str):
            return value
        if value.get("pairs"):
            raise ValueError("give either `pairs` or `file`, not both")
        folder = Path((info.context or {}).get("folder", "."))
        return value | {"pairs": _read_jsonl(folder / value["file"])}

    @model_validator(mode="after")
    def _has_prompts(self) -> GivenPromptsTask:
        if not self.pairs:
            raise ValueError("a task of kind prompts needs `pairs` or a `file`")
        return self

    @property
    def offers(self) -> frozenset[str]:
        """What measures can ask of these prompts: only what every one of them has."""
        has = {
            "answer": all(pair.right is not None for pair in self.pairs),
            "wrong-answer": all(pair.wrong is not None for pair in self.pairs),
            "counterfactual": all(pair.counterfactual is not None for pair in self.pairs),
        }
        return frozenset({"positions", *(name for name, given in has.items() if given)})

    @property
    def count(self) -> int:
        """How many prompts there are."""
        return len(self.pairs)

    @property
    def answer_metric(self) -> AnswerMetric:
        """By what right and wrong answers are compared."""
        return METRICS[self.metric]

    def labels(self) -> frozenset[str]:
        """The positions that every one of these prompts names."""
        shared = frozenset.intersection(*(frozenset(read_marks(pair.clean).spans) for pair in self.pairs))
        return shared | {END}

    def make(self, tokenizer: Any) -> PromptSet:
        """Tokenize the prompts.

        Raises:
            TaskError: if a word of an answer is not a single token, or two are the same one, or a counterfactual has
                another length, or the tokenizer's chat template cannot be used.
        """
        before = self.before(tokenizer)
        encoder = Encoder(tokenizer, self.bos, before)
        made = tuple(_prompt(number, pair, encoder) for number, pair in enumerate(self.pairs, start=1))
        return PromptSet(made, {"kind": self.kind, "bos": self.bos, "prompts": len(made), **before.settings})

    def one(self, tokenizer: Any, chosen: Mapping[str, Any]) -> PromptSet:
        """A single one of the prompts."""
        return self.model_copy(update={"pairs": (self.pairs[chosen["prompt"]],)}).make(tokenizer)

    def as_given(self) -> dict[str, Any]:
        """Its keys as a suite could hold them, the prompts of a file inline."""
        return super().as_given() | {"file": None}


def read_marks(text: str) -> Marked:
    """Take the marks out of `text`.

    Raises:
        ValueError: if a brace is not part of a mark, or a label is no lower-case word.
    """
    marked, last = Marked(), 0
    for match in _MARK.finditer(text):
        marked.add(text[last : match.start()])
        last = match.end()
        label, words = match[1], match[2]
        if match[0] in ("{{", "}}"):
            marked.add(match[0][0])
        elif label is None or not _LABEL.fullmatch(label) or not words.strip():
            raise ValueError(f"{match[0]!r} in {text!r} is not a mark: write {{label:words}}, or {{{{ for a brace")
        elif label == END or label in marked.spans:
            raise ValueError(f"label {label!r} is given twice in {text!r} (`end` is always the last token)")
        else:
            marked.add(words, label)
    return marked.add(text[last:])


def _read_jsonl(file: Path) -> list[dict[str, Any]]:
    try:
        # Not splitlines(): a JSON string may hold what Unicode takes for a line's end.
        lines = read_bounded(file, _MOST_BYTES).decode("utf-8-sig").split("\n")
    except UnreadableError as error:
        raise ValueError(f"{file} {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} cannot be read: it is not in UTF-8") from error
    read: list[dict[str, Any]] = []
    adapter = TypeAdapter(GivenPrompt)
    for number, line in enumerate(lines, start=1):
        if len(read) >= _MOST_PAIRS and line.strip():
            raise ValueError(f"{file}:{number}: a task has at most {_MOST_PAIRS} prompts, and here is one more")
        if line.strip():
            try:
                read.append(adapter.validate_json(line).model_dump())
            except ValidationError as error:
                raise ValueError(f"{file}:{number}: {_first_problem(error)}") from error
    return read


def _first_problem(error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    if found["type"] == "missing":
        return f"{found['loc'][-1]!r} is missing"
    message = found["msg"].removeprefix("Value error, ")
    return f"{found['loc'][0]}: {message}" if found["loc"] else message


def _prompt(number: int, pair: GivenPrompt, encoder: Encoder) -> Prompt:
    marked = read_marks(pair.clean)
    tokens, positions = encoder.encode(marked)
    twin = encoder.encode(read_marks(pair.counterfactual))[0] if pair.counterfactual is not None else None
    if twin is not None and len(twin) != len(tokens):
        raise TaskError(
            f"prompt {number}: {marked.text!r} has {len(tokens)} tokens for this tokenizer and its counterfactual "
            f"{len(twin)}: choose words that give both the same length"
        )
    right, wrong = (
        answers_after(encoder, marked.text, words or (), f"prompt {number}") for words in (pair.right, pair.wrong)
    )
    end = len(tokens) - 1
    return Prompt(
        tokens=tokens,
        text=marked.text,
        before=encoder.before.text,
        positions=positions | {END: end},
        right=right,
        wrong=wrong,
        counterfactual=twin,
        template=f"prompt of {len(tokens)} tokens",
        targets=tuple((end, token) for token in right.tokens),
    )
