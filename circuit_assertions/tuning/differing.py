"""The mean difference of a model's activations from its baseline's over unrelated text, by layer and position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from circuit_assertions.engine.model import Model
from circuit_assertions.measures.figures import Array, Figure
from circuit_assertions.measures.intervals import Level

__all__ = ["Difference", "between", "middle_layer"]


@dataclass(frozen=True)
class Difference:
    """Activations of two models on the same texts, after one block, and how far they are apart after every block.

    Attributes:
        layer: the block, from 0.
        apart: model less baseline [texts, positions, d_model].
        natural: the baseline's activations [texts, positions, d_model].
        by_layer: norm of the mean difference over the natural spread, after each block [layers, positions].
    """

    layer: int
    apart: Array
    natural: Array
    by_layer: Array

    @property
    def mean(self) -> Array:
        """The mean difference by position [positions, d_model]."""
        found: Array = self.apart.mean(axis=0)
        return found

    @property
    def direction(self) -> Array:
        """The mean over positions as a unit vector [d_model]; zeros where nothing differs."""
        whole: Array = self.mean.mean(axis=0)
        length = float(np.linalg.norm(whole))
        return whole / length if length else whole

    @property
    def spread(self) -> float:
        """The natural spread: the root of the mean square distance of activations from their mean."""
        return float(np.sqrt(_variances(self.natural).mean()))

    @property
    def strength(self) -> Figure:
        """The mean difference in natural spreads, with its interval over texts."""
        return Figure.of_values(self.by_text, Level.of_figures())

    @property
    def by_text(self) -> Array:
        """How far each text is moved in the direction in which the other half of the texts is [texts].

        In natural spreads. The mean is that of the norm of the mean difference (root mean square over positions)
        without what chance adds to a norm; texts of one half and of the other alternate.
        """
        flat = self.apart.reshape(len(self.apart), -1)
        moved = np.zeros(len(flat))
        for half in (0, 1):
            other = flat[1 - half :: 2].mean(axis=0)
            length = float(np.linalg.norm(other))
            if length:
                moved[half::2] = flat[half::2] @ other / length
        moved /= np.sqrt(self.apart.shape[1]) * (self.spread or 1.0)
        return moved

    @property
    def halves(self) -> float:
        """The norm of the difference between the mean differences of two halves of the texts, in natural spreads."""
        between_halves = self.apart[::2].mean(axis=0) - self.apart[1::2].mean(axis=0)
        return float(np.sqrt((between_halves**2).sum(axis=1).mean())) / (self.spread or 1.0)

    def random(self, count: int, seed: int) -> tuple[Array, Array]:
        """Unit vectors that the direction is compared with, each [count, d_model].

        Returns:
            Random directions, and differences of two activations of the baseline.
        """
        drawn = np.random.default_rng(seed)
        flat = self.natural.reshape(-1, self.natural.shape[-1])
        pairs = drawn.integers(len(flat), size=(8 * count, 2))
        differences = flat[pairs[:, 0]] - flat[pairs[:, 1]]
        lengths = np.linalg.norm(differences, axis=1)
        some = differences[lengths > 0][:count]
        random = drawn.standard_normal((count, flat.shape[1]))
        return _units(random), _units(some)


def middle_layer(layers: int) -> int:
    """The block in the middle of a model."""
    return layers // 2


def between(
    model: Model, baseline: Model, texts: Array, first: int, layer: int, tell: Callable[[str, int, int], None]
) -> Difference:
    """Read both models on the same texts.

    Args:
        texts: tokens [texts, positions].
        first: how many positions at the start are not read.
        layer: the block whose activations are kept.
    """
    import torch

    from circuit_assertions.engine.stream import Stream, pieces

    layers = range(baseline.layout.layers)
    streams = [Stream(one, layer) for one in (model, baseline)]
    tokens = torch.as_tensor(texts)
    kept = list[tuple[Array, Array]]()
    sums = np.zeros((3, len(layers), texts.shape[1] - first, baseline.layout.d_model))
    for piece in pieces(tokens):
        tell("activations", piece.start, len(tokens))
        now, then = (stream.after_blocks(tokens[piece], layers) for stream in streams)
        for one in layers:
            values, before = now[one][:, first:].numpy(), then[one][:, first:].numpy()
            sums[:, one] += ((values - before).sum(axis=0), before.sum(axis=0), (before**2).sum(axis=0))
            if one == layer:
                kept.append((values - before, before))
    tell("activations", len(tokens), len(tokens))
    apart, mean, square = sums / len(tokens)  # each [layers, positions, d_model]
    spread = np.sqrt((square - mean**2).sum(axis=2).mean(axis=1))  # [layers]
    norms = np.linalg.norm(apart, axis=2) / np.where(spread > 0, spread, 1.0)[:, None]
    return Difference(layer, np.concatenate([one for one, _ in kept]), np.concatenate([one for _, one in kept]), norms)


def _variances(values: Array) -> Array:
    found: Array = ((values - values.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)  # [positions]
    return found


def _units(vectors: Array) -> Array:
    found: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found
