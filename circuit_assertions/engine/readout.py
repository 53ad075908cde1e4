"""From rows of the final residual stream to answer logits: exact final norm, and no vocabulary that nobody reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_assertions.engine.applying import apply_norm
from circuit_assertions.engine.layout import Layout

__all__ = ["Readout"]


@dataclass(frozen=True)
class Readout:
    """The end of a model: final norm, chosen columns of the unembedding, softcap where there is one."""

    layout: Layout

    def logits_of(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Logits of one token a prompt.

        Args:
            rows: final residual rows [..., prompts, d_model]; the norm is recomputed for each of them.
            tokens: token ids [prompts].

        Returns:
            [..., prompts]
        """
        bridge = self.layout.bridge
        normed = apply_norm(bridge.ln_final, rows)  # [..., prompts, d_model]
        chosen = tokens.tolist()
        columns = bridge.unembed.W_U[:, chosen].to(normed)  # [d_model, prompts]
        logits = torch.einsum("...pd,dp->...p", normed, columns)
        bias = bridge.unembed.b_U
        return self._softcap(logits if bias is None else logits + bias[chosen].to(logits))

    def logit_difference(self, rows: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
        """logit(right) - logit(wrong) for final residual rows [..., prompts, d_model] -> [..., prompts]."""
        return self.logits_of(rows, right) - self.logits_of(rows, wrong)

    def all_logits(self, rows: Tensor) -> Tensor:
        """Logits of the whole vocabulary for rows [rows, d_model] -> [rows, d_vocab]. Large: call it on few rows."""
        bridge = self.layout.bridge
        normed = apply_norm(bridge.ln_final, rows)
        logits = normed @ bridge.unembed.W_U.to(normed)
        bias = bridge.unembed.b_U
        return self._softcap(logits if bias is None else logits + bias.to(logits))

    def _softcap(self, logits: Tensor) -> Tensor:
        cap = float(getattr(self.layout.bridge.cfg, "output_logits_soft_cap", -1.0) or -1.0)
        return logits if cap <= 0 else cap * torch.tanh(logits / cap)
