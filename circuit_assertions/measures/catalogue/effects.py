"""What one head does to the answer."""

from __future__ import annotations

from circuit_assertions.measures.catalogue.spec import ANSWERS, CAUSAL, WANG, MeasureSpec

__all__ = ["EFFECTS"]

_SEMANTICS = ("through-mlps", ("through-mlps", "direct"))
_DIRECTIONS = ("counterfactual-into-clean", ("counterfactual-into-clean", "clean-into-counterfactual"))

EFFECTS = (
    MeasureSpec(
        "direct-effect",
        unit="logits",
        by_head=True,
        help="logit difference lost at `end` when the head's write is taken out of the final residual stream, the "
        "final norm recomputed",
        source=f"{WANG}, section 3.1 (direct effect on the logits; norm exact instead of frozen)",
        needs=ANSWERS,
        relies_on=("writes", "residual", "readout"),
    ),
    MeasureSpec(
        "path-effect",
        unit="logits",
        by_head=True,
        help="logit difference that the head carries to the receiver: what is lost when the path from the head to the "
        "logits, or to some heads' queries, keys or values, carries the counterfactual's output",
        source=f"{WANG}, section 3 and appendix on path patching",
        choices={"receiver": ("logits", ()), "semantics": _SEMANTICS, "direction": _DIRECTIONS},
        needs=ANSWERS | {"counterfactual"},
        relies_on=CAUSAL,
    ),
    MeasureSpec(
        "total-effect",
        unit="logits",
        by_head=True,
        help="logit difference lost when the head's own output, at every position, is the counterfactual's and "
        "everything after it is live (activation patching)",
        source=f"{WANG}, appendix; Vig et al. 2020, arXiv 2004.12265",
        choices={"direction": _DIRECTIONS},
        needs=ANSWERS | {"counterfactual"},
        relies_on=CAUSAL,
    ),
)
