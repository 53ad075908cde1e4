"""A model compared with other checkpoints: what is left of a role, what was recovered, where a fault lies.

`diagnosis` computes them, because they need more than one model; this is what a suite may write about them.
"""

from __future__ import annotations

from circuit_assertions.measures.catalogue.spec import CAUSAL, MeasureSpec
from circuit_assertions.tasks import TO_PATCH

__all__ = ["COMPARING"]

_VITAL = "arXiv 2503.01896 (corruption and recovery of circuits); the definition is this project's"

COMPARING = (
    MeasureSpec(
        "role-stability",
        unit="share of the baseline's effect",
        by_head=False,
        joint=True,
        compares=("baseline",),
        help="how much of their effect on the baseline the heads of a role still have, by the effect that defines the "
        "role: a name mover's on the logits, an S-inhibition head's through the name movers' queries (ratio of means)",
        source=_VITAL,
        needs=TO_PATCH,
        relies_on=(*CAUSAL, "inputs"),
    ),
    MeasureSpec(
        "recovery",
        unit="share of what was lost",
        by_head=False,
        compares=("baseline", "corrupted"),
        help="how much of the logit difference that the corrupted checkpoint lost is recovered: (model - corrupted) / "
        "(baseline - corrupted), a ratio of means",
        source=_VITAL,
        needs=TO_PATCH,
        relies_on=("readout",),
    ),
    MeasureSpec(
        "localization",
        unit="share of what was lost",
        by_head=False,
        compares=("baseline",),
        help="how much of the loss the baseline's weights of a few components restore (a tenth of all components, at "
        "least four); they are searched on half of the prompts, and measured on the other half",
        source="weight grafts; the definition is this project's",
        needs=TO_PATCH,
        relies_on=CAUSAL,
    ),
)
