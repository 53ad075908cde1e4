"""The measures by name: operands, unit, what they need from a task, one line of help, and where they come from.

This is what a suite is validated against and what `circuit-assertions measures` prints; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import closest

__all__ = ["MEASURES", "MeasureSpec"]


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


_WANG = "Wang et al. 2022, arXiv 2211.00593"
_OLSSON = "Olsson et al. 2022, arXiv 2209.11895"
_ANSWERS = frozenset({"answer", "wrong-answer"})
_SEMANTICS = ("through-mlps", ("through-mlps", "direct"))
_ABLATIONS = ("mean", ("mean", "resample", "zero"))
_DIRECTIONS = ("counterfactual-into-clean", ("counterfactual-into-clean", "clean-into-counterfactual"))

_ALL = (
    MeasureSpec(
        "logit-difference",
        unit="logits",
        by_head=False,
        help="logit of the right answer minus logit of the wrong one, at `end`",
        source=f"{_WANG}, section 2",
        needs=_ANSWERS,
    ),
    MeasureSpec(
        "answer-rate",
        unit="share of prompts",
        by_head=False,
        help="how often the right answer's logit is above the wrong one's, at `end`",
        source=f"{_WANG}, section 2",
        needs=_ANSWERS,
        kind="share",
    ),
    MeasureSpec(
        "probability",
        unit="probability",
        by_head=False,
        help="probability of the right next token; mean over the repetition for repeated tokens",
        source=f"{_WANG}, section 2",
        needs=frozenset({"target"}),
    ),
    MeasureSpec(
        "loss",
        unit="nats",
        by_head=False,
        help="cross-entropy of the right next token; mean over the repetition for repeated tokens",
        source=f"{_OLSSON}, in-context learning",
        needs=frozenset({"target"}),
    ),
    MeasureSpec(
        "attention",
        unit="share of attention",
        by_head=True,
        help="attention that the head pays from the position `query` to the position `key`",
        source=f"{_WANG}, section 3",
        operands=("query", "key"),
        needs=frozenset({"positions"}),
        relies_on=("patterns",),
    ),
    MeasureSpec(
        "previous-token-score",
        unit="share of attention",
        by_head=True,
        help="mean attention from each repeated token to the one before it",
        source=f"{_WANG}, appendix on random tokens",
        needs=frozenset({"repeat"}),
        relies_on=("patterns",),
    ),
    MeasureSpec(
        "duplicate-token-score",
        unit="share of attention",
        by_head=True,
        help="mean attention from each repeated token to its earlier occurrence",
        source=f"{_WANG}, appendix on random tokens",
        needs=frozenset({"repeat"}),
        relies_on=("patterns",),
    ),
    MeasureSpec(
        "induction-score",
        unit="share of attention",
        by_head=True,
        help="mean attention from each repeated token to the one after its earlier occurrence",
        source=f"{_OLSSON}, prefix matching; {_WANG}, appendix on random tokens",
        needs=frozenset({"repeat"}),
        relies_on=("patterns",),
    ),
    MeasureSpec(
        "copy-score",
        unit="share of names",
        by_head=True,
        help="how often a name is among the five tokens that the head raises most where it reads that name",
        source=f"{_WANG}, section 3.1 (residual after block 0, through OV, final norm and unembedding)",
        needs=_ANSWERS,
        relies_on=("writes", "readout"),
    ),
    MeasureSpec(
        "negative-copy-score",
        unit="share of names",
        by_head=True,
        help="the copy score of the head's negated output: how often it lowers a name most where it reads that name",
        source=f"{_WANG}, section 3.1 (negative name movers)",
        needs=_ANSWERS,
        relies_on=("writes", "readout"),
    ),
    MeasureSpec(
        "direct-effect",
        unit="logits",
        by_head=True,
        help="logit difference lost at `end` when the head's write is taken out of the final residual stream, the "
        "final norm recomputed",
        source=f"{_WANG}, section 3.1 (direct effect on the logits; norm exact instead of frozen)",
        needs=_ANSWERS,
        relies_on=("writes", "residual", "readout"),
    ),
    MeasureSpec(
        "path-effect",
        unit="logits",
        by_head=True,
        help="logit difference that the head carries to the receiver: what is lost when the path from the head to the "
        "logits, or to some heads' queries, keys or values, carries the counterfactual's output",
        source=f"{_WANG}, section 3 and appendix on path patching",
        choices={"receiver": ("logits", ()), "semantics": _SEMANTICS, "direction": _DIRECTIONS},
        needs=_ANSWERS | {"counterfactual"},
        relies_on=("patterns", "writes", "residual", "readout"),
    ),
    MeasureSpec(
        "total-effect",
        unit="logits",
        by_head=True,
        help="logit difference lost when the head's own output, at every position, is the counterfactual's and "
        "everything after it is live (activation patching)",
        source=f"{_WANG}, appendix; Vig et al. 2020, arXiv 2004.12265",
        choices={"direction": _DIRECTIONS},
        needs=_ANSWERS | {"counterfactual"},
        relies_on=("patterns", "writes", "residual", "readout"),
    ),
    MeasureSpec(
        "ablation-effect",
        unit="logits",
        by_head=False,
        joint=True,
        help="logit difference lost when all of these heads are ablated together, at every position: by the mean over "
        "the counterfactual prompts of the same template, by the prompt's own counterfactual (resample), or by zero",
        source=f"{_WANG}, section 2 (knockouts)",
        choices={"ablation": _ABLATIONS},
        needs=_ANSWERS | {"counterfactual"},
        relies_on=("patterns", "writes", "residual", "readout"),
    ),
    MeasureSpec(
        "faithfulness",
        unit="share of the logit difference",
        by_head=False,
        joint=True,
        help="logit difference of these heads alone, every other head ablated at every position, over that of the "
        "whole model (ratio of means); MLPs stay",
        source=f"{_WANG}, section 4 (faithfulness; every position of a head is kept, not only the circuit's own)",
        choices={"ablation": _ABLATIONS},
        needs=_ANSWERS | {"counterfactual"},
        relies_on=("patterns", "writes", "residual", "readout"),
    ),
    MeasureSpec(
        "faithfulness-over-random",
        unit="share of the logit difference",
        by_head=False,
        joint=True,
        help="faithfulness of these heads less that of random sets with as many heads in each layer (ten sets, seeded)",
        source="a control for faithfulness: sets matched in size and layers",
        choices={"ablation": _ABLATIONS},
        needs=_ANSWERS | {"counterfactual"},
        relies_on=("patterns", "writes", "residual", "readout"),
    ),
)

MEASURES: dict[str, MeasureSpec] = {spec.name: spec for spec in _ALL}
