"""The result of the `hunt` verb: the simplest prompt on which an assertion fails."""

from __future__ import annotations

from typing import Any, Literal

from circuit_assertions.results.audit import AssertionResult
from circuit_assertions.results.base import Part, Result
from circuit_assertions.results.values import CheckpointFacts

__all__ = ["FailingPrompt", "HuntResult", "PromptValue"]


class PromptValue(Part):
    """One head (or the mean of heads, or the model) on one prompt.

    Attributes:
        missed: by how much it misses what is expected; at most 0 if it does not.
        baseline: the same of the baseline.
    """

    name: str
    value: float
    missed: float
    baseline: float | None = None


class FailingPrompt(Part):
    """A prompt on which the assertion fails.

    Attributes:
        text: what is tokenized, what stands in front of it included; empty for random tokens.
        tokens: its token ids.
        right, wrong: the answers, as tokens of the tokenizer.
        template: the group that it belongs to.
        chosen: by what it was chosen among all prompts of the task.
        rows: the worst first.
        missed: by how much the prompt misses the assertion as a whole, in the unit of the measure.
    """

    text: str
    tokens: tuple[int, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    template: str
    chosen: dict[str, Any]
    rows: tuple[PromptValue, ...]
    missed: float


class HuntResult(Result):
    """A search for a prompt on which an assertion fails.

    Attributes:
        average: the assertion on the task's own prompts.
        failing: how many of these fail alone, and `asked`, of how many.
        seed, examples: of the search, and at most how many prompts.
        by: how much a prompt must miss the assertion by, to count as failing.
        tried: how many prompts were put to the model until one failed, and `simplified`, how many to make it simpler.
        kept: whether the prompt was kept by an earlier run.
        found: None where no prompt failed.
        record: the file that the search was recorded in; None if it was not.
    """

    kind: Literal["hunt"] = "hunt"
    model: CheckpointFacts
    baseline: str | None = None
    average: AssertionResult
    failing: int
    asked: int
    seed: int
    examples: int
    by: float
    tried: int
    simplified: int
    kept: bool
    database: str | None
    found: FailingPrompt | None
    record: str | None = None
