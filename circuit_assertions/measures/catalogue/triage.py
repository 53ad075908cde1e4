"""Where to look first: approximations, which no suite may assert on."""

from __future__ import annotations

from circuit_assertions.measures.catalogue.spec import CAUSAL, MeasureSpec
from circuit_assertions.tasks import TO_PATCH

__all__ = ["TRIAGE"]

TRIAGE = (
    MeasureSpec(
        "edge-score",
        unit="logits",
        by_head=True,
        components=("head", "mlp"),
        help="an estimate of how much of the logit difference the edge from the sender to the receiver carries, to "
        "first order in the sender's change from clean to counterfactual: EAP in 1 step, EAP-IG in more. An "
        "approximation, for triage only: assert path-effect with semantics: direct",
        source="Syed et al. 2023, arXiv 2310.10348 (EAP); Hanna et al. 2024, arXiv 2403.17806 (EAP-IG-inputs)",
        choices={"receiver": ("logits", ())},
        counts={"steps": 5},
        needs=TO_PATCH,
        relies_on=(*CAUSAL, "patterns", "inputs", "writes", "residual"),
        approximate=True,
    ),
)
