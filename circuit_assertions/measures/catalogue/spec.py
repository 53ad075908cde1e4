"""What the catalogue says of one measure, and whether a suite asks for it rightly."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import closest

__all__ = ["ANSWERS", "CAUSAL", "WANG", "MeasureSpec"]

WANG = "Wang et al. 2022, arXiv 2211.00593"
ANSWERS = frozenset({"answer", "wrong-answer"})
CAUSAL = ("patterns", "writes", "residual", "readout")  # the facts that every patched run relies on


@dataclass(frozen=True)
class MeasureSpec:
    """What a suite may say about one measure.

    Attributes:
        by_head: whether it has one value a prompt *and head*; otherwise one a prompt.
        operands: the positions that must be named, by key: `query`, `key`.
        choices: further keys with their defaults, and the words that each may be; a receiver has no list of words.
        needs: what the task must offer: `answer`, `wrong-answer`, `target`, `positions`, `repeat`.
        relies_on: structural facts of the model, as `Model.limits` names them.
        joint: whether it is read of a set of heads together; the set is the operand `set`.
        kind: `share` for values that are 0 or 1 a prompt, `value` otherwise; decides the interval.
    """

    name: str
    unit: str
    by_head: bool
    help: str
    source: str
    operands: tuple[str, ...] = ()
    choices: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    relies_on: tuple[str, ...] = ()
    kind: str = "value"
    joint: bool = False

    def lacking(self, offers: Collection[str]) -> list[str]:
        """What this measure needs and a task that offers these things has not. Answers and repetitions give targets."""
        has_target = {"answer", "repeat"} & set(offers)
        return sorted(self.needs - set(offers) - ({"target"} if has_target else set()))

    def problems(self, called: str, task: Task, operands: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What is wrong with reading this from a task with these operands: (key, message) pairs.

        Args:
            called: the task's name, for messages.
        """
        lacking = self.lacking(task.offers)
        if lacking:
            yield "measure", f"{self.name} needs a task with {' and '.join(lacking)}, and {called} has none"
        for operand in sorted({*self.operands, *operands} - ({"set"} if self.joint else set())):
            value = operands.get(operand)
            if operand in self.choices:
                yield from self._wrong_choice(operand, value, called, task)
            elif operand not in self.operands:
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
            yield key, f"unknown receiver {value!r}: write logits, or {{query: name-mover, at: end}}"
        elif key == "receiver" and value != "logits":
            yield from _wrong_position(key, value.at, called, task)


def _wrong_position(key: str, position: Any, called: str, task: Task) -> Iterator[tuple[str, str]]:
    if position not in task.labels():
        yield key, f"{called} has no position {position!r}{closest(str(position), sorted(task.labels()))}"
