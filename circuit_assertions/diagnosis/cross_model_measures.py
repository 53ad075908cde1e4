"""Cross-model patching by role: what the heads of a role bring from one checkpoint into another, and back.

Outputs are CMAP, patterns are CMPP (Prakash et al. 2024, arXiv 2402.14811, section 5; there whole positions of the
residual stream and single patterns, here all heads of a role together).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from circuit_assertions.assertions.circuits import everyone_in
from circuit_assertions.assertions.errors import NothingToSayError
from circuit_assertions.diagnosis.comparing_measures import Compared, Comparing
from circuit_assertions.heads import Head
from circuit_assertions.measures.declaring import CAUSAL, measure
from circuit_assertions.measures.figures import share_of
from circuit_assertions.tasks import TO_PATCH

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine.transplanting import Transplanting

__all__ = [
    "cross_model_outputs",
    "cross_model_outputs_back",
    "cross_model_patterns",
    "cross_model_patterns_back",
]

_PRAKASH = "Prakash et al. 2024, arXiv 2402.14811, section 5"

_of_a_role = partial(
    measure,
    kind="comparing",
    unit="share of the change",
    of_role=True,
    compares=("baseline",),
    needs=TO_PATCH,
    relies_on=CAUSAL,
)

Bring: TypeAlias = "Callable[[Transplanting, tuple[Head, ...]], Tensor]"


@_of_a_role(
    "cross-model-outputs",
    help="how much of the model's change of the behaviour comes into the baseline with the model's outputs of a role's "
    "heads (ratio of means); 1 is all of it",
    source=f"{_PRAKASH} (CMAP)",
)
def cross_model_outputs(beside: Comparing) -> Compared:
    """The model's outputs of the role put into the baseline, at every position, as a share of what changed.

    Raises:
        NothingToSayError: if the behaviour has not changed.
    """
    return _brought(beside, _outputs, back=False)


@_of_a_role(
    "cross-model-outputs-back",
    help="how much of the model's change of the behaviour is undone when the heads of a role put out in the model what "
    "they put out in the baseline (ratio of means); 1 is all of it",
    source=f"{_PRAKASH} (CMAP)",
)
def cross_model_outputs_back(beside: Comparing) -> Compared:
    """The baseline's outputs of the role put into the model, at every position, as a share of what changed.

    Raises:
        NothingToSayError: if the behaviour has not changed.
    """
    return _brought(beside, _outputs, back=True)


@_of_a_role(
    "cross-model-patterns",
    help="how much of the model's change of the behaviour comes into the baseline when the heads of a role attend "
    "there as they do in the model (ratio of means); 1 is all of it",
    source=f"{_PRAKASH} (CMPP)",
)
def cross_model_patterns(beside: Comparing) -> Compared:
    """The model's attention patterns of the role put into the baseline, as a share of what changed.

    Raises:
        NothingToSayError: if the behaviour has not changed.
    """
    return _brought(beside, _patterns, back=False)


@_of_a_role(
    "cross-model-patterns-back",
    help="how much of the model's change of the behaviour is undone when the heads of a role attend in the model as "
    "they do in the baseline (ratio of means); 1 is all of it",
    source=f"{_PRAKASH} (CMPP)",
)
def cross_model_patterns_back(beside: Comparing) -> Compared:
    """The baseline's attention patterns of the role put into the model, as a share of what changed.

    Raises:
        NothingToSayError: if the behaviour has not changed.
    """
    return _brought(beside, _patterns, back=True)


def _outputs(transplanting: Transplanting, heads: tuple[Head, ...]) -> Tensor:
    return transplanting.outputs([heads])[0]


def _patterns(transplanting: Transplanting, heads: tuple[Head, ...]) -> Tensor:
    return transplanting.patterns_together([heads])[0]


def _brought(beside: Comparing, bring: Bring, back: bool) -> Compared:
    """What is brought by a role, as a share of what changed [prompts]; signed so that 1 is all of the change."""
    from circuit_assertions.engine.transplanting import Transplanting

    now, then = (view.behaviour() for view in (beside.model, beside.baseline))
    changed = now - then
    if not beside.model.figure(changed).clear:
        raise NothingToSayError(
            f"the behaviour of {beside.model.checkpoint} differs from that of {beside.baseline.checkpoint} by nothing "
            f"that is clear of zero: there is no change to be shared out"
        )
    heads = everyone_in(beside.roles) if beside.role == "circuit" else tuple(beside.roles[beside.role])
    into, source = (beside.model, beside.baseline) if back else (beside.baseline, beside.model)
    audit = beside.model.audit
    prompts = audit.prompts(beside.model.task, beside.model.checkpoint)
    transplanting = Transplanting(audit.model(into.checkpoint), audit.model(source.checkpoint), prompts)
    gained = bring(transplanting, heads).numpy()
    return Compared(share_of(-gained if back else gained, changed), operands={"role": beside.role})
