"""Whether a repaired model recovered, and how: by the baseline's own heads, or by a bypass around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from circuit_assertions.diagnosis.discovery.following import UNEXPLAINED
from circuit_assertions.diagnosis.figures import Figure, has_lost, share_of
from circuit_assertions.diagnosis.function import Function
from circuit_assertions.diagnosis.view import View, corrected_interval
from circuit_assertions.heads import Head

__all__ = ["Carrier", "Recovery", "judge_recovery"]

_BACK = 0.75  # of what was lost: RECOVERED or BYPASSED
_PARTLY = 0.25  # PARTIAL
_ALIKE = 0.5  # rank correlation of the circuit's effects with the baseline's
_TRIFLE = 0.02  # of the logit difference
_CARRIES = 0.5  # of the baseline's, for the weakest role and for the knock-out of the writers

How = Literal["RECOVERED", "BYPASSED", "PARTIAL", "NOT RECOVERED"]


@dataclass(frozen=True)
class Carrier:
    """A head outside of the baseline's writers that now carries more to the logits than it did there."""

    head: Head
    before: float
    after: float


@dataclass(frozen=True)
class Recovery:
    """How far behaviour is back between the corrupted model and the baseline, and by what.

    Attributes:
        share: (model - corrupted) / (baseline - corrupted), in logit difference.
        alike: rank correlation of the circuit's effects, head by head, with the baseline's; None for fewer than three.
        weakest: the role that keeps the smallest share of its effect on the baseline, and that share.
        knocked_out: what resampling the heads that write the answer costs, as a share of the logit difference: on the
            baseline, on the model.
        carriers: who carries it instead, the strongest first.
    """

    how: How
    share: Figure
    alike: float | None
    weakest: tuple[str, float] | None
    knocked_out: tuple[float, float]
    carriers: tuple[Carrier, ...] = ()


def judge_recovery(
    function: Function, writers: Sequence[Head], model: View, baseline: View, corrupted: View
) -> Recovery | None:
    """Judge how a model that was corrupted came back; None where the corrupted one has lost next to nothing.

    Args:
        function: what the baseline's heads do in the model.
        writers: the heads of the baseline's circuit that write the answer.
    """
    now, then, worst = (view.by_prompt("logit-difference") for view in (model, baseline, corrupted))
    if not has_lost(then, worst):
        return None
    share = Figure.of_values(share_of(now - worst, then - worst))
    awake = [role for role in function.roles if not role.asleep]
    named = [role for role in awake if role.role != UNEXPLAINED] or awake
    shares = {role.role: role.retained.mean for role in named}
    weakest = min(shares.items(), key=lambda entry: entry[1]) if shares else None
    knocked = (_knocked_out(baseline, writers), _knocked_out(model, writers))
    alike = _alike(function)
    same_heads = (
        (weakest is None or weakest[1] >= _CARRIES)
        and knocked[1] >= _CARRIES * knocked[0]
        and (alike is None or alike >= _ALIKE)
    )
    return Recovery(_how(share, same_heads), share, alike, weakest, knocked, _carriers(writers, model, baseline))


def _how(share: Figure, same_heads: bool) -> How:
    if share.mean < _PARTLY:
        return "NOT RECOVERED"
    if share.mean < _BACK:
        return "PARTIAL"
    return "RECOVERED" if same_heads else "BYPASSED"


def _alike(function: Function) -> float | None:
    from scipy.stats import spearmanr

    before, after = ([getattr(one, when) for one in function.heads] for when in ("before", "after"))
    if len(before) < 3 or len(set(before)) == 1 or len(set(after)) == 1:
        return None
    return float(spearmanr(before, after).statistic)


def _carriers(writers: Sequence[Head], model: View, baseline: View) -> tuple[Carrier, ...]:
    """Heads that carry clearly more to the logits than on the baseline."""
    now, then = model.by_head("path-effect"), baseline.by_head("path-effect")
    floor = _TRIFLE * abs(float(baseline.by_prompt("logit-difference").mean()))
    gained = {head: now.of(head) - then.of(head) for head in now.heads if head not in writers}
    clear = [
        head
        for head, more in gained.items()
        if more.mean() >= floor and corrected_interval(more, len(now.heads)).low > 0
    ]
    ordered = sorted(clear, key=lambda head: -float(gained[head].mean()))
    return tuple(Carrier(head, float(then.of(head).mean()), float(now.of(head).mean())) for head in ordered[:5])


def _knocked_out(view: View, writers: Sequence[Head]) -> float:
    """By resampling: a mean or zero also wakes stand-ins that the answer of another prompt leaves asleep."""
    lost = view.by_prompt("ablation-effect", set=tuple(writers), ablation="resample")
    return float(lost.mean() / view.by_prompt("logit-difference").mean())
