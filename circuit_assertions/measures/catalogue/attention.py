"""Which positions heads attend to, and what they copy."""

from __future__ import annotations

from circuit_assertions.measures.catalogue.spec import ANSWERS, WANG, MeasureSpec

__all__ = ["ATTENTION"]

_OLSSON = "Olsson et al. 2022, arXiv 2209.11895"

ATTENTION = (
    MeasureSpec(
        "attention",
        unit="share of attention",
        by_head=True,
        help="attention of the head from the position `query` to the position `key`",
        source=f"{WANG}, section 3",
        operands=("query", "key"),
        knocks_out=True,
        needs=frozenset({"positions"}),
        relies_on=("patterns",),
        lowest=0,
        highest=1,
    ),
    MeasureSpec(
        "previous-token-score",
        unit="share of attention",
        by_head=True,
        help="mean attention from each repeated token to the one before it",
        source=f"{WANG}, appendix on random tokens",
        needs=frozenset({"repeat"}),
        relies_on=("patterns",),
        lowest=0,
        highest=1,
    ),
    MeasureSpec(
        "duplicate-token-score",
        unit="share of attention",
        by_head=True,
        help="mean attention from each repeated token to its earlier occurrence",
        source=f"{WANG}, appendix on random tokens",
        needs=frozenset({"repeat"}),
        relies_on=("patterns",),
        lowest=0,
        highest=1,
    ),
    MeasureSpec(
        "induction-score",
        unit="share of attention",
        by_head=True,
        help="mean attention from each repeated token to the one after its earlier occurrence",
        source=f"{_OLSSON}, prefix matching; {WANG}, appendix on random tokens",
        needs=frozenset({"repeat"}),
        relies_on=("patterns",),
        lowest=0,
        highest=1,
    ),
    MeasureSpec(
        "copy-score",
        unit="share of names",
        by_head=True,
        help="how often a name is among the five tokens that the head raises most where it attends to that name",
        source=f"{WANG}, section 3.1 (residual after block 0, through OV, final norm and unembedding)",
        needs=ANSWERS,
        relies_on=("reads", "writes", "readout"),
        lowest=0,
        highest=1,
    ),
    MeasureSpec(
        "negative-copy-score",
        unit="share of names",
        by_head=True,
        help="the copy score of the head's negated output: how often it lowers a name most where it attends to it",
        source=f"{WANG}, section 3.1 (negative name movers)",
        needs=ANSWERS,
        relies_on=("reads", "writes", "readout"),
        lowest=0,
        highest=1,
    ),
)
