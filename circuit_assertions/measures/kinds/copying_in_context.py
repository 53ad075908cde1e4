"""Copying in context: whether a head raises the token that it reads above the other answers of the task.

`copy-score` reads the residual stream after block 0, whatever the head's layer, and asks for the top five of the whole
vocabulary. The more tokens there are, and the more earlier blocks have added to a name, the less it shows.
These measures read what enters the head's own block, and compare among the answers of the task alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from circuit_assertions.measures.copied import answer_rows, through_head
from circuit_assertions.measures.declaring import ANSWERS, WANG, Asked, Prepared, measure
from circuit_assertions.measures.operands import Operands, Spoken, check_position

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Pass
    from circuit_assertions.measures.sweeping import Sweep

__all__ = ["copy_in_context", "negative_copy_in_context"]

_SOURCE = f"after the copy score of {WANG}, section 3.1; read at the head's own layer, among the answers of the task"


_Place = Annotated[
    str,
    AfterValidator(check_position),
    Spoken(str, "a position, by default wherever an answer stands", "a position of the task"),
]


class CopiedFrom(Operands):
    """Where the head is taken to attend to."""

    at: _Place | None = Field(None, description="the position that is read; default wherever an answer stands")


def _answers_of_all(sweep: Sweep, asked: Asked[CopiedFrom]) -> Prepared:
    """The tokens that are an answer, right or wrong, of any prompt of the task.

    More prompts may have more of them, so that no reading of few prompts can be continued.
    """
    answers = {token for prompt in sweep.everyone.prompts for token in (*prompt.right.tokens, *prompt.wrong.tokens)}
    return Prepared({"answers": tuple(sorted(answers))}, searched=False)


@measure(
    "copy-in-context",
    kind="head",
    operands=CopiedFrom,
    unit="share of answers",
    help="of the other answers of the task, how many the head raises less than the token that it attends to",
    source=_SOURCE,
    needs=ANSWERS,
    relies_on=("reads", "writes", "readout"),
    wants=("entering",),
    lowest=0,
    highest=1,
    prepare=_answers_of_all,
)
def copy_in_context(taken: Pass, asked: Asked[CopiedFrom]) -> Tensor:
    """Share of the other answers with a smaller logit than the token that is read [prompts, heads].

    What enters the head's block, at the position or at each occurrence of either answer, goes through the block's
    attention norm, the head's value and output matrices (and post-norm), the final norm and the unembedding. Equal
    logits count half: 1 for a head that copies, 0.5 on average for one that does not distinguish the answers, 0 for one
    that lowers what it reads most of all.
    """
    return _shares(taken, asked)


@measure(
    "negative-copy-in-context",
    kind="head",
    operands=CopiedFrom,
    unit="share of answers",
    help="of the other answers of the task, how many the head raises more than the token that it attends to",
    source=_SOURCE,
    needs=ANSWERS,
    relies_on=("reads", "writes", "readout"),
    wants=("entering",),
    lowest=0,
    highest=1,
    prepare=_answers_of_all,
)
def negative_copy_in_context(taken: Pass, asked: Asked[CopiedFrom]) -> Tensor:
    """The same share of those with a larger logit [prompts, heads]: 1 less copying in context."""
    return 1.0 - _shares(taken, asked)


def _shares(taken: Pass, asked: Asked[CopiedFrom]) -> Tensor:
    import torch

    owners, places, tokens = _rows(taken, asked.operands.at)
    answers = asked.prepared["answers"]
    columns = sorted({*answers, *tokens.tolist()})
    own = torch.tensor([[columns.index(token)] for token in tokens.tolist()], device=owners.device)  # [rows, 1]
    compared = torch.tensor([column in answers for column in columns], device=owners.device)
    others = compared.expand(len(own), -1).scatter(1, own, False)  # [rows, columns]
    shares: list[Tensor] = []
    normed: dict[int, Tensor] = {}  # of one layer at a time
    with torch.no_grad():
        per_prompt = torch.bincount(owners, minlength=len(taken.prompts))
        for head in asked.components:
            if head.layer not in normed:
                normed = {head.layer: _read(taken, head.layer, owners, places)}
            written = through_head(taken.model, head, normed[head.layer])  # [rows, d_model]
            logits = taken.model.readout.logits_among(written, columns)  # [rows, columns]
            below = _below(logits, own, others)  # [rows]
            summed = below.new_zeros(len(taken.prompts)).index_add(0, owners, below)
            shares.append(summed / per_prompt)
        return torch.stack(shares, dim=1)


def _read(taken: Pass, layer: int, prompts: Tensor, positions: Tensor) -> Tensor:
    """What a block's heads read of some positions, in float32 at least [rows, d_model]."""
    from circuit_assertions.engine.arithmetic import raw
    from circuit_assertions.engine.module_calls import HALVES, apply_norm

    assert taken.entering is not None
    rows = taken.entering.at(layer, prompts, positions).to(taken.model.device)
    return apply_norm(raw(taken.model.layout.attention_norm(layer)), rows.float() if rows.dtype in HALVES else rows)


def _below(logits: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """Share of the others with a smaller logit than one's own, equal ones counted half [rows]."""
    import torch

    mine = logits.gather(1, own)  # [rows, 1]
    smaller = (logits < mine).to(logits) + 0.5 * (logits == mine).to(logits)
    share = (smaller * others).sum(dim=1) / others.sum(dim=1)
    # A head that writes NaN must not be taken for one that does not care.
    return torch.where(logits.isfinite().all(dim=1), share, torch.nan)


def _rows(taken: Pass, at: str | None) -> tuple[Tensor, Tensor, Tensor]:
    """Prompt, position and token of each row that is read: three tensors [rows]."""
    import torch

    if at is None:
        return answer_rows(taken)
    places = taken.positions(at)
    tokens = [prompt.tokens[prompt.positions[at]] for prompt in taken.prompts]
    return torch.arange(len(places), device=places.device), places, torch.tensor(tokens, device=places.device)
