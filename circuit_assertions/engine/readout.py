"""From rows of the final residual stream to answer logits: exact final norm, and no vocabulary that nobody reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.engine.layout import Layout
from circuit_assertions.engine.memory import in_pieces, piece_of_rows
from circuit_assertions.engine.module_calls import apply_norm

__all__ = ["Readout"]


@dataclass(frozen=True)
class Readout:
    """The end of a model: final norm, chosen columns of the unembedding, scale and softcap where there are any.

    Attributes:
        runs: whether the model itself is run from its final residual stream on, because its end is another
            (a layer before the unembedding, a projection). The same numbers, slower.
    """

    layout: Layout
    runs: bool = False

    def logits_of(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Logits of one token a prompt.

        Args:
            rows: final residual rows [..., prompts, d_model]; the norm is recomputed for each of them.
            tokens: token ids [prompts].

        Returns:
            [..., prompts]
        """
        if self.runs:
            logits = self._run(rows.flatten(0, -2), tokens.expand(rows.shape[:-1]).flatten()[:, None])
            return logits[:, 0].view(rows.shape[:-1])
        normed = apply_norm(self.layout.final_norm, rows)  # [..., prompts, d_model]
        chosen = tokens.tolist()
        columns = self.layout.bridge.unembed.W_U[:, chosen].to(normed)  # [d_model, prompts]
        logits = torch.einsum("...pd,dp->...p", normed, columns)
        bias = self.layout.bridge.unembed.b_U
        return self._transformed(logits if bias is None else logits + bias[chosen].to(logits))

    def logit_difference(self, rows: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
        """logit(right) - logit(wrong) for final residual rows [..., prompts, d_model] -> [..., prompts]."""
        if self.runs:
            chosen = torch.stack((right, wrong), dim=-1).expand(*rows.shape[:-1], 2)
            logits = self._run(rows.flatten(0, -2), chosen.reshape(-1, 2))
            return (logits[:, 0] - logits[:, 1]).view(rows.shape[:-1])
        return self.logits_of(rows, right) - self.logits_of(rows, wrong)

    def all_logits(self, rows: Tensor) -> Tensor:
        """Logits of the whole vocabulary for rows [rows, d_model] -> [rows, d_vocab]. Large: call it on few rows."""
        if self.runs:
            return self._run(rows)
        normed = apply_norm(self.layout.final_norm, rows)
        logits = normed @ self.layout.bridge.unembed.W_U.to(normed)
        bias = self.layout.bridge.unembed.b_U
        return self._transformed(logits if bias is None else logits + bias.to(logits))

    def _transformed(self, logits: Tensor) -> Tensor:
        """Scaled (Granite, Cohere) and squashed (Gemma 2), where the model does either."""
        transformed: Tensor = self.layout.bridge.adapter.apply_output_logits_transform(logits)
        return transformed

    def _run(self, rows: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Logits [rows, d_vocab], or of chosen tokens [rows, tokens], where the model's own end is run on rows."""
        width = self.layout.vocabulary if chosen is None else chosen.shape[1]
        found = rows.new_empty(len(rows), width)
        size = piece_of_rows(rows.device, 2 * rows.element_size() * self.layout.vocabulary)
        for piece, fits in in_pieces(range(len(rows)), size):
            span = slice(piece[0], piece[-1] + 1)
            with fits:
                logits = self._own_end(rows[span])
                found[span] = logits if chosen is None else logits.gather(1, chosen[span])
        return found

    def _own_end(self, rows: Tensor) -> Tensor:
        """One prompt of one token for each row, which stands where the final residual stream would."""

        def put(value: Tensor, hook: Any) -> Tensor:
            return rows[:, None].to(value)

        tokens = torch.zeros(len(rows), 1, dtype=torch.long, device=rows.device)
        hooks = [(self.layout.final_residual, put)]
        logits: Tensor = self.layout.bridge.run_with_hooks(tokens, fwd_hooks=hooks)
        return logits[:, 0].to(rows)
