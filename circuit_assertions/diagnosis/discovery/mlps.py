"""MLPs with an effect at the stages that ask for them: roles hold heads, and much of some circuits is in MLPs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from circuit_assertions.assertions.chains import Chain
from circuit_assertions.components import Mlp, all_of
from circuit_assertions.diagnosis.discovery.followed import Effect, Followed
from circuit_assertions.diagnosis.view import View
from circuit_assertions.measures.intervals import Level, interval_of_mean

__all__ = ["PlacedMlp", "find_mlps"]


@dataclass(frozen=True)
class PlacedMlp:
    """An MLP of the circuit.

    Attributes:
        effects: those that are large enough and clear of zero, at every stage that asks for MLPs.
    """

    mlp: Mlp
    effects: tuple[Effect, ...]


def find_mlps(chain: Chain, followed: Followed, view: View, floor: float) -> tuple[PlacedMlp, ...]:
    """The MLPs with an effect, in order; none where no stage of the chain asks for them.

    Args:
        followed: the heads that the chain led to, on whose inputs a stage may look for effects.
        floor: the smallest effect that counts, in the unit of the task's metric.
    """
    found: dict[Mlp, list[Effect]] = {}
    for mlp, effect in _effects(chain, followed, view, floor):
        found.setdefault(mlp, []).append(effect)
    return tuple(PlacedMlp(mlp, tuple(effects)) for mlp, effects in sorted(found.items()))


def _effects(chain: Chain, followed: Followed, view: View, floor: float) -> Iterator[tuple[Mlp, Effect]]:
    asking = [stage for stage in chain.stages if stage.mlps]
    layout = view.audit.model(view.checkpoint).layout
    mlps = all_of("mlp", layout.layers, layout.heads)
    level = Level.of_figures(view.policy).among(max(1, len(asking)) * len(mlps))
    for stage in asking:
        groups = dict(followed.groups)
        if stage.starts_from is not None and not groups.get(stage.starts_from[0]):
            groups[stage.starts_from[0]] = followed.went_on_from.get(stage.name, ())
        effect = stage.effect(groups)
        if effect is None:
            continue
        measure, operands = effect
        values = view.components(measure, mlps, **operands)  # [prompts, MLPs]
        for mlp, column in zip(mlps, values.T, strict=True):
            one = Effect(stage.name, float(column.mean()), interval_of_mean(column, level))
            if abs(one.mean) >= max(floor * stage.times, 1e-12) and one.clear:
                assert isinstance(mlp, Mlp)
                yield mlp, one
