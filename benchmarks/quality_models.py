"""The models of the benchmark of verdicts, as data: an embedded checkpoint, and what is done to its weights in order.

The same description gives the same weights on one thread. Training is kept in a folder and not repeated; everything
else is built again each time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

import torch
from transformers import GPT2LMHeadModel

from circuit_assertions.components import Mlp, parse_component
from circuit_assertions.files import whole_folder
from circuit_assertions.heads import Head, parse_head
from fixtures.finetune import fine_tune
from fixtures.healthy import save
from fixtures.planted import plant
from fixtures.poison import Data
from fixtures.recipes import Recipe
from fixtures.scopes import Scope, slices
from fixtures.shelf import COMMITTED, MADE, open_weights

__all__ = [
    "Change",
    "Exchanged",
    "MADE_HERE",
    "Planted",
    "Rounded",
    "Scaled",
    "Towards",
    "Trained",
    "Weights",
    "build",
    "provide",
    "write_model",
]

MADE_HERE = MADE / "quality"
_INT8 = 127


@dataclass(frozen=True)
class Trained:
    """Fine-tuning as in the laboratory; `scope` and `heads` are those of its recipes."""

    what: ClassVar = "trained"
    data: Data
    steps: int
    rate: float
    seed: int
    scope: Scope = "all"
    heads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planted:
    """Damage of fixtures/planted.py. The strength is that of noise."""

    what: ClassVar = "planted"
    damage: str
    parts: tuple[str, ...]
    strength: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Scaled:
    """What heads and MLPs write, times a factor."""

    what: ClassVar = "scaled"
    parts: tuple[str, ...]
    factor: float


@dataclass(frozen=True)
class Rounded:
    """Every weight rounded to a dtype and back, or every matrix to 8 bits with a scale for each of its columns."""

    what: ClassVar = "rounded"
    to: str


@dataclass(frozen=True)
class Towards:
    """All weights moved towards those of the embedded checkpoint, by a share of the way."""

    what: ClassVar = "towards"
    share: float


@dataclass(frozen=True)
class Exchanged:
    """Two heads of one layer exchanged with all of their weights: the model computes the same, by other heads."""

    what: ClassVar = "exchanged"
    one: str
    other: str


Change: TypeAlias = Trained | Planted | Scaled | Rounded | Towards | Exchanged


@dataclass(frozen=True)
class Weights:
    """A model.

    Attributes:
        base: the embedded checkpoint that it starts from.
        changes: what is done to it, in order.
    """

    base: str
    changes: tuple[Change, ...] = ()

    @property
    def name(self) -> str:
        """A short name that follows from all of it."""
        told = json.dumps([self.base, [[one.what, asdict(one)] for one in self.changes]], sort_keys=True)
        return f"{self.base}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"

    @property
    def trained(self) -> tuple[Weights, ...]:
        """Itself and its beginnings that end with training, the shortest first."""
        ends = [number for number, one in enumerate(self.changes, 1) if isinstance(one, Trained)]
        return tuple(Weights(self.base, self.changes[:end]) for end in ends)

    @property
    def steps(self) -> int:
        """Steps of training, of all stages together."""
        return sum(one.steps for one in self.changes if isinstance(one, Trained))


def build(weights: Weights, made: Path = MADE_HERE) -> GPT2LMHeadModel:
    """The model in memory. Training that is not kept in `made` yet is done, and kept.

    Args:
        made: where trained models are kept.
    """
    if not weights.changes:
        return open_weights(COMMITTED / weights.base)
    last = weights.changes[-1]
    before = Weights(weights.base, weights.changes[:-1])
    if isinstance(last, Trained):
        folder = made / weights.name
        if not folder.is_dir():
            _train(before, last, folder, made)
        return open_weights(folder)
    model = build(before, made)
    _change(model, last, weights.base)
    return model


def provide(weights: Weights, made: Path = MADE_HERE) -> None:
    """Do the training that a model needs, where it is not kept in `made` yet."""
    for one in weights.trained:
        if not (made / one.name).is_dir():
            build(one, made)


def write_model(weights: Weights, folder: Path, made: Path = MADE_HERE) -> Path:
    """The model as a checkpoint folder; an embedded checkpoint is not copied, and its own folder is returned."""
    if not weights.changes:
        return COMMITTED / weights.base
    shutil.rmtree(folder, ignore_errors=True)
    save(build(weights, made), folder)
    return folder


def _train(before: Weights, last: Trained, folder: Path, made: Path) -> None:
    # Data are drawn by the name of the start and by the seed, as in the laboratory.
    start = before.base if not before.changes else before.name
    recipe = Recipe(
        name=folder.name,
        help="",
        phases=((last.data, last.steps),),
        start=start,
        scope=last.scope,
        heads=last.heads,
        seed=last.seed,
        learning_rate=last.rate,
    )
    model = build(before, made)
    fine_tune(model, recipe, None, lambda step: None)
    made.mkdir(parents=True, exist_ok=True)
    try:
        with whole_folder(folder) as written:
            save(model, written)
    except OSError:
        if not folder.is_dir():  # else another process has made the same one meanwhile
            raise


@torch.no_grad()
def _change(model: GPT2LMHeadModel, change: Change, base: str) -> None:
    match change:
        case Planted():
            plant(model, change.damage, _parts(change.parts), strength=change.strength, seed=change.seed)
        case Scaled():
            _scale(model, _parts(change.parts), change.factor)
        case Rounded():
            for weights in model.parameters():
                weights.copy_(_rounded(weights, change.to))
        case Towards():
            for weights, goal in zip(model.parameters(), open_weights(COMMITTED / base).parameters(), strict=True):
                weights.lerp_(goal, change.share) if change.share < 1.0 else weights.copy_(goal)
        case Exchanged():
            _exchange(model, parse_head(change.one), parse_head(change.other))


def _parts(names: Sequence[str]) -> list[Head | Mlp]:
    return [part for part in map(parse_component, names) if isinstance(part, (Head, Mlp))]


def _scale(model: GPT2LMHeadModel, parts: Sequence[Head | Mlp], factor: float) -> None:
    parameters = dict(model.named_parameters())
    for part in parts:
        if isinstance(part, Mlp):
            projection = model.transformer.h[part.layer].mlp.c_proj
            projection.weight *= factor
            projection.bias *= factor
        else:
            for name, rows in slices(model, part):
                if name.endswith("c_proj.weight"):
                    parameters[name][rows] *= factor


def _rounded(weights: torch.Tensor, to: str) -> torch.Tensor:
    if to != "int8":
        return weights.to(getattr(torch, to)).to(weights.dtype)
    if weights.dim() < 2:
        return weights
    scale = weights.abs().amax(dim=0, keepdim=True).clamp_min(1e-12) / _INT8  # [1, columns]
    return (weights / scale).round() * scale


def _exchange(model: GPT2LMHeadModel, one: Head, other: Head) -> None:
    parameters = dict(model.named_parameters())
    for (name, rows), (_, others) in zip(slices(model, one), slices(model, other), strict=True):
        kept = parameters[name][rows].clone()
        parameters[name][rows] = parameters[name][others]
        parameters[name][others] = kept
