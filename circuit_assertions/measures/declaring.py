"""How a measure is declared: what a suite may write about it, and how it is computed, in one place.

    @measure("attention", kind="head", operands=AttentionOperands, wants=("patterns",), ...)
    def attention(taken: Pass, asked: Asked[AttentionOperands]) -> Tensor: ...

A file of measures is imported wherever suites are checked, so it imports torch, and what imports torch, in its
functions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from circuit_assertions.measures.operands import Operands
from circuit_assertions.tasks import LOGIT_DIFFERENCE, Task

if TYPE_CHECKING:
    from circuit_assertions.measures.sweeping import Sweep

__all__ = [
    "ANSWERS",
    "CAUSAL",
    "NOTHING",
    "OLSSON",
    "WANG",
    "Asked",
    "Captured",
    "Kind",
    "Measure",
    "Prepared",
    "measure",
]

WANG = "Wang et al. 2022, arXiv 2211.00593"
OLSSON = "Olsson et al. 2022, arXiv 2209.11895"
ANSWERS = frozenset({"answer", "wrong-answer"})
_ROUNDING = 1e-6  # of the largest value that is possible: what float32 leaves of nothing
_ROUNDING_WITHOUT_RANGE = 1e-5  # the same for values of the size of logits
CAUSAL = ("outputs", "readout")  # the facts that every patched run relies on

Array = NDArray[np.float64]

Kind = Literal["head", "set", "model", "comparing"]
Captured = Literal[
    "patterns", "end_writes", "after_block_0", "target_logits", "patching", "whole_templates", "entering"
]

Compute = Callable[..., Any]

Told = TypeVar("Told", bound=Operands)
Said = ParamSpec("Said")


@dataclass(frozen=True)
class Asked(Generic[Told]):
    """What a measure is told for one reading.

    Attributes:
        components: the columns of the reading; none for a measure without any.
        operands: as they were given, with the defaults of the others.
        prepared: what `prepare` found, by name.
    """

    components: Sequence[Any]
    operands: Told
    prepared: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """What a measure found before it is read.

    Attributes:
        values: for its functions, as `Asked.prepared`.
        found: the same as text, by name.
        searched: whether prompts were used to find it, so that only the others may be read.
    """

    values: Mapping[str, Any]
    found: Mapping[str, str] = field(default_factory=dict)
    searched: bool = True


NOTHING = Prepared({}, searched=False)


def _columns(columns: Array, asked: Asked[Any]) -> Array:
    return columns


def _nothing_beside(columns: Array, asked: Asked[Any]) -> Mapping[str, Array]:
    return {}


def _no_search(sweep: Sweep, asked: Asked[Any]) -> Prepared:
    return NOTHING


@dataclass(frozen=True, eq=False)
class Measure:
    """A measure: what a suite may write about it, and how it is computed.

    `compute` gives [prompts], or [prompts, components] for the components that are asked for, in their order. A measure
    that can only be formed once all prompts are there gives columns of its own [prompts, columns], of which `finish`
    makes what is read, and `beside` what is shown beside it, each [prompts]. A measure that must search before it is
    read says how in `prepare`. A measure that compares checkpoints is computed by `diagnosis`, from several of them.

    Attributes:
        kind: `head` if it has one value per prompt *and head* (or other component), `set` if it is read of a set of
            heads together, `model` if it is about the whole model, `comparing` if it needs other checkpoints too.
        operands: the model of its operands; its fields are keys of suites.
        components: the kinds of components that it is read of, where it is read by component.
        needs: what the task must offer: `answer`, `wrong-answer`, `target`, `positions`, `repeat`.
        relies_on: structural facts of the model, as `Model.limits` names them.
        wants: what a pass must keep for it; `entering` at its operand `at`, or wherever an answer stands.
        each: of a set: whether it has one value per prompt and head of the set.
        of_role: of comparing: whether it is read of a role's heads.
        compares: of comparing: the other checkpoints, `baseline` and `corrupted`.
        approximate: whether it is for triage only: no suite may assert on it.
        hits: whether values are 0 or 1 for each prompt; decides the interval.
        lowest: the smallest value that a prompt can have, included; None if there is no such limit.
        highest: the largest value that a prompt can have, included.
        of_means: whether these limits hold only for means over prompts, and not for each prompt.
        metric: the answer metric that it reads, if it is one; others read answers by the task's own metric.
    """

    compute: Callable[..., Any]
    name: str
    kind: Kind
    unit: str
    help: str
    source: str
    operands: type[Operands] = Operands
    components: tuple[str, ...] = ("head",)
    needs: frozenset[str] = frozenset()
    relies_on: tuple[str, ...] = ()
    wants: tuple[Captured, ...] = ()
    each: bool = False
    of_role: bool = False
    compares: tuple[str, ...] = ()
    approximate: bool = False
    hits: bool = False
    lowest: float | None = None
    highest: float | None = None
    of_means: bool = False
    metric: str = ""
    finish: Callable[[Array, Asked[Any]], Array] = _columns
    beside: Callable[[Array, Asked[Any]], Mapping[str, Array]] = _nothing_beside
    prepare: Callable[[Sweep, Asked[Any]], Prepared] = _no_search

    @property
    def searches(self) -> bool:
        """Whether it searches before it is read."""
        return self.prepare is not _no_search

    @property
    def finishes(self) -> bool:
        """Whether its columns are not yet what is read."""
        return self.finish is not _columns

    @property
    def shows_beside(self) -> bool:
        """Whether it reads other sets too, to show what it is compared with."""
        return self.beside is not _nothing_beside

    @property
    def by_head(self) -> bool:
        """Whether it has one value per prompt and head or other component; otherwise one per prompt."""
        return self.kind == "head" or self.each

    @property
    def joint(self) -> bool:
        """Whether it is read of several heads together."""
        return self.kind == "set" or self.of_role

    @property
    def reading_kind(self) -> Literal["share", "value"]:
        """What its readings are: `share` where values are 0 or 1 for each prompt."""
        return "share" if self.hits else "value"

    def unit_on(self, task: Task) -> str:
        """The unit of its readings of a task: its own, or in the unit of the task's answer metric."""
        return self.unit if self.metric else task.answer_metric.in_its_unit(self.unit)

    def range_on(self, task: Task | None) -> tuple[float | None, float | None]:
        """The smallest and the largest value on a task, in `unit_on` it; None where there is no such limit.

        Effects have no range of their own. They are differences of the task's answer metric, so they can have either
        sign, and are at most as large as the range of the metric, where it has one.
        """
        own = (self.lowest, self.highest)
        if own != (None, None) or self.metric or task is None or self.unit != LOGIT_DIFFERENCE.unit:
            return own
        low, high = task.answer_metric.lowest, task.answer_metric.highest
        return (None, None) if low is None or high is None else (low - high, high - low)

    def rounding_on(self, task: Task) -> float:
        """The size below which a value on a task is rounding and has no sign, in `unit_on` it."""
        low, high = self.range_on(task)
        return _ROUNDING_WITHOUT_RANGE if low is None or high is None else _ROUNDING * max(abs(low), abs(high))

    @property
    def is_share(self) -> bool:
        """Whether its readings are shares, so that a bound may be written as 95%."""
        return self.unit.startswith("share") or self.highest == 1

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The lowest and the highest value that a prompt can have, where there are such."""
        return (None, None) if self.of_means else (self.lowest, self.highest)

    @property
    def range_text(self) -> str:
        """`lies between 0 and 1`, `is never below 0`; empty where it has no limits."""
        if self.lowest is not None and self.highest is not None:
            return f"lies between {self.lowest:g} and {self.highest:g}"
        if self.lowest is not None:
            return f"is never below {self.lowest:g}"
        return "" if self.highest is None else f"is never above {self.highest:g}"

    def is_outside(self, bound: float) -> bool:
        """Whether no reading reaches this."""
        return (self.lowest is not None and bound < self.lowest) or (self.highest is not None and bound > self.highest)

    def meant(self, bound: float) -> str:
        """` (did you mean 0.95 or 95%?)` of 95, for what lies between 0 and 1; empty for other bounds."""
        if self.highest != 1 or not 1 < bound < 100:
            return ""
        return f" (did you mean {bound / 100:g} or {bound:g}%?)"

    def lacking(self, offers: Collection[str]) -> list[str]:
        """What this measure needs and a task that offers these things has not. Answers and repetitions give targets."""
        has_target = {"answer", "repeat"} & set(offers)
        return sorted(self.needs - set(offers) - ({"target"} if has_target else set()))


def _declaring(make: Callable[Concatenate[Compute, Said], Measure]) -> Callable[Said, Callable[[Compute], Measure]]:
    """What `make` takes but the computation, as a decorator of it."""

    def declare(*args: Said.args, **declared: Said.kwargs) -> Callable[[Compute], Measure]:
        return lambda compute: make(compute, *args, **declared)

    return declare


measure = _declaring(
    Measure
)  # declares a measure by what computes it; that function's name then stands for the measure
