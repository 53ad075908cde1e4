"""Pruning of neurons and heads in memory: which ones a new behaviour rests on, and what the model does without them.

A unit is pruned by setting what it writes with to zero: a neuron's row of the MLP's output projection, a head's rows of
the attention's. To first order that adds minus gradient times weight to the answer metric (Jain et al. 2024, arXiv
2311.12786, section 5: neurons with the largest gradient times weight for the new behaviour). The weights are restored
bit for bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from circuit_assertions.engine.damaging import (
    CannotDamageError,
    Replaced,
    damaged,
    output_of_head,
    outputs_of_neurons,
)
from circuit_assertions.engine.model import Model
from circuit_assertions.engine.slopes import answers, slopes_of_views
from circuit_assertions.heads import Head
from circuit_assertions.tasks import PromptSet

__all__ = ["KINDS", "Neuron", "Pruning", "Unit", "UnitKind"]

UnitKind = Literal["neuron", "head"]
KINDS: tuple[UnitKind, ...] = ("neuron", "head")


class Neuron(NamedTuple):
    """One neuron of an MLP. Sorts by layer, then by neuron; prints as `L3N17`."""

    layer: int
    neuron: int

    def __str__(self) -> str:
        return f"L{self.layer}N{self.neuron}"


Unit = Neuron | Head


@dataclass(frozen=True)
class Pruning:
    """The neurons and heads of a model, which can be pruned for a while."""

    model: Model

    @cached_property
    def _views(self) -> dict[UnitKind, list[Tensor]]:
        """What units of each kind write with, a layer each: [units, numbers], views of the live weights."""
        layout = self.model.layout
        heads = [
            [output_of_head(layout, Head(layer, head)) for head in range(layout.heads)]
            for layer in range(layout.layers)
        ]
        neurons = list[Tensor]()
        for layer in range(layout.layers):
            try:
                neurons.append(outputs_of_neurons(layout, layer))
            except CannotDamageError:  # a mixture of experts
                neurons.append(torch.empty(0, layout.d_model))
        return {"neuron": neurons, "head": [view for of_layer in heads for view in of_layer]}

    def units(self, kind: UnitKind, layer: int) -> int:
        """How many units of a kind a layer has."""
        return len(self._views["neuron"][layer]) if kind == "neuron" else self.model.layout.heads

    def gains(self, kind: UnitKind, prompts: PromptSet) -> dict[Unit, float]:
        """About what pruning each unit would add to the mean answer metric of the model as it is, to first order."""
        views = self._views[kind]
        live = [view for view in views if len(view)]
        slopes = slopes_of_views(self.model, prompts, live)
        if kind == "head":
            heads = self.model.layout.all_heads()
            return {
                head: -float((view.double() * slope.double()).sum())
                for head, view, slope in zip(heads, live, slopes, strict=True)
            }
        layers = [layer for layer, view in enumerate(views) if len(view)]
        return {
            Neuron(layer, index): -gain
            for layer, view, slope in zip(layers, live, slopes, strict=True)
            for index, gain in enumerate((view.double() * slope.double()).sum(dim=1).tolist())
        }

    @contextlib.contextmanager
    def without(self, units: Collection[Unit]) -> Iterator[None]:
        """The model without some units meanwhile."""
        with damaged([Replaced(self._view(unit), torch.zeros_like) for unit in sorted(set(units))]):
            yield

    def answers(self, units: Sequence[Unit], prompts: PromptSet) -> Tensor:
        """The answer metric of the model without some units [prompts], float64."""
        with self.without(units):
            return answers(self.model, prompts)

    def _view(self, unit: Unit) -> Tensor:
        if isinstance(unit, Neuron):
            return self._views["neuron"][unit.layer][unit.neuron]
        return self._views["head"][unit.layer * self.model.layout.heads + unit.head]
