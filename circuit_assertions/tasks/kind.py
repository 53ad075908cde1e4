"""What a kind of task declares. A kind is one subclass of `TaskKind`, in one file: of this folder, or of a package that
names the class under the entry points `circuit_assertions.tasks`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import GetJsonSchemaHandler, ModelWrapValidatorHandler, PrivateAttr, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.growing import PromptsThatGrow
from circuit_assertions.tasks.metrics import LOGIT_DIFFERENCE, AnswerMetric
from circuit_assertions.tasks.prompts import PromptSet
from circuit_assertions.tasks.schema import Strict

__all__ = ["Choice", "Option", "SeededTask", "TaskKind"]


class Option(NamedTuple):
    """An option of the command line that sets one key of a task.

    Attributes:
        flag: as people type it, `--names`.
        key: as suites write it, `names`.
        takes: `words` with commas between them; `texts`, one each time that it is given; one `text`; or `nothing`, for
            a key that is true or false.
    """

    flag: str
    key: str
    help: str
    takes: Literal["words", "texts", "text", "nothing"] = "words"


class Choice(NamedTuple):
    """What one part of a prompt can be.

    Attributes:
        options: the simplest first.
        several: how many different ones a prompt has, as a tuple; 0 for a single one.
    """

    options: Sequence[Any]
    several: int = 0


class TaskKind(Strict):
    """One kind of task. Its fields are what a suite may say about a task; what follows is the same for all of a kind.

    A subclass declares `kind: Literal["my-kind"]`, `help`, `positions` and `offers`, and computes `count` and `make`.

    Attributes:
        kind: the name of the kind.
        help: one line about its prompts.
        positions: the labels that every prompt has, each with a line of help.
        circuit: the name of its circuit, and of the chain by which it is found; empty for a chain without roles, whose
            circuit is called as the task is.
        by_name: whether the name of the kind alone makes a task.
        default: whether it is the task where none is given; so of one kind.
        shorter: what to change where prompts are too long for a model.
        options: options of the command line that set its keys.
        changes: what its counterfactual can change alone, so that one can ask which heads carry it.
    """

    kind: str

    help: ClassVar[str] = ""
    positions: ClassVar[Mapping[str, str]] = {}
    circuit: ClassVar[str] = ""
    by_name: ClassVar[bool] = True
    default: ClassVar[bool] = False
    shorter: ClassVar[str] = "shorter prompts"
    options: ClassVar[tuple[Option, ...]] = ()
    changes: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def offers(self) -> frozenset[str]:
        """What measures can ask of its prompts: `answer`, `wrong-answer`, `counterfactual`, `positions`, `repeat`."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many prompts it makes."""

    @abstractmethod
    def make(self, tokenizer: Any) -> PromptSet:
        """The prompts for one tokenizer.

        Raises:
            TaskError: if the tokenizer does not allow it.
        """

    @property
    def answer_metric(self) -> AnswerMetric:
        """By what right and wrong answers are compared."""
        return LOGIT_DIFFERENCE

    def labels(self) -> frozenset[str]:
        """The positions that every prompt of this task names."""
        return frozenset(self.positions)

    @property
    def looks(self) -> tuple[Self, ...]:
        """The task with as many prompts as are asked at first, then with more; one where their number is fixed."""
        return (self,)

    def look_with(self, prompts: int) -> Self:
        """The first look with at least so many prompts; the last, where no look has so many."""
        return next((look for look in self.looks if look.count >= prompts), self.looks[-1])

    @property
    def budget(self) -> int:
        """How many prompts are asked at most."""
        return self.looks[-1].count

    def as_given(self) -> dict[str, Any]:
        """Its keys as a suite could hold them, for a task that differs in some of them."""
        return self.model_dump(by_alias=True)

    def way_shorter(self) -> str:
        """What to change where prompts are too long for a model."""
        return self.shorter

    def with_count(self, count: int) -> Self | None:
        """The task with so many prompts, the first ones the same; None where their number is fixed."""
        return None

    def with_seed(self, seed: int) -> Self | None:
        """The task with other prompts of the same kind; None where nothing is drawn."""
        return None

    def changing(self, what: str) -> Self | None:
        """The task with the same prompts, whose counterfactual changes this alone; None where none of `changes` is it.

        The wrong answer of such a prompt is the one that its counterfactual brings.
        """
        return None

    def choices(self, tokenizer: Any) -> Mapping[str, Choice]:
        """By what a single prompt is chosen, for `one`; by default by its place among the task's prompts.

        Raises:
            TaskError: if the tokenizer does not allow the task.
        """
        return {"prompt": Choice(range(self.budget))}

    def one(self, tokenizer: Any, chosen: Mapping[str, Any]) -> PromptSet:
        """A single prompt.

        Args:
            chosen: an option for each of its `choices`, or a tuple of them where there are several.

        Raises:
            TaskError: if the tokenizer does not allow it.
        """
        return self.looks[-1].make(tokenizer).some([chosen["prompt"]])

    @classmethod
    def fitting(cls, positions: int) -> Self | None:
        """A task of this kind, with its defaults, for a model of so many positions; None where it has no such size."""
        return None

    def build(self, tokenizer: Any) -> PromptSet:
        """The prompts for one tokenizer, with the task's answer metric.

        Raises:
            TaskError: if the tokenizer does not allow it, or a prompt lacks what the kind declares.
        """
        made, metric = self.make(tokenizer), self.answer_metric
        for number, prompt in enumerate(made.prompts, start=1):
            missing = sorted(self.labels() - set(prompt.positions))
            if missing:
                raise TaskError(f"kind {self.kind} promises a position {missing[0]!r}, and prompt {number} has none")
        if metric is LOGIT_DIFFERENCE:
            return made
        prompts = tuple(replace(prompt, metric=metric) for prompt in made.prompts)
        return PromptSet(prompts, {**made.settings, "metric": metric.name})


class SeededTask(TaskKind):
    """A kind whose prompts are drawn, as many as are asked for. Subclasses declare its fields with their help.

    In place of a number of prompts a suite may give `{start: 64, budget: 2048}`: a kind needs nothing for that.
    """

    prompts: int
    seed: int
    _growing: PromptsThatGrow | None = PrivateAttr(None)

    @model_validator(mode="wrap")
    @classmethod
    def _prompts_may_grow(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, Mapping) or not isinstance(value.get("prompts"), Mapping):
            return handler(value)
        growing = PromptsThatGrow.under_key(value["prompts"])
        handler({**value, "prompts": growing.budget})  # so many must be allowed too
        made = handler({**value, "prompts": growing.start})
        made._growing = growing
        return made

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        declared = handler.resolve_ref_schema(made).get("properties", {})
        if "prompts" in declared:
            declared["prompts"] = PromptsThatGrow.beside(declared["prompts"])
        return made

    @property
    def count(self) -> int:
        """How many prompts it makes."""
        return self.prompts

    @property
    def looks(self) -> tuple[Self, ...]:
        """The task with as many prompts as are asked at first, then with more; one where their number is fixed."""
        return (self,) if self._growing is None else tuple(map(self.with_count, self._growing.counts))

    def with_count(self, count: int) -> Self:
        """The task with so many prompts of the same seed."""
        made = self.model_copy(update={"prompts": count})
        made._growing = None
        return made

    def with_seed(self, seed: int) -> Self:
        """The task with prompts of another seed."""
        return self.model_copy(update={"seed": seed})
