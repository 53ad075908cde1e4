"""The catalogue entry of one measure, and the check of how a suite uses it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from circuit_assertions.components import KINDS
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import closest

__all__ = ["ANSWERS", "CAUSAL", "WANG", "MeasureSpec"]

WANG = "Wang et al. 2022, arXiv 2211.00593"
ANSWERS = frozenset({"answer", "wrong-answer"})
CAUSAL = ("outputs", "readout")  # the facts that every patched run relies on


@dataclass(frozen=True)
class MeasureSpec:
    """What a suite may write about one measure.

    Attributes:
        by_head: whether it has one value per prompt *and head* (or other component); otherwise one per prompt.
        components: the kinds of components that it is read of, where it is read by component.
        operands: the positions that must be named, by key: `query`, `key`.
        places: positions that may be named; without them every position is meant.
        receives: where a `receiver` of heads must be named, the inputs that may receive (`q`, `k`, `v`), each with the
            position that it receives at, or the operand that names it; empty where any will do.
        choices: further keys with their defaults, and the words that each may be; a receiver has no list of words.
        counts: further keys that are whole numbers from 1, with their defaults.
        needs: what the task must offer: `answer`, `wrong-answer`, `target`, `positions`, `repeat`.
        relies_on: structural facts of the model, as `Model.limits` names them.
        joint: whether it is read of a set of heads together; the set is the operand `set`.
        knocks_out: whether it may be read while some heads are knocked out: the operand `without`.
        compares: what the model is compared with: `baseline`, `corrupted`. `diagnosis` computes such a measure.
        approximate: whether it is for triage only: no suite may assert on it.
        kind: `share` for values that are 0 or 1 for each prompt, `value` otherwise; decides the interval.
        lowest: the smallest value that a prompt can have, included; None if there is no such limit.
        highest: the largest value that a prompt can have, included.
        of_means: whether these limits hold only for means over prompts, and not for each prompt.
        metric: the answer metric that it reads, if it is one; others read answers by the task's own metric.
    """

    name: str
    unit: str
    by_head: bool
    help: str
    source: str
    components: tuple[str, ...] = ("head",)
    operands: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    receives: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    relies_on: tuple[str, ...] = ()
    kind: str = "value"
    joint: bool = False
    knocks_out: bool = False
    compares: tuple[str, ...] = ()
    approximate: bool = False
    lowest: float | None = None
    highest: float | None = None
    of_means: bool = False
    metric: str = ""

    @property
    def is_share(self) -> bool:
        """Whether its readings are shares, so that a bound may be written as 95%."""
        return self.unit.startswith("share") or self.highest == 1

    def unit_on(self, task: Task) -> str:
        """The unit of its readings of a task: that of the catalogue, or in the unit of the task's answer metric."""
        return self.unit if self.metric else task.answer_metric.in_its_unit(self.unit)

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

    @property
    def defaults(self) -> dict[str, Any]:
        """What each key that may be left out stands for."""
        return {key: default for key, (default, _) in self.choices.items()} | dict(self.counts)

    def lacking(self, offers: Collection[str]) -> list[str]:
        """What this measure needs and a task that offers these things has not. Answers and repetitions give targets."""
        has_target = {"answer", "repeat"} & set(offers)
        return sorted(self.needs - set(offers) - ({"target"} if has_target else set()))

    def problems(
        self, called: str, task: Task, operands: Mapping[str, Any], kinds: Collection[str] = ()
    ) -> Iterator[tuple[str, str]]:
        """What is wrong with reading this from a task with these operands: (key, message) pairs.

        Args:
            called: the task's name, for messages.
            kinds: the kinds of components that it is to be read of.
        """
        lacking = self.lacking(task.offers)
        if lacking:
            yield "measure", f"{self.name} needs a task with {' and '.join(lacking)}, and {called} has none"
        for kind in sorted(set(kinds) - set(self.components)) if self.by_head or self.joint else ():
            able = ", ".join(KINDS[each] for each in self.components)
            yield "components", f"{self.name} is not read of {KINDS[kind]}, only of {able}"
        if (
            "receiver" in self.choices
            and operands.get("semantics") == "total"
            and hasattr(operands.get("receiver"), "at")
        ):
            yield "semantics", "total effects have no receiver: leave `receiver:` out, or take through-mlps or direct"
        needed = {*self.operands, *(["receiver"] if self.receives else [])}
        for operand in sorted({*needed, *operands} - ({"set"} if self.joint else set())):
            value = operands.get(operand)
            if operand == "without" and self.knocks_out:
                if "counterfactual" not in task.offers:
                    yield operand, f"heads are knocked out by counterfactual prompts, and {called} has none"
            elif operand in self.choices:
                yield from self._wrong_choice(operand, value, called, task)
            elif operand in self.counts:
                if type(value) is not int or value < 1:
                    yield operand, f"{value!r} is not a number of {operand}: give a whole number from 1"
            elif operand == "receiver" and self.receives:
                yield from self._wrong_receiver(value, called, task, operands)
            elif operand not in (*self.operands, *self.places):
                yield operand, f"{self.name} takes no `{operand}`"
            elif value is None:
                yield operand, f"{self.name} needs `{operand}:`, a position of the task"
            else:
                yield from _wrong_position(operand, value, called, task)

    def _wrong_choice(self, key: str, value: Any, called: str, task: Task) -> Iterator[tuple[str, str]]:
        words = list(self.choices[key][1])
        if words and value not in words:
            yield key, f"unknown word {value!r}{closest(str(value), words)}"
        elif key == "receiver" and not (value == "logits" or hasattr(value, "at")):
            yield key, f"unknown receiver {value!r}: write logits, or {{query: ROLE, at: end}}"
        elif key == "receiver" and value != "logits" and value.at is not None:
            yield from _wrong_position(key, value.at, called, task)

    def _wrong_receiver(
        self, receiver: Any, called: str, task: Task, operands: Mapping[str, Any]
    ) -> Iterator[tuple[str, str]]:
        if not hasattr(receiver, "at"):
            yield "receiver", f"{self.name} needs `receiver:`, the heads that receive, such as {{query: ROLE}}"
        elif receiver.which not in self.receives:
            yield "receiver", f"{self.name} takes no values: they do not change where a head attends; use write-effect"
        elif receiver.at is not None:
            named = self.receives[receiver.which]
            place = operands.get(named, named)
            if place and place != receiver.at:
                yield (
                    "receiver",
                    f"{self.name} is about this input at {place!r}, not at {receiver.at!r}: leave `at` out",
                )
            else:
                yield from _wrong_position("receiver", receiver.at, called, task)


def _wrong_position(key: str, position: Any, called: str, task: Task) -> Iterator[tuple[str, str]]:
    if position not in task.labels():
        yield key, f"{called} has no position {position!r}{closest(str(position), sorted(task.labels()))}"
