"""What one component does to the answer, and to what others attend to and write."""

from __future__ import annotations

from circuit_assertions.measures.catalogue.spec import ANSWERS, CAUSAL, WANG, MeasureSpec
from circuit_assertions.tasks import TO_PATCH

__all__ = ["EFFECTS"]

_FROZEN = ("through-mlps", ("through-mlps", "direct"))
_SEMANTICS = ("through-mlps", (*_FROZEN[1], "total"))
_DIRECTIONS = ("counterfactual-into-clean", ("counterfactual-into-clean", "clean-into-counterfactual"))

EFFECTS = (
    MeasureSpec(
        "direct-effect",
        unit="logits",
        by_head=True,
        help="logit difference lost at `end` when the head's write is taken out of the final residual stream, the "
        "final norm recomputed",
        source=f"{WANG}, section 3.1 (direct effect on the logits; norm exact instead of frozen)",
        knocks_out=True,
        needs=ANSWERS,
        relies_on=("writes", "residual", "readout"),
    ),
    MeasureSpec(
        "path-effect",
        unit="logits",
        by_head=True,
        components=("head", "mlp"),
        help="logit difference that the sender carries to the receiver: what is lost when the path from it to the "
        "logits, or to some heads' queries, keys or values, carries the counterfactual's output; with semantics: total "
        "whatever follows the sender is live, which is total-effect",
        source=f"{WANG}, section 3 and appendix on path patching",
        choices={"receiver": ("logits", ()), "semantics": _SEMANTICS, "direction": _DIRECTIONS},
        needs=TO_PATCH,
        relies_on=CAUSAL,
    ),
    MeasureSpec(
        "total-effect",
        unit="logits",
        by_head=True,
        components=("head", "mlp", "residual"),
        help="logit difference lost when the component's own output, at the position `at` or at every one, is the "
        "counterfactual's and everything after it is live (activation patching)",
        source=f"{WANG}, appendix; Vig et al. 2020, arXiv 2004.12265; Meng et al. 2022, arXiv 2202.05262 (residual)",
        places=("at",),
        choices={"direction": _DIRECTIONS},
        needs=TO_PATCH,
        relies_on=CAUSAL,
    ),
    MeasureSpec(
        "pattern-effect",
        unit="logits",
        by_head=True,
        help="logit difference lost when the head attends as in the counterfactual, from the position `at` or from "
        "every one, over its own live values, and everything after it is live",
        source=f"{WANG}, appendix; Prakash et al. 2024, arXiv 2402.14811 (patching patterns alone)",
        places=("at",),
        choices={"direction": _DIRECTIONS},
        needs=TO_PATCH,
        relies_on=(*CAUSAL, "patterns", "inputs", "values"),
    ),
    MeasureSpec(
        "attention-effect",
        unit="share of attention",
        by_head=True,
        components=("head", "mlp"),
        help="attention of the receiver heads from the position `query` to the position `key` (their mean) that is "
        "lost when the path from the sender to their queries at `query`, or to their keys at `key`, carries the "
        "counterfactual's output; positive where attention is higher in the clean run, in either direction of "
        "patching",
        source=f"{WANG}, section 3 (the effect of S-inhibition heads on name movers' attention)",
        operands=("query", "key"),
        receives={"q": "query", "k": "key"},
        choices={"semantics": _FROZEN, "direction": _DIRECTIONS},
        needs=TO_PATCH | {"positions"},
        relies_on=(*CAUSAL, "patterns", "inputs"),
        lowest=-1,
        highest=1,
    ),
    MeasureSpec(
        "write-effect",
        unit="logits",
        by_head=True,
        components=("head", "mlp"),
        help="logit difference that the receiver heads together write at `end` straight into the final residual stream "
        "and that is lost when the path from the sender to their queries, keys or values carries the counterfactual's "
        "output; everything after the receivers stays, the final norm recomputed",
        source=f"{WANG}, section 3 (paths through the inputs of heads; direct between receivers and logits)",
        receives={"q": "end", "k": "", "v": ""},
        choices={"semantics": _FROZEN, "direction": _DIRECTIONS},
        needs=TO_PATCH,
        relies_on=(*CAUSAL, "inputs", "writes", "residual"),
    ),
)
