"""Whether TransformerLens computes what Hugging Face computes: tried on every model that is opened.

The bridge computes attention itself, and does not know every setting of every configuration. What it leaves out shows
in the logits. So a few tokens go through the model before the bridge wraps it, and through the bridge afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.gguf.files import settings_called

__all__ = ["refuse_disagreement", "share_of_spread"]

# Largest difference of two logits, as a share of the spread (largest less smallest logit of Hugging Face's model).
# Hugging Face takes some steps in float32 whatever the model's dtype, which is what bounds float64. In half precision
# both round at every step, and in another order.
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
# In half precision what is rounded otherwise can send a token to another expert: a quarter of the positions may differ.
_POSITIONS = {torch.float64: 1.0, torch.float32: 1.0, torch.bfloat16: 0.75, torch.float16: 0.75}


@torch.no_grad()
def refuse_disagreement(bridge: Any, tokens: Tensor, expected: Tensor, folder: Path) -> None:
    """Refuse a bridge whose logits are not those of the model that it wraps.

    Args:
        tokens: what both are asked [prompts, positions].
        expected: Hugging Face's logits, taken before the model was wrapped [prompts, positions, d_vocab].

    Raises:
        CheckpointError: with how far apart they are.
    """
    called = f"{folder}, a {type(bridge.original_model).__name__}"
    try:
        got: Tensor = bridge(tokens)
    except Exception as error:
        # The bridge calls the model's parts in its own way, and fails in as many ways as models differ.
        raise CheckpointError(
            f"TransformerLens opens {called}, but cannot run it ({reason_of(error)}): it cannot be measured"
        ) from error
    apart = share_of_spread(got, expected, _POSITIONS[expected.dtype])
    if not apart <= _TOLERANCE[expected.dtype]:
        raise CheckpointError(
            f"TransformerLens does not compute what Hugging Face computes for {called}: their logits differ by "
            f"{apart:.2%} of their range, so this model cannot be measured (a setting in {settings_called(folder)[1]} "
            f"that TransformerLens does not know is the usual cause)"
        )


def share_of_spread(got: Tensor, expected: Tensor, positions: float = 1.0) -> float:
    """The largest difference of two models' logits over the range (largest less smallest) of those expected.

    Infinite where the shapes differ, or where one is not finite and the other is.

    Args:
        positions: the share of positions at which it is the largest; at the others it may be larger.
    """
    if got.shape != expected.shape:
        return float("inf")
    largest, lowest, highest = [], float("inf"), float("-inf")
    for ours, theirs in zip(got.flatten(0, -2), expected.flatten(0, -2), strict=True):  # few copies: both are large
        known = theirs.isfinite()  # some models give -inf to tokens that they never say
        if not torch.equal(ours.isfinite(), known):
            return float("inf")
        if bool(known.any()):
            theirs, ours = theirs[known].double(), ours[known].double()
            largest.append(float((ours - theirs).abs().max()))
            lowest, highest = min(lowest, float(theirs.min())), max(highest, float(theirs.max()))
    if not largest:
        return float("inf")
    most = sorted(largest)[max(0, round(positions * len(largest)) - 1)]
    return most / (highest - lowest) if highest > lowest else (0.0 if most == 0 else float("inf"))
