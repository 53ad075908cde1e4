"""A model held against other checkpoints: what is left of a role, what came back, where a fault lies.

They are read by `diagnosis`, above the measures of one model; what a suite may say of them stands here.
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
        help="how much the heads of a role still do of what they did on the baseline, by the effect that the role is "
        "about: a name mover's on the logits, an S-inhibition head's through the name movers' queries (ratio of means)",
        source=_VITAL,
        needs=TO_PATCH,
        relies_on=(*CAUSAL, "inputs"),
    ),
    MeasureSpec(
        "recovery",
        unit="share of what was lost",
        by_head=False,
        compares=("baseline", "corrupted"),
        help="how much of the logit difference that the corrupted checkpoint lost is back: (model - corrupted) / "
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
        help="how much a few components heal whose weights are restored from the baseline (a tenth of them, at least "
        "four), found by search on half of the prompts and read on the other",
        source="weight grafts; the definition is this project's",
        needs=TO_PATCH,
        relies_on=CAUSAL,
    ),
)
