"""Random models that are measured with hooks, or whose sums and logits are scaled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transformers import AutoConfig

_SHAPE: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_GROUPED = {**_SHAPE, "num_key_value_heads": 2}
_WITH_HEADS = {**_GROUPED, "head_dim": 8}
_SCALES = {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.3, "logits_scaling": 2.0}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_BLOOM = {"hidden_size": 32, "n_layer": 3, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}
_OPT = {
    **{key: value for key, value in _SHAPE.items() if key != "intermediate_size"},
    "ffn_dim": 48,
    "do_layer_norm_before": False,
}
_LATENT = {
    **_SHAPE,
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 12,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "moe_intermediate_size": 24,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}

_HOOKED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "bloom, attention biased by distance": ("bloom", _BLOOM),
    "bloom, residual stream taken after the norm": (
        "bloom",
        {**_BLOOM, "apply_residual_connection_post_layernorm": True},
    ),
    "bert, a decoder": ("bert", {**_SHAPE, "is_decoder": True}),
    "stablelm, queries and keys normed head by head": ("stablelm", {**_GROUPED, "qk_layernorm": True}),
    "nanochat, norms without weights": ("nanochat", _GROUPED),
    "deepseek 2, latent attention": ("deepseek_v2", {**_LATENT, "topk_method": "greedy"}),
    "deepseek 3, latent attention": ("deepseek_v3", _LATENT),
    "opt, post-norm": ("opt", {**_OPT, "word_embed_proj_dim": 32}),
    "opt, post-norm and projected": ("opt", {**_OPT, "word_embed_proj_dim": 16}),
    "modernbert, a layer before the unembedding": ("modernbert-decoder", {**_SHAPE, "local_attention": 8}),
    "gpt-oss, attention sinks": ("gpt_oss", {**_WITH_HEADS, "num_local_experts": 4, "sliding_window": 4}),
    "mpt, attention biased by distance": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 64}),
    "glm": ("glm", _WITH_HEADS),
    "ernie": ("ernie4_5", _WITH_HEADS),
    "hunyuan": ("hunyuan_v1_dense", _WITH_HEADS),
    "llama 4": (
        "llama4_text",
        {**_WITH_HEADS, "intermediate_size_mlp": 48, "num_local_experts": 2, "interleave_moe_layer_step": 2},
    ),
    "afmoe, gated heads": (
        "afmoe",
        {**_WITH_HEADS, **_EXPERTS, "num_experts": 4, "moe_intermediate_size": 24, "sliding_window": 8},
    ),
}
_SCALED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "granite, scaled sums and logits": ("granite", {**_GROUPED, **_SCALES}),
    "granite, mixture of experts": ("granitemoe", {**_GROUPED, **_SCALES, **_EXPERTS}),
    "cohere, scaled logits": ("cohere", {**_GROUPED, "logit_scale": 0.5}),
    "cohere, normed queries and keys": ("cohere", {**_GROUPED, "logit_scale": 3.0, "use_qk_norm": True}),
    "cohere 2, sliding window": ("cohere2", {**_WITH_HEADS, "sliding_window": 4}),
}


def _maker(kind: str, settings: Mapping[str, Any]) -> Callable[[int], Any]:
    def make(size: int) -> Any:
        config = AutoConfig.for_model(kind, **{**settings, "vocab_size": size})
        config._experts_implementation = "eager"  # the experts' grouped product has no float64
        return config

    return make


HOOKED = {name: _maker(*case) for name, case in _HOOKED.items()}
SCALED = {name: _maker(*case) for name, case in _SCALED.items()}
CASES = {**HOOKED, **SCALED}
