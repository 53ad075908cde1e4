"""What sets of heads do together: knock-outs, and circuits beside random ones."""

from __future__ import annotations

from circuit_assertions.measures.catalogue.spec import ANSWERS, CAUSAL, WANG, MeasureSpec

__all__ = ["CIRCUITS"]

_ABLATIONS = ("mean", ("mean", "resample", "zero"))

CIRCUITS = (
    MeasureSpec(
        "ablation-effect",
        unit="logits",
        by_head=False,
        joint=True,
        help="logit difference lost when all of these heads are ablated together, at every position: by the mean over "
        "the counterfactual prompts of the same template, by the prompt's own counterfactual (resample), or by zero",
        source=f"{WANG}, section 2 (knockouts)",
        choices={"ablation": _ABLATIONS},
        needs=ANSWERS | {"counterfactual"},
        relies_on=CAUSAL,
    ),
    MeasureSpec(
        "faithfulness",
        unit="share of the logit difference",
        by_head=False,
        joint=True,
        help="logit difference of these heads alone, every other head ablated at every position, over that of the "
        "whole model (ratio of means); MLPs stay",
        source=f"{WANG}, section 4 (faithfulness; every position of a head is kept, not only the circuit's own)",
        choices={"ablation": _ABLATIONS},
        needs=ANSWERS | {"counterfactual"},
        relies_on=CAUSAL,
    ),
    MeasureSpec(
        "faithfulness-over-random",
        unit="share of the logit difference",
        by_head=False,
        joint=True,
        help="faithfulness of these heads less that of random sets with as many heads in each layer (ten sets, seeded)",
        source="a control for faithfulness: sets matched in size and layers",
        choices={"ablation": _ABLATIONS},
        needs=ANSWERS | {"counterfactual"},
        relies_on=CAUSAL,
    ),
)
