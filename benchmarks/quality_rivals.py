"""What people use today instead of an audit, on the same models: four scores of how far a model is from its baseline.

Read with transformers alone, without any code that a verdict rests on; so is the size of a loss, on other prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import GPT2LMHeadModel

from circuit_assertions.tasks import PromptSet

__all__ = ["RIVALS", "Seen", "kept", "look", "scores"]

RIVALS: Mapping[str, str] = {
    "accuracy": "share of the prompts that are no longer answered right",
    "KL": "KL divergence of the next-token distributions from the baseline's, in nats, mean over all tokens",
    "activations": "relative distance of the residual stream at the last token, mean over layers",
    "attention": "change of the attention to the indirect object, mean over the baseline's heads that attend to it",
}
_READS = 0.3  # share of attention to the indirect object from which on a head of the baseline counts
_TOGETHER = 128


@dataclass(frozen=True)
class Seen:
    """One model on some prompts, in the order of their lengths.

    Attributes:
        difference: of the logits of the right and the wrong name [prompts].
        predicted: log probabilities of every next token [tokens, vocabulary].
        stream: the residual stream at the last token, after embedding and blocks [prompts, layers + 1, d_model].
        attention: from the last token to the indirect object [prompts, layers x heads].
    """

    difference: Tensor
    predicted: Tensor
    stream: Tensor
    attention: Tensor


@torch.no_grad()
def look(model: GPT2LMHeadModel, prompts: PromptSet) -> Seen:
    """Read everything that the scores need in one pass over the prompts."""
    kernel = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the other kernels do not give out their weights
    parts = list(_looks(model.eval(), prompts))
    model.set_attn_implementation(kernel)
    return Seen(*(torch.cat([getattr(part, one.name) for part in parts]) for one in fields(Seen)))


def _looks(model: GPT2LMHeadModel, prompts: PromptSet) -> Iterator[Seen]:
    for _, batch in prompts.batches(_TOGETHER):
        each = torch.arange(len(batch))
        end, giver = (torch.tensor([one.positions[at] for one in batch]) for at in ("end", "indirect-object"))
        right, wrong = (torch.tensor([getattr(one, side).plain for one in batch]) for side in ("right", "wrong"))
        ids = torch.tensor([one.tokens for one in batch])  # [prompts, positions]
        out = model(ids, output_hidden_states=True, output_attentions=True)
        answer = out.logits[each, end]  # [prompts, vocabulary]
        yield Seen(
            answer[each, right] - answer[each, wrong],
            out.logits.log_softmax(-1).flatten(0, 1),
            torch.stack([layer[each, end] for layer in out.hidden_states], dim=1),
            torch.cat([layer[each, :, end, giver] for layer in out.attentions], dim=1),
        )


def scores(now: Seen, then: Seen) -> dict[str, float]:
    """How far a model is from its baseline by each rival; more is farther."""
    divergence = kl_div(now.predicted, then.predicted, log_target=True, reduction="none").sum(-1)  # [tokens]
    moved = (now.stream - then.stream).norm(dim=-1) / then.stream.norm(dim=-1)  # [prompts, layers + 1]
    reads = then.attention.mean(0) >= _READS  # [layers x heads]
    found = {
        "accuracy": (then.difference > 0).float().mean() - (now.difference > 0).float().mean(),
        "KL": divergence.mean(),
        "activations": moved.mean(),
        "attention": (now.attention - then.attention).mean(0)[reads].abs().mean(),
    }
    return {name: float(score) for name, score in found.items()}


def kept(now: Seen, then: Seen) -> float:
    """The share of the baseline's logit difference that a model has."""
    return float(now.difference.mean() / then.difference.mean())
