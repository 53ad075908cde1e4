"""The measures by name: operands, unit, what they need from a task, one line of help, and where they come from.

This is what a suite is validated against and what `circuit-assertions measures` prints; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["MEASURES", "MeasureSpec"]


@dataclass(frozen=True)
class MeasureSpec:
    """What a suite may say about one measure.

    Attributes:
        by_head: whether it has one value a prompt *and head*; otherwise one a prompt.
        operands: the positions that must be named, by key: `query`, `key`.
        needs: what the task must offer: `answer`, `wrong-answer`, `target`, `positions`, `repeat`.
        relies_on: structural facts of the model, as `Model.limits` names them.
        kind: `share` for values that are 0 or 1 a prompt, `value` otherwise; decides the interval.
    """

    name: str
    unit: str
    by_head: bool
    help: str
    source: str
    operands: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    relies_on: tuple[str, ...] = ()
    kind: str = "value"

    def lacking(self, offers: Collection[str]) -> list[str]:
        """What this measure needs and a task that offers these things has not. Answers and repetitions give targets."""
        has_target = {"answer", "repeat"} & set(offers)
        return sorted(self.needs - set(offers) - ({"target"} if has_target else set()))


_WANG = "Wang et al. 2022, arXiv 2211.00593"
_OLSSON = "Olsson et al. 2022, arXiv 2209.11895"
_ANSWERS = frozenset({"answer", "wrong-answer"})

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
)

MEASURES: dict[str, MeasureSpec] = {spec.name: spec for spec in _ALL}
