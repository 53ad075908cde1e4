"""Whether a repaired model recovered, and how: by the baseline's own heads, or by a bypass around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from circuit_assertions.diagnosis.figures import Array, Figure, share_of
from circuit_assertions.diagnosis.function import Function
from circuit_assertions.diagnosis.view import View, corrected_interval
from circuit_assertions.heads import Head

__all__ = ["Carrier", "Recovery", "judge_recovery"]

_BACK = 0.75  # of what was lost: RECOVERED or BYPASSED
_PARTLY = 0.25  # PARTIAL
_ALIKE = 0.7  # correlation of the circuit's effects with the baseline's
_CARRIES = 0.5  # of what the baseline's heads carried to the logits, for the old mechanism to be back

How = Literal["RECOVERED", "BYPASSED", "PARTIAL", "NOT RECOVERED"]


@dataclass(frozen=True)
class Carrier:
    """A head outside of the baseline's circuit that now carries more to the logits than it did there."""

    head: Head
    before: float
    after: float


@dataclass(frozen=True)
class Recovery:
    """How far behaviour is back between the corrupted model and the baseline, and by what.

    Attributes:
        share: (model - corrupted) / (baseline - corrupted), in logit difference.
        alike: correlation of the circuit's effects, head by head, with the baseline's; None for fewer than three heads.
        carried: the share of the baseline's path effects on the logits that its own writers have again.
        knocked_out: what knocking the whole circuit out costs, as a share of the logit difference: on the baseline, on
            the model.
        carriers: who carries it instead, the strongest first.
    """

    how: How
    share: Figure
    alike: float | None
    carried: float
    knocked_out: tuple[float, float]
    carriers: tuple[Carrier, ...] = ()


def judge_recovery(
    function: Function, roles: Mapping[str, Sequence[Head]], model: View, baseline: View, corrupted: View
) -> Recovery | None:
    """Judge how a model that was corrupted came back; None where the corrupted one has lost nothing.

    Args:
        function: what the baseline's heads do in the model.
        roles: the baseline's circuit.
    """
    now, then, worst = (view.by_prompt("logit-difference") for view in (model, baseline, corrupted))
    if not Figure.of_values(then - worst).interval.low > 0:
        return None
    share = Figure.of_values(share_of(now - worst, then - worst))
    circuit = tuple(sorted({head for heads in roles.values() for head in heads}))
    carried, carriers = _carrying(circuit, model, baseline)
    alike = _alike(function)
    knocked = tuple(_knocked_out(view, circuit) for view in (baseline, model))
    same_heads = carried >= _CARRIES and (alike is None or alike >= _ALIKE)
    return Recovery(_how(share, same_heads), share, alike, carried, (knocked[0], knocked[1]), carriers)


def _how(share: Figure, same_heads: bool) -> How:
    if share.mean < _PARTLY:
        return "NOT RECOVERED"
    if not same_heads and share.mean >= _BACK:
        return "BYPASSED"
    return "RECOVERED" if share.mean >= _BACK else "PARTIAL"


def _alike(function: Function) -> float | None:
    before = np.array([one.before for one in function.heads])
    after = np.array([one.after for one in function.heads])
    if before.size < 3 or before.std() == 0 or after.std() == 0:
        return None
    return float(np.corrcoef(before, after)[0, 1])


def _carrying(circuit: Sequence[Head], model: View, baseline: View) -> tuple[float, tuple[Carrier, ...]]:
    """What the circuit's heads carry straight to the logits, beside the baseline; and who carries more than there."""
    now, then = model.by_head("path-effect"), baseline.by_head("path-effect")
    carried = sum(float(then.of(head).mean()) for head in circuit if then.of(head).mean() > 0)
    writers = [head for head in circuit if then.of(head).mean() > 0]
    share = sum(float(now.of(head).mean()) for head in writers) / carried if carried else 0.0
    gained: dict[Head, Array] = {head: now.of(head) - then.of(head) for head in now.heads if head not in writers}
    clear = [head for head, more in gained.items() if corrected_interval(more, len(now.heads)).low > 0]
    ordered = sorted(clear, key=lambda head: -float(gained[head].mean()))
    return share, tuple(Carrier(head, float(then.of(head).mean()), float(now.of(head).mean())) for head in ordered[:5])


def _knocked_out(view: View, circuit: tuple[Head, ...]) -> float:
    lost = view.by_prompt("ablation-effect", set=circuit)
    return float(lost.mean() / view.by_prompt("logit-difference").mean())
