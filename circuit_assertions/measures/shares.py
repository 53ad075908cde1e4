"""Shares as ratios of means, with one value per prompt, so that intervals over prompts hold for them."""

from __future__ import annotations

import numpy as np

from circuit_assertions.engine import MeasuringError
from circuit_assertions.measures.figures import Array, share_of

__all__ = ["Array", "above_zero", "shares_of"]


def shares_of(whole: Array, parts: Array) -> Array:
    """The ratio of the mean of each column of `parts` to that of `whole` [prompts, columns].

    See `share_of`. A mean of ratios would be dominated by prompts whose denominator is near zero.

    Args:
        whole: [prompts]
        parts: [prompts, columns]

    Raises:
        MeasuringError: if the mean of `whole` is zero.
    """
    if float(whole.mean()) == 0.0:
        raise MeasuringError("the mean of the answer metric is zero, so a share of it cannot be computed")
    shares: Array = np.stack([share_of(part, whole) for part in parts.T], axis=1)
    return shares


def above_zero(columns: Array) -> Array:
    """Each column with the sign that makes its mean its absolute value [prompts, columns].

    Absolute values prompt by prompt would turn noise around zero into a mean above it.
    """
    signed: Array = np.where(columns.mean(axis=0) < 0, -columns, columns)
    return signed
