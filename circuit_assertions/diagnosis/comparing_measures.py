"""Measures that compare a model with its baseline: what is left of a role, what was recovered, where a fault lies.

They are declared here, where they are computed, because they use circuits, roles and grafts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from circuit_assertions.assertions.chains import chain_for
from circuit_assertions.assertions.circuits import Roles
from circuit_assertions.assertions.errors import NothingToSayError
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.function import effect_of_role
from circuit_assertions.diagnosis.view import View
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.measures.declaring import CAUSAL, measure
from circuit_assertions.measures.figures import Array, has_lost, share_of, what_is_lost
from circuit_assertions.ordering import ranked
from circuit_assertions.tasks import TO_PATCH, Task
from circuit_assertions.verdict_words import OriginVerdict

if TYPE_CHECKING:
    from circuit_assertions.diagnosis.origin import Origin

__all__ = ["Compared", "Comparing", "ComparingMeasures", "localization", "recovery", "role_stability"]

_VITAL = "arXiv 2503.01896 (corruption and recovery of circuits); the definition is this project's"


@dataclass(frozen=True)
class Comparing:
    """A model beside the checkpoints that it is compared with.

    Attributes:
        circuit: its name; with `roles`, the baseline's circuit.
        role: whose heads are read; `circuit` for all of them.
        chain: the chain that knows the roles, by its name or its file; None for the task's.
        tell: told what is being done, and how much of it.
        origins: what was found of where faults lie, kept from one reading to the next.
    """

    model: View
    baseline: View
    corrupted: View | None
    circuit: str
    roles: Roles
    role: str
    chain: str | None
    tell: Callable[[str, int, int], None]
    origins: dict[tuple[Checkpoint, Task], Origin]


@dataclass(frozen=True)
class Compared:
    """What a measure that compares checkpoints gave.

    Attributes:
        values: one value per prompt that was read [prompts].
        view: the task that they were read on, where it is not the one that was asked.
        rows: the prompts that were read, by index; None for all.
        texts: what was read, where it was not the prompts of the task.
        operands, found: as text, for the reading's settings.
    """

    values: Array
    view: View | None = None
    rows: tuple[int, ...] | None = None
    texts: tuple[str, ...] | None = None
    operands: Mapping[str, str] = field(default_factory=dict)
    found: Mapping[str, str] = field(default_factory=dict)


@measure(
    "role-stability",
    kind="comparing",
    unit="share of the baseline's effect",
    of_role=True,
    compares=("baseline",),
    help="how much of their effect on the baseline the heads of a role still have, by the effect that defines the "
    "role: a name mover's on the logits, an S-inhibition head's through the name movers' queries (ratio of means)",
    source=_VITAL,
    needs=TO_PATCH,
    relies_on=(*CAUSAL, "inputs"),
)
def role_stability(beside: Comparing) -> Compared:
    """The role's effect as a share of the baseline's.

    Raises:
        NothingToSayError: if the role has no effect on the baseline.
        SuiteError: if there is no such chain, or it reads positions that the task does not label.
    """
    chain = chain_for(beside.model.task, beside.circuit, beside.chain)
    named = [beside.role] if beside.role != "circuit" else list(beside.roles)
    then, now = (
        np.sum([effect_of_role(chain, one, beside.roles, view) for one in named], axis=0)
        for view in (beside.baseline, beside.model)
    )
    if not beside.baseline.figure(then).clear:
        raise NothingToSayError(f"{beside.role} has no effect on {beside.baseline.checkpoint} that is clear of zero")
    return Compared(share_of(now, then), operands={"role": beside.role})


@measure(
    "recovery",
    kind="comparing",
    unit="share of what was lost",
    compares=("baseline", "corrupted"),
    help="how much of the logit difference that the corrupted checkpoint lost is recovered: (model - corrupted) / "
    "(baseline - corrupted), a ratio of means",
    source=_VITAL,
    needs=TO_PATCH,
    relies_on=("readout",),
)
def recovery(beside: Comparing) -> Compared:
    """What was recovered, as a share of what the corrupted checkpoint lost.

    Raises:
        NothingToSayError: if that has lost nothing.
    """
    assert beside.corrupted is not None
    now, then, worst = (view.behaviour() for view in (beside.model, beside.baseline, beside.corrupted))
    policy = beside.model.policy
    if not has_lost(then, worst, policy):
        lost = what_is_lost(then, worst, policy, beside.baseline.checkpoint)
        raise NothingToSayError(f"{beside.corrupted.checkpoint} {lost}: there is nothing to recover")
    return Compared(share_of(now - worst, then - worst))


@measure(
    "localization",
    kind="comparing",
    unit="share of what was lost",
    compares=("baseline",),
    help="how much of the loss the baseline's weights of a few components restore (a tenth of all components, at "
    "least four); a third of the prompts searches them, a third chooses between sets, and a third is read",
    source="weight grafts; the definition is this project's",
    needs=TO_PATCH,
    relies_on=CAUSAL,
)
def localization(beside: Comparing) -> Compared:
    """What the best few components of the baseline restore, as a share of what was lost.

    Raises:
        NothingToSayError: if nothing was lost, or no few components restore any of it.
    """
    from circuit_assertions.diagnosis.origin import find_origin
    from circuit_assertions.diagnosis.prompt_counts import fewer

    model, baseline, policy = beside.model, beside.baseline, beside.model.policy
    said = "prompts" in model.task.model_fields_set  # a number that the suite names is followed
    task = fewer(model.task, None if said else policy.compared_prompts)
    key = (model.checkpoint, task)
    view, before = (View(model.audit, one.checkpoint, task) for one in (model, baseline))
    prompts = model.audit.prompts(task, model.checkpoint)
    if key not in beside.origins:
        models = model.audit.model(model.checkpoint), model.audit.model(baseline.checkpoint)
        beside.origins[key] = find_origin(*models, prompts, beside.tell, True, policy)
    origin = beside.origins[key]
    few = [one for one in origin.curve if len(one.parts) <= origin.few]
    if origin.verdict == OriginVerdict.UNCHANGED:
        then, now = (one.behaviour() for one in (before, view))
        lost = what_is_lost(then, now, policy, baseline.checkpoint)
        raise NothingToSayError(f"{model.checkpoint} {lost}: there is nothing to localize")
    if not few:
        raise NothingToSayError(f"no small set of components restores anything of what {model.checkpoint} has lost")
    best = ranked(few, lambda one: one.on_choice)[0]
    chose, reported = len(origin.choosing), len(origin.reporting)
    found = {
        "components": ", ".join(str(part) for part in best.parts),
        "verdict": origin.verdict,
        "prompts": f"{len(prompts) - chose - reported} searched, {chose} chose, {reported} reported",
    }
    return Compared(best.values, view, origin.reporting, found=found)


@dataclass
class ComparingMeasures:
    """Takes readings of a model beside its baseline, and beside a corrupted checkpoint where there is one.

    Attributes:
        chains: the chains that a person chose, by name or file, for circuits of these names; others have their task's.
        tell: told what is being done, and how much of it.
    """

    audit: Audit
    baseline: Checkpoint
    corrupted: Checkpoint | None = None
    tell: Callable[[str, int, int], None] = lambda what, done, total: None
    chains: Mapping[str, str] = field(default_factory=dict)
    _origins: dict[tuple[Checkpoint, Task], Origin] = field(default_factory=dict)

    def __call__(
        self, measure: str, checkpoint: Checkpoint, task: Task, circuit: str, roles: Roles, role: str
    ) -> Reading:
        """Take a reading.

        Args:
            circuit: its name; with `roles`, the baseline's circuit.
            role: whose stability is read; `circuit` for all heads.

        Raises:
            DiagnosisError: if the checkpoints do not fit each other.
            NothingToSayError: if nothing is lost that could be localized, or nothing was that could have come back.
        """
        from circuit_assertions.diagnosis.sides import check_fit

        spec = MEASURES[measure]
        against = {"baseline": self.baseline, "corrupted": self.corrupted}
        others = (against[other] for other in spec.compares)
        check_fit(self.audit, checkpoint, *(other for other in others if other is not None))
        model, baseline = (View(self.audit, one, task) for one in (checkpoint, self.baseline))
        corrupted = None if self.corrupted is None else View(self.audit, self.corrupted, task)
        compared: Compared = spec.compute(
            Comparing(
                model, baseline, corrupted, circuit, roles, role, self.chains.get(circuit), self.tell, self._origins
            )
        )
        view = compared.view or model
        prompts = self.audit.prompts(view.task, checkpoint)
        settings = {
            "task": dict(prompts.settings),
            "operands": dict(compared.operands),
            "found": dict(compared.found),
            "token_hash": prompts.token_hash,
            "model": self.audit.model(checkpoint).identity(),
            "baseline": self.audit.model(self.baseline).identity(),
        }
        rows = range(len(prompts)) if compared.rows is None else compared.rows
        asked = [prompts.prompts[row] for row in rows]
        return Reading(
            spec.name,
            spec.unit_on(task),
            spec.reading_kind,
            compared.values,
            settings=settings,
            texts=[prompt.text for prompt in asked] if compared.texts is None else compared.texts,
            templates=[prompt.template for prompt in asked] if compared.texts is None else (),
            rounding=spec.rounding_on(task),
        )
