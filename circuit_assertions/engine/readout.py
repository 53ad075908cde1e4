"""From rows of the final residual stream to answers: exact final norm, and no vocabulary that nobody reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuit_assertions.engine.layout import Layout
from circuit_assertions.engine.memory import in_pieces, piece_of_rows
from circuit_assertions.engine.module_calls import HALVES, apply_norm
from circuit_assertions.tasks import Prompt

__all__ = ["Readout", "SaidInFull", "SaidOfRows", "unrounded"]

_FEW = 2  # tokens of each prompt, one right and one wrong, that are read column by column


@dataclass(frozen=True)
class Readout:
    """The end of a model: final norm, chosen columns of the unembedding, scale and softcap where there are any.

    Attributes:
        runs: whether the model itself is run from its final residual stream on, because its end is another
            (a layer before the unembedding, a projection). The same numbers, slower.
    """

    layout: Layout
    runs: bool = False

    def difference(self, rows: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """The prompts' answer metric for final residual rows at `end` [..., prompts, d_model] -> [..., prompts]."""
        right, wrong = [prompt.right for prompt in prompts], [prompt.wrong for prompt in prompts]
        return prompts[0].metric.of(SaidOfRows(self, rows), right, wrong)

    def logits_of(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Logits of some tokens of each prompt.

        Args:
            rows: final residual rows [..., prompts, d_model]; the norm is recomputed for each of them.
            tokens: token ids [prompts, tokens].

        Returns:
            [..., prompts, tokens]
        """
        if self.runs:
            return self._of_tokens(rows, tokens, lambda logits, chosen: logits.gather(1, chosen))
        normed = apply_norm(self.layout.final_norm, rows)  # [..., prompts, d_model]
        size = piece_of_rows(rows.device, normed.element_size() * len(tokens) * self.layout.d_model)
        pieces = []
        for piece, fits in in_pieces(range(tokens.shape[1]), size):
            with fits:
                pieces.append(self._columns(normed, tokens[:, piece[0] : piece[-1] + 1]))
        return torch.cat(pieces, dim=-1)

    def logits_among(self, rows: Tensor, tokens: Sequence[int]) -> Tensor:
        """Logits of the same tokens for every row [rows, d_model] -> [rows, tokens].

        Only these columns of the unembedding are read, unless the model's own end is run.
        """
        if self.runs:
            return self.logits_of(rows, torch.tensor([list(tokens)] * len(rows)))
        normed = apply_norm(self.layout.final_norm, rows)
        columns, bias = self.layout.bridge.unembed.W_U[:, list(tokens)], self.layout.bridge.unembed.b_U
        logits = normed @ columns.to(normed)
        return self._transformed(logits if bias is None else logits + bias[list(tokens)].to(logits))

    def probabilities_of(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Probabilities of some tokens of each prompt; shapes as `logits_of`. Forms all logits of every row."""

        def chosen_of(logits: Tensor, chosen: Tensor) -> Tensor:
            return (logits.gather(1, chosen) - logits.logsumexp(dim=1, keepdim=True)).exp()

        return self._of_tokens(rows, tokens, lambda logits, chosen: chosen_of(unrounded(logits), chosen))

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

    def _columns(self, normed: Tensor, tokens: Tensor) -> Tensor:
        """Logits of normed rows [..., prompts, d_model] for tokens [prompts, tokens] -> [..., prompts, tokens]."""
        weights, bias = self.layout.bridge.unembed.W_U, self.layout.bridge.unembed.b_U
        if tokens.shape[1] <= _FEW:
            by_token = [weights[:, chosen].to(normed) for chosen in tokens.T.tolist()]  # each [d_model, prompts]
            logits = torch.stack([torch.einsum("...pd,dp->...p", normed, columns) for columns in by_token], dim=-1)
        else:
            columns = weights[:, tokens.flatten().tolist()].to(normed).unflatten(1, tuple(tokens.shape))
            logits = torch.einsum("...pd,dpt->...pt", normed, columns)
        if bias is not None:
            logits = logits + bias[tokens.flatten().tolist()].to(logits).view(tokens.shape)
        return self._transformed(logits)

    def _of_tokens(self, rows: Tensor, tokens: Tensor, read: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """What is read of all logits of each row, piece by piece [..., prompts, tokens].

        Args:
            read: logits [rows, d_vocab] and token ids [rows, tokens] -> [rows, tokens].
        """
        flat = rows.flatten(0, -2)
        chosen = tokens.to(rows.device).expand(*rows.shape[:-1], -1).flatten(0, -2)
        size = piece_of_rows(rows.device, 2 * rows.element_size() * self.layout.vocabulary)
        pieces = []
        for piece, fits in in_pieces(range(len(flat)), size):
            span = slice(piece[0], piece[-1] + 1)
            with fits:
                logits = self._own_end(flat[span]) if self.runs else self.all_logits(flat[span])
                pieces.append(read(logits, chosen[span]))
        found = torch.cat(pieces) if pieces else rows.new_empty(0, tokens.shape[1])
        return found.view(*rows.shape[:-1], tokens.shape[1])

    def _run(self, rows: Tensor) -> Tensor:
        """Logits [rows, d_vocab], where the model's own end is run on rows."""
        found = rows.new_empty(len(rows), self.layout.vocabulary)
        size = piece_of_rows(rows.device, 2 * rows.element_size() * self.layout.vocabulary)
        for piece, fits in in_pieces(range(len(rows)), size):
            span = slice(piece[0], piece[-1] + 1)
            with fits:
                found[span] = self._own_end(rows[span])
        return found

    def _own_end(self, rows: Tensor) -> Tensor:
        """One prompt of one token for each row, which stands where the final residual stream would."""

        def put(value: Tensor, hook: Any) -> Tensor:
            return rows[:, None].to(value)

        tokens = torch.zeros(len(rows), 1, dtype=torch.long, device=rows.device)
        hooks = [(self.layout.final_residual, put)]
        logits: Tensor = self.layout.bridge.run_with_hooks(tokens, fwd_hooks=hooks)
        return logits[:, 0].to(rows)


@dataclass(frozen=True)
class SaidOfRows:
    """What the end of a model says after rows of the final residual stream [..., prompts, d_model]."""

    readout: Readout
    rows: Tensor

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits of tokens [prompts, tokens] -> [..., prompts, tokens]."""
        return self.readout.logits_of(self.rows, tokens)

    def probabilities(self, tokens: Tensor) -> Tensor:
        """Probabilities of tokens [prompts, tokens] -> [..., prompts, tokens]."""
        return self.readout.probabilities_of(self.rows, tokens)


@dataclass(frozen=True)
class SaidInFull:
    """What a model says, given all logits of each prompt [prompts, d_vocab]."""

    whole: Tensor

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits of tokens [prompts, tokens] -> [prompts, tokens]."""
        return self.whole.gather(1, tokens.to(self.whole.device))

    def probabilities(self, tokens: Tensor) -> Tensor:
        """Probabilities of tokens [prompts, tokens] -> [prompts, tokens]."""
        wide = unrounded(self.whole)
        return (wide.gather(1, tokens.to(wide.device)) - wide.logsumexp(dim=1, keepdim=True)).exp()


def unrounded(logits: Tensor) -> Tensor:
    """Logits in float32 where they are in half precision: a sum over the vocabulary would round too much."""
    return logits.float() if logits.dtype in HALVES else logits
