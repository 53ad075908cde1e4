"""What the model does: logits, probabilities, losses."""

from __future__ import annotations

from circuit_assertions.measures.catalogue.spec import ANSWERS, WANG, MeasureSpec

__all__ = ["BEHAVIOUR"]

_OLSSON = "Olsson et al. 2022, arXiv 2209.11895"

BEHAVIOUR = (
    MeasureSpec(
        "logit-difference",
        unit="logits",
        by_head=False,
        help="logit of the right answer minus logit of the wrong one, at `end`; of sets of answers, weighted means",
        source=f"{WANG}, section 2",
        needs=ANSWERS,
        metric="logit-difference",
    ),
    MeasureSpec(
        "probability-difference",
        unit="probability",
        by_head=False,
        help="probability of the right answers minus probability of the wrong ones, at `end`; weighted sums",
        source="Hanna et al. 2023, arXiv 2305.00586 (greater-than)",
        needs=ANSWERS,
        lowest=-1,
        highest=1,
        metric="probability-difference",
    ),
    MeasureSpec(
        "answer-rate",
        unit="share of prompts",
        by_head=False,
        help="how often the right answer's logit is above the wrong one's, at `end`; of sets of answers, how often the "
        "task's answer metric is above 0",
        source=f"{WANG}, section 2",
        needs=ANSWERS,
        kind="share",
        lowest=0,
        highest=1,
    ),
    MeasureSpec(
        "probability",
        unit="probability",
        by_head=False,
        help="probability of the right next token, or of any of several; mean over the repetition for repeated tokens",
        source=f"{WANG}, section 2",
        needs=frozenset({"target"}),
        lowest=0,
        highest=1,
    ),
    MeasureSpec(
        "loss",
        unit="nats",
        by_head=False,
        help="cross-entropy of the right next token, or of any of several; mean over the repetition for repeated "
        "tokens",
        source=f"{_OLSSON}, in-context learning",
        needs=frozenset({"target"}),
        lowest=0,
    ),
)
