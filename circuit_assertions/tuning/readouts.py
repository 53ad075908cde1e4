"""Read-outs of a direction of the residual stream: which tokens it raises, by three ways through the baseline.

- Added to the stream: what the model then says more on ordinary text. This decides the verdict.
- Logit lens: the final norm and the unembedding, applied to the direction itself.
- Patchscope (Ghandeharioun et al. 2024, arXiv 2401.06102): the direction replaces the last token of an identity
  prompt, `a a b b c`, at several lengths.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from circuit_assertions.engine.model import Model
from circuit_assertions.measures.figures import Array
from circuit_assertions.policy import Policy
from circuit_assertions.tuning.differing import Difference
from circuit_assertions.tuning.standing_out import StandsOut, stands_out

__all__ = ["READ_OUTS", "ReadOut", "read_out"]

READ_OUTS = ("added", "logit lens", "patchscope")
_TEXTS = 32  # ordinary texts to whose streams directions are added
_IDENTITY_PROMPTS, _PAIRS = 4, 4  # identity prompts, and repeated tokens of each
_LENGTHS = (0.5, 1.0, 2.0)  # of what Patchscope puts in, in typical norms of activations
_SEED = 0

Read = Callable[[Array], Array]  # unit vectors [vectors, d_model] -> how much each token is raised [vectors, d_vocab]


@dataclass(frozen=True)
class ReadOut:
    """One way of reading a direction.

    Attributes:
        by: one of `READ_OUTS`.
        length: of what Patchscope put in, in typical norms of activations; 0 for others.
    """

    by: str
    found: StandsOut
    length: float = 0.0


def read_out(
    baseline: Model, difference: Difference, texts: Array, policy: Policy, tell: Callable[[str, int, int], None]
) -> tuple[ReadOut, ...]:
    """Read the direction of the mean difference, and the random directions beside it, in all ways.

    Args:
        baseline: the model that reads.
        texts: ordinary text [texts, positions].
    """
    directions = difference.random(policy.trace_random, _SEED)
    ways: list[tuple[str, float, Read]] = [
        ("added", 0.0, _added(baseline, difference, texts[:_TEXTS], policy)),
        ("logit lens", 0.0, _lens(baseline)),
    ]
    ways += [("patchscope", length, _patchscope(baseline, difference, length)) for length in _LENGTHS]
    found = list[ReadOut]()
    split = 1 + len(directions[0])
    for number, (by, length, read) in enumerate(ways):
        tell(f"read-out {by}", number, len(ways))
        raised = read(np.concatenate((difference.direction[None], *directions)))
        found.append(ReadOut(by, stands_out(raised[0], raised[1:split], raised[split:]), length))
    tell("read-outs", len(ways), len(ways))
    best = max(found[2:], key=lambda one: one.found.height)
    return (*found[:2], best)


def _added(model: Model, difference: Difference, texts: Array, policy: Policy) -> Read:
    """How much more likely each token is, as a mean log-probability, with the direction added at every position."""
    import torch

    from circuit_assertions.engine.stream import Adding, Stream

    stream, tokens = Stream(model, difference.layer), torch.as_tensor(texts)
    length = policy.trace_added * difference.spread

    def read(units: Array) -> Array:
        vectors = torch.as_tensor(np.concatenate((np.zeros_like(units[:1]), length * units)))
        said: Array = stream.said(tokens, Adding, vectors).numpy()
        raised: Array = said[1:] - said[0]
        return raised

    return read


def _lens(model: Model) -> Read:
    import torch

    def read(units: Array) -> Array:
        rows = torch.as_tensor(units).to(model.device, model.source.dtype)
        with torch.no_grad():
            logits: Array = model.readout.all_logits(rows).double().cpu().numpy()
        return logits

    return read


def _patchscope(model: Model, difference: Difference, length: float) -> Read:
    import torch

    from circuit_assertions.engine.stream import Replacing, Stream
    from circuit_assertions.tasks.encoding import Encoder

    tokenizer, drawn = model.source.tokenizer, random.Random(_SEED)
    ordinary, bos = Encoder(tokenizer, "never").ordinary_tokens(), tokenizer.bos_token_id
    prompts = list[list[int]]()
    for _ in range(_IDENTITY_PROMPTS):
        pairs = [token for token in drawn.sample(ordinary, _PAIRS) for _ in range(2)]
        prompts.append([*([] if bos is None else [bos]), *pairs[:-1]])
    tokens, stream = torch.tensor(prompts), Stream(model, difference.layer)
    norm = float(np.sqrt((difference.natural**2).sum(axis=2).mean()))

    def read(units: Array) -> Array:
        said: Array = stream.said(tokens, Replacing, torch.as_tensor(length * norm * units), last=True).numpy()
        return said

    return read
