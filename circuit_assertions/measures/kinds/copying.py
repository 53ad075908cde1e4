"""Copying: whether what a head reads is what it writes (Wang et al. 2022, section 3.1, as their code computes it)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuit_assertions.measures.copied import answer_rows, through_head
from circuit_assertions.measures.declaring import ANSWERS, WANG, Asked, measure
from circuit_assertions.measures.operands import Operands

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Pass

__all__ = ["copy_score", "negative_copy_score"]

_TOP = 5


@measure(
    "copy-score",
    kind="head",
    unit="share of names",
    help="how often a name is among the five tokens that the head raises most where it attends to that name",
    source=f"{WANG}, section 3.1 (residual after block 0, through OV, final norm and unembedding)",
    needs=ANSWERS,
    relies_on=("reads", "writes", "readout"),
    wants=("after_block_0",),
    lowest=0,
    highest=1,
)
def copy_score(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """Share of the prompt's names that are in the top five of the head's own logits [prompts, heads].

    The residual stream after block 0 at each occurrence of either answer goes through block 1's attention norm, the
    head's value and output matrices (and post-norm, where there is one), the final norm and the unembedding.
    """
    return _share_in_top(taken, asked, sign=1.0)


@measure(
    "negative-copy-score",
    kind="head",
    unit="share of names",
    help="the copy score of the head's negated output: how often it lowers a name most where it attends to it",
    source=f"{WANG}, section 3.1 (negative name movers)",
    needs=ANSWERS,
    relies_on=("reads", "writes", "readout"),
    wants=("after_block_0",),
    lowest=0,
    highest=1,
)
def negative_copy_score(taken: Pass, asked: Asked[Operands]) -> Tensor:
    """The same with the head's output negated, as for negative name movers [prompts, heads]."""
    return _share_in_top(taken, asked, sign=-1.0)


def _share_in_top(taken: Pass, asked: Asked[Operands], sign: float) -> Tensor:
    import torch

    assert taken.after_block_0 is not None
    layout = taken.model.layout
    owners, places, names = answer_rows(taken)
    rows = taken.after_block_0[owners, places]  # [rows, d_model]
    scores = []
    with torch.no_grad():
        normed = layout.attention_norm(min(1, layout.layers - 1))(rows)
        per_prompt = torch.bincount(owners, minlength=len(taken.prompts)).to(rows.dtype)
        for head in asked.components:
            hits = _in_top(taken, sign * through_head(taken.model, head, normed), names)  # [rows]
            found = torch.zeros(len(taken.prompts), dtype=rows.dtype, device=rows.device).index_add(0, owners, hits)
            scores.append(found / per_prompt)
        return torch.stack(scores, dim=1)


def _in_top(taken: Pass, written: Tensor, names: Tensor) -> Tensor:
    import torch

    from circuit_assertions.engine.memory import in_pieces, piece_of_rows

    hits = torch.empty_like(names, dtype=written.dtype)
    size = piece_of_rows(written.device, 2 * written.element_size() * taken.model.layout.vocabulary)
    for piece, fits in in_pieces(range(len(names)), size):
        span = slice(piece[0], piece[-1] + 1)
        with fits:
            logits = taken.model.readout.all_logits(written[span])  # [rows, d_vocab]
            above = (logits > logits.gather(1, names[span, None])).sum(dim=1)
            # A head that writes NaN must not be taken for one that copies.
            hits[span] = torch.where(logits.isfinite().all(dim=1), (above < _TOP).to(logits.dtype), torch.nan)
    return hits
