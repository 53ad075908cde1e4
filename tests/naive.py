"""Every measure again, slowly and obviously, on Hugging Face's own modules: one prompt at a time, one head at a time.

Nothing of the project and nothing of TransformerLens computes here. A head's write is what the output projection makes
of that head's slice alone; what a head contributes to the answer is the answer with that write less the answer without
it, through the model's own final norm and unembedding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM


@dataclass(frozen=True)
class Places:
    """Where one architecture keeps what is read: attribute paths, the inner ones relative to a block."""

    blocks: str
    final_norm: str
    projection: str
    norm: str | None  # before attention; none where heads read the residual stream as it is
    values: Callable[[Any, Tensor], Tensor]  # block, normed rows [rows, d_model] -> [rows, heads, d_head]
    post_norm: str | None = None


def _find(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def _joint_values(block: Any, normed: Tensor) -> Tensor:
    """GPT-2: all queries, then all keys, then all values."""
    joint = block.attn.c_attn(normed)  # [rows, 3 * d_model]
    values: Tensor = joint.chunk(3, dim=-1)[2].reshape(len(normed), block.attn.num_heads, -1)
    return values


def _interleaved_values(block: Any, normed: Tensor) -> Tensor:
    """GPT-NeoX: query, key and value of the first head, then those of the second."""
    joint = block.attention.query_key_value(normed)  # [rows, 3 * d_model]
    size = block.attention.head_size
    values: Tensor = joint.unflatten(-1, (-1, 3 * size))[..., 2 * size :]
    return values


def _separate_values(block: Any, normed: Tensor) -> Tensor:
    """Llama and its kin, OPT: a projection of their own; several query heads may share one value head."""
    attention = block.self_attn
    flat = attention.v_proj(normed)  # [rows, value heads * d_head]
    values: Tensor = flat.unflatten(-1, (-1, attention.head_dim))
    return values.repeat_interleave(getattr(attention, "num_key_value_groups", 1), dim=1)


def _clamped_values(block: Any, normed: Tensor) -> Tensor:
    """OLMo: no value is further from zero than the configuration says."""
    clip = block.self_attn.config.clip_qkv
    return _separate_values(block, normed).clamp(-clip, clip)


_LLAMA = Places("model.layers", "model.norm", "self_attn.o_proj", "input_layernorm", _separate_values)
_GEMMA2 = Places(
    "model.layers",
    "model.norm",
    "self_attn.o_proj",
    "input_layernorm",
    _separate_values,
    post_norm="post_attention_layernorm",  # Llama calls the norm before its MLP so, Gemma 2 the one after attention
)
_PLACES: Mapping[str, Places] = {
    "gpt2": Places("transformer.h", "transformer.ln_f", "attn.c_proj", "ln_1", _joint_values),
    "llama": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _GEMMA2,
    "olmo": Places("model.layers", "model.norm", "self_attn.o_proj", "input_layernorm", _clamped_values),
    "olmo2": Places(
        "model.layers",
        "model.norm",
        "self_attn.o_proj",
        None,
        _separate_values,
        post_norm="post_attention_layernorm",
    ),
    "gpt_neox": Places(
        "gpt_neox.layers", "gpt_neox.final_layer_norm", "attention.dense", "input_layernorm", _interleaved_values
    ),
    "opt": Places(
        "model.decoder.layers",
        "model.decoder.final_layer_norm",
        "self_attn.out_proj",
        "self_attn_layer_norm",
        _separate_values,
    ),
}


# Hugging Face rounds these architectures' attention to float32 in its softmax, whatever the model's dtype;
# TransformerLens does not. Against the rounded attention a float64 model agrees within 6e-8 and no better.
_ROUNDED_BY_HUGGING_FACE = ("gpt_neox",)


def _softmax_in_own_dtype(scores: Tensor, dim: int = -1, dtype: torch.dtype | None = None) -> Tensor:
    exponentials = torch.exp(scores - scores.amax(dim=dim, keepdim=True))
    return exponentials / exponentials.sum(dim=dim, keepdim=True)


@dataclass
class Seen:
    """What one forward pass over one prompt showed. Lists have one entry a layer."""

    logits: Tensor = field(default_factory=lambda: torch.empty(0))  # [positions, d_vocab]
    attention: list[Tensor] = field(default_factory=list)  # each [heads, query positions, key positions]
    projected: list[Tensor] = field(default_factory=list)  # each [positions, heads * d_head]
    entering: list[Tensor] = field(
        default_factory=list
    )  # each [positions, d_model], the residual stream before a block
    after_block_0: Tensor = field(default_factory=lambda: torch.empty(0))  # [positions, d_model]
    final: Tensor = field(default_factory=lambda: torch.empty(0))  # [positions, d_model], before the final norm


class Naive:
    """A checkpoint read by plain loops."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
        self.places = _PLACES[self.model.config.model_type]
        self.blocks: list[Any] = list(_find(self.model, self.places.blocks))
        self.heads: int = self.model.config.num_attention_heads
        self.every_head = [(layer, head) for layer in range(len(self.blocks)) for head in range(self.heads)]

    @torch.no_grad()
    def see(self, tokens: Sequence[int]) -> Seen:
        """One forward pass over one prompt, whole."""
        seen = Seen()
        handles = [
            _find(block, self.places.projection).register_forward_pre_hook(
                lambda _module, inputs: seen.projected.append(inputs[0][0])
            )
            for block in self.blocks
        ]
        handles += [
            block.register_forward_pre_hook(
                lambda _module, inputs, named: seen.entering.append(
                    (inputs or (named["hidden_states"],))[0][0].clone()
                ),
                with_kwargs=True,
            )
            for block in self.blocks
        ]
        norm = _find(self.model, self.places.final_norm)
        handles.append(norm.register_forward_pre_hook(lambda _module, inputs: setattr(seen, "final", inputs[0][0])))
        own = self.model.config.model_type in _ROUNDED_BY_HUGGING_FACE
        softmax = mock.patch("torch.nn.functional.softmax", _softmax_in_own_dtype) if own else contextlib.nullcontext()
        try:
            with softmax:
                said = self.model(torch.tensor([list(tokens)]), output_attentions=True, output_hidden_states=True)
        finally:
            for handle in handles:
                handle.remove()
        seen.logits, seen.attention = said.logits[0], [pattern[0] for pattern in said.attentions]
        seen.after_block_0 = said.hidden_states[1][0]
        return seen

    @torch.no_grad()
    def logits(self, residual: Tensor) -> Tensor:
        """What the end of the model says of a final residual [d_model] -> [d_vocab]."""
        said: Tensor = self.model.get_output_embeddings()(_find(self.model, self.places.final_norm)(residual))
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return said if cap is None else cap * torch.tanh(said / cap)

    def attention(self, seen: Seen, head: tuple[int, int], query: int, key: int) -> float:
        return float(seen.attention[head[0]][head[1], query, key])

    def look_back(self, seen: Seen, head: tuple[int, int], back: int, start: int, period: int) -> float:
        """Mean attention to `back` positions before, over the second half of a sequence that is read twice."""
        second = range(start + period, start + 2 * period)
        return sum(self.attention(seen, head, place, place - back) for place in second) / period

    @torch.no_grad()
    def direct_effect(self, seen: Seen, head: tuple[int, int], right: int, wrong: int) -> float:
        """The margin of the right answer at the last token, with the head's write in the final residual and without."""
        block = self.blocks[head[0]]
        project = _find(block, self.places.projection)
        everyone = seen.projected[head[0]][-1]  # [heads * d_head]
        others = everyone.clone().reshape(self.heads, -1)
        others[head[1]] = 0.0
        together, without = project(everyone), project(others.flatten())  # [d_model]
        if self.places.post_norm is not None:
            norm = _find(block, self.places.post_norm)
            together, without = norm(together), norm(without)
        kept, left = self.logits(seen.final[-1]), self.logits(seen.final[-1] - (together - without))
        return float((kept[right] - kept[wrong]) - (left[right] - left[wrong]))

    @torch.no_grad()
    def copy_score(
        self, seen: Seen, head: tuple[int, int], tokens: Sequence[int], right: int, wrong: int, sign: float
    ) -> float:
        """Of all places where an answer stands, how often the head, reading it there, raises it among the top five."""
        hits = []
        for place, token in enumerate(tokens):
            if token not in (right, wrong):
                continue
            written = self._write(head, seen.after_block_0[place], self.blocks[1])
            hits.append(token in self.logits(sign * written).topk(5).indices.tolist())
        return sum(hits) / len(hits)

    @torch.no_grad()
    def copy_in_context(
        self, seen: Seen, head: tuple[int, int], tokens: Sequence[int], places: Sequence[int], answers: Sequence[int]
    ) -> float:
        """How many other answers the head, reading a place at its own layer, raises less than what stands there."""
        shares = []
        for place in places:
            written = self._write(head, seen.entering[head[0]][place], self.blocks[head[0]])
            logits = self.logits(written)
            own, others = float(logits[tokens[place]]), [float(logits[one]) for one in answers if one != tokens[place]]
            below = sum(1.0 if other < own else 0.5 if other == own else 0.0 for other in others)
            shares.append(below / len(others))
        return sum(shares) / len(shares)

    def _write(self, head: tuple[int, int], residual: Tensor, normed_by: Any) -> Tensor:
        """What a head writes that reads one row of the residual stream alone [d_model] -> [d_model].

        Args:
            normed_by: the block whose attention norm is applied.
        """
        block = self.blocks[head[0]]
        normed = residual if self.places.norm is None else _find(normed_by, self.places.norm)(residual)
        values = self.places.values(block, normed[None])[0]  # [heads, d_head]
        alone = torch.zeros_like(values)
        alone[head[1]] = values[head[1]]
        project = _find(block, self.places.projection)
        written: Tensor = project(alone.flatten()) - project(
            torch.zeros_like(alone).flatten()
        )  # less the bias, nobody's own
        if self.places.post_norm is not None:
            written = _find(block, self.places.post_norm)(written)
        return written

    def log_probabilities(self, seen: Seen, targets: Sequence[tuple[int, int]]) -> list[float]:
        """Log-probability of each target, (position, next token)."""
        return [float(torch.log_softmax(seen.logits[place], dim=-1)[token]) for place, token in targets]
