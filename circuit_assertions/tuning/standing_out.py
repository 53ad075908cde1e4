"""How far the tokens that a direction raises stand out above what random directions raise.

Two kinds of directions are the comparison: random ones, and differences of two activations of the baseline. A token's
height is the smaller of its two standard scores. Of a direction two numbers are asked: how high its most raised token
is, and how far that lies above the bulk of its tokens (its peak), each as a multiple of what is typical of the
directions that it is compared with. A change of the whole vocabulary, such as a new distribution of words, is high but
not peaked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from circuit_assertions.measures.figures import Array
from circuit_assertions.ordering import ranked

__all__ = ["StandsOut", "stands_out"]

_NORMAL = 1.4826  # a normal variable's standard deviation over its median absolute deviation


@dataclass(frozen=True)
class StandsOut:
    """The tokens that one direction raises.

    Attributes:
        over_random, over_differences: standard scores against each kind of direction [d_vocab].
        height, peak: of the direction, as multiples of what is typical.
        chance: the share of the other directions, of both kinds, that are at least as high and as peaked; the
            direction itself is counted with them.
    """

    over_random: Array
    over_differences: Array
    height: float
    peak: float
    chance: float

    @property
    def heights(self) -> Array:
        """The smaller score of each token [d_vocab]."""
        found: Array = np.minimum(self.over_random, self.over_differences)
        return found

    def top(self, most: int) -> list[int]:
        """The tokens that stand out most."""
        heights = self.heights
        some = np.argsort(-heights, kind="stable")[: 2 * most].tolist()
        return ranked(some, lambda token: float(heights[token]))[:most]


def stands_out(raised: Array, by_random: Array, by_differences: Array) -> StandsOut:
    """Compare what a direction raises with what other directions raise.

    Args:
        raised: how much each token is raised by the direction [d_vocab].
        by_random, by_differences: by directions of each kind [directions, d_vocab].
    """
    own = _scores(raised[None], by_random), _scores(raised[None], by_differences)
    random = np.minimum(_scores_without_itself(by_random), _scores(by_random, by_differences))
    differences = np.minimum(_scores(by_differences, by_random), _scores_without_itself(by_differences))
    heights, peaks = _shape(np.concatenate((random, differences)))
    (height,), (peak,) = _shape(np.minimum(*own))
    alike = int(((heights >= height) & (peaks >= peak)).sum())
    return StandsOut(
        own[0][0],
        own[1][0],
        float(height / np.median(heights)),
        float(peak / np.median(peaks)),
        (1 + alike) / (1 + len(heights)),
    )


def _shape(scores: Array) -> tuple[Array, Array]:
    """The highest score, and how far it lies above the median in robust standard deviations, each [directions]."""
    middle = np.median(scores, axis=1)
    spread = _NORMAL * np.median(np.abs(scores - middle[:, None]), axis=1)
    highest = scores.max(axis=1)
    return highest, (highest - middle) / np.where(spread > 0, spread, 1.0)


def _scores(values: Array, others: Array) -> Array:
    """Standard scores of values [directions, d_vocab] against other directions [others, d_vocab]."""
    spread = others.std(axis=0, ddof=1)
    found: Array = (values - others.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return found


def _scores_without_itself(values: Array) -> Array:
    """Standard scores of each direction against all others of its kind [directions, d_vocab]."""
    count = len(values)
    apart = values - values.mean(axis=0)
    others = -apart / (count - 1)  # the mean of the others
    variance = ((apart**2).sum(axis=0) - apart**2 - (count - 1) * others**2) / (count - 2)
    spread = np.sqrt(np.maximum(variance, 0.0))
    found: Array = (apart - others) / np.where(spread > 0, spread, 1.0)
    return found
