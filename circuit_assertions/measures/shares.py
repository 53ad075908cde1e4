"""Shares as ratios of means, with one value a prompt, so that intervals over prompts hold for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from circuit_assertions.engine import MeasuringError

__all__ = ["Array", "above_zero", "shares_of"]

Array = NDArray[np.float64]


def shares_of(whole: Array, parts: Array) -> Array:
    """The ratio of the mean of each column of `parts` to that of `whole` [prompts, columns].

    One value a prompt whose mean is the ratio and whose spread is the ratio's (its linearisation). A mean of ratios
    would be carried by prompts whose denominator is near zero.

    Args:
        whole: [prompts]
        parts: [prompts, columns]

    Raises:
        MeasuringError: if the mean of `whole` is zero.
    """
    of = float(whole.mean())
    if of == 0.0:
        raise MeasuringError("the logit difference of which a share is meant is zero on average: no share can be taken")
    ratios = parts.mean(axis=0) / of  # [columns]
    shares: Array = ratios + (parts - ratios * whole[:, None]) / of
    return shares


def above_zero(columns: Array) -> Array:
    """Each column with the sign that makes its mean its absolute value [prompts, columns].

    Absolute values prompt by prompt would turn noise around zero into a mean above it.
    """
    signed: Array = np.where(columns.mean(axis=0) < 0, -columns, columns)
    return signed
