"""Readings that compare a model with its baseline: what suites assert about recovery, roles and localization."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from circuit_assertions.assertions.chains import chain_for
from circuit_assertions.assertions.circuits import Roles
from circuit_assertions.assertions.errors import NothingToSayError
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.function import effect_of_role
from circuit_assertions.diagnosis.view import View
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.measures.figures import Array, Figure, has_lost, share_of, what_is_lost
from circuit_assertions.ordering import ranked
from circuit_assertions.tasks import Task
from circuit_assertions.verdict_words import OriginVerdict

if TYPE_CHECKING:
    from circuit_assertions.diagnosis.origin import Origin

__all__ = ["ComparingMeasures"]


@dataclass
class ComparingMeasures:
    """Takes readings of a model beside its baseline, and beside a corrupted checkpoint where there is one."""

    audit: Audit
    baseline: Checkpoint
    corrupted: Checkpoint | None = None
    tell: Callable[[str, int, int], None] = lambda what, done, total: None
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

        against = {"baseline": self.baseline, "corrupted": self.corrupted}
        others = (against[other] for other in MEASURES[measure].compares)
        check_fit(self.audit, checkpoint, *(other for other in others if other is not None))
        model = View(self.audit, checkpoint, task)
        if measure == "recovery":
            return self._reading(measure, model, self._recovered(model))
        if measure == "localization":
            return self._localized(model)
        return self._reading(measure, model, self._kept(model, circuit, roles, role), role=role)

    def _view(self, model: View, checkpoint: Checkpoint) -> View:
        return View(self.audit, checkpoint, model.task)

    def _recovered(self, model: View) -> Array:
        assert self.corrupted is not None
        now, then, worst = (
            view.behaviour() for view in (model, self._view(model, self.baseline), self._view(model, self.corrupted))
        )
        if not has_lost(then, worst):
            raise NothingToSayError(
                f"{self.corrupted} {what_is_lost(then, worst, self.baseline)}: there is nothing to recover"
            )
        return share_of(now - worst, then - worst)

    def _kept(self, model: View, circuit: str, roles: Roles, role: str) -> Array:
        chain = chain_for(model.task, circuit)
        named = [role] if role != "circuit" else list(roles)
        then, now = (
            np.sum([effect_of_role(chain, one, roles, view) for one in named], axis=0)
            for view in (self._view(model, self.baseline), model)
        )
        if not Figure.of_values(then).clear:
            raise NothingToSayError(f"{role} has no effect on {self.baseline} that is clear of zero")
        return share_of(now, then)

    def _localized(self, model: View) -> Reading:
        from circuit_assertions.diagnosis.origin import find_origin
        from circuit_assertions.diagnosis.prompt_counts import PROMPTS, fewer

        said = "prompts" in model.task.model_fields_set  # a number that the suite names is followed
        task = fewer(model.task, None if said else PROMPTS)
        key = (model.checkpoint, task)
        prompts = self.audit.prompts(task, model.checkpoint)
        if key not in self._origins:
            models = self.audit.model(model.checkpoint), self.audit.model(self.baseline)
            self._origins[key] = find_origin(*models, prompts, self.tell)
        origin = self._origins[key]
        few = [one for one in origin.curve if len(one.parts) <= origin.few]
        if origin.verdict == OriginVerdict.UNCHANGED:
            then, now = (View(self.audit, one, task).behaviour() for one in (self.baseline, model.checkpoint))
            raise NothingToSayError(
                f"{model.checkpoint} {what_is_lost(then, now, self.baseline)}: there is nothing to localize"
            )
        if not few:
            raise NothingToSayError(f"no small set of components restores anything of what {model.checkpoint} has lost")
        best = ranked(few, lambda one: one.healed.mean)[0]
        found = {
            "components": ", ".join(str(part) for part in best.parts),
            "verdict": origin.verdict,
            "prompts": f"{len(prompts) - len(origin.confirmed)} searched, {len(origin.confirmed)} confirmed",
        }
        view = View(self.audit, model.checkpoint, task)
        return self._reading("localization", view, best.values, rows=origin.confirmed, found=found)

    def _reading(
        self,
        measure: str,
        model: View,
        values: Array,
        rows: Sequence[int] | None = None,
        found: Mapping[str, str] | None = None,
        **operands: Any,
    ) -> Reading:
        spec = MEASURES[measure]
        prompts = self.audit.prompts(model.task, model.checkpoint)
        settings = {
            "task": dict(prompts.settings),
            "operands": operands,
            "found": dict(found or {}),
            "token_hash": prompts.token_hash,
            "model": self.audit.model(model.checkpoint).identity(),
            "baseline": self.audit.model(self.baseline).identity(),
        }
        texts = [prompts.prompts[row].text for row in (range(len(prompts)) if rows is None else rows)]
        return Reading(spec.name, spec.unit_on(model.task), spec.kind, values, (), settings, texts)
