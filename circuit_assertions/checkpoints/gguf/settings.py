"""From a GGUF file's metadata to a configuration of transformers, with every setting that the file states.

transformers reads most of the metadata. What it leaves out it replaces with a default of the class, without a word: the
base of the rotary frequencies of StarCoder 2, the room of GPT-2, the size of a head of Qwen 3. So each setting that the
file states is compared with the configuration, and put into it where the two differ. What cannot be put there is
refused if it changes what the model computes. Settings that are absent mean what llama.cpp takes then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig, PretrainedConfig

from circuit_assertions.checkpoints.bounds import refuse_out_of_bounds
from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.gguf.header import GgufHeader
from circuit_assertions.checkpoints.gguf.rotation import refuse_other_rotation, rotation_of
from circuit_assertions.checkpoints.safety import refuse_other_models
from circuit_assertions.printable import printable

__all__ = ["ELSEWHERE", "GgufSettings", "settings_in"]

# transformers looks for further files in the folder that it is given: a configuration, an adapter, code. It is given
# this one, which has none, and the file by its whole path.
ELSEWHERE = str(Path(__file__).parent)

# By a key of the metadata, without the architecture: what a configuration may call it, the first that it has.
_EPSILONS = ("layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "rms_norm_eps", "norm_eps")
_NAMES = {
    "block_count": ("num_hidden_layers",),
    "embedding_length": ("hidden_size",),
    "feed_forward_length": ("intermediate_size", "n_inner", "ffn_hidden_size"),
    "context_length": ("max_position_embeddings",),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_kv_heads", "num_key_value_heads"),
    "attention.key_length": ("global_head_dim", "head_dim"),
    "attention.value_length": ("v_head_dim", "global_head_dim", "head_dim"),
    "attention.layer_norm_epsilon": _EPSILONS,
    "attention.layer_norm_rms_epsilon": _EPSILONS[::-1],
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "logit_scale": ("logit_scale",),
    "use_parallel_residual": ("use_parallel_residual",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size", "intermediate_size"),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "expert_weights_norm": ("norm_topk_prob",),
}
# Without a name in the configuration these make another model of it.
_CHANGING = (
    *("attention.clamp_kqv", "attention.max_alibi_bias", "attention.scale", "attention.output_scale"),
    *("attention.temperature_length", "attention.temperature_scale", "embedding_scale", "residual_scale"),
    *("logit_scale", "attn_logit_softcapping", "final_logit_softcapping", "router_logit_softcapping"),
    *("expert_weights_scale", "attention.key_length", "attention.value_length"),
)
# What the tensors show, what is read elsewhere, and what is no setting.
_ELSEWHERE_READ = (
    *(
        "rope.freq_base",
        "rope.dimension_",
        "rope.scaling.",
        "rope.scale_linear",
        "ssm.",
        "shortconv.",
        "vocab_size",
        "embedding_length",
        "feed_forward_length",
        "context_length",
    ),
    *("tensor_data_layout", "nextn_predict_layers"),
)
_STRAY = ("_model_name_or_path", "n_ctx", "feed_forward_length", "rope_scaling")
_LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}  # layers of the 27B models


@dataclass(frozen=True)
class GgufSettings:
    """What a file's metadata says of the model.

    Attributes:
        config: of transformers.
        aside: tensors that are settings, and went into the configuration.
        notes: for the report: what was not read.
    """

    config: Any
    aside: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def settings_in(header: GgufHeader) -> GgufSettings:
    """The configuration that a file's metadata describe.

    Raises:
        CheckpointError: if it is that of no causal language model that transformers reads from GGUF, needs more than
            the tensors can fill, or has a setting that transformers cannot be given.
    """
    raw = _read_by_transformers(header)
    refuse_other_models(header.file, raw)
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    refuse_out_of_bounds(header.file, raw, shapes)
    stated = _stated(header)
    refuse_out_of_bounds(header.file, _by_name(stated), shapes)
    if header.architecture == "llama" and "attention.head_count_kv" not in stated:
        # transformers restores the order of the rows of queries and keys only where it knows this number
        raise CheckpointError(
            f"{header.file} does not state llama.attention.head_count_kv, without which its weights cannot be ordered: "
            f"convert the model again"
        )
    embedding = shapes.get("token_embd.weight")
    raw |= {"vocab_size": embedding[0]} if embedding else {}
    config = AutoConfig.for_model(**raw)
    raw |= _differing(config, stated) | _scale_of_gemma(header, stated)
    turned, aside = rotation_of(header, AutoConfig.for_model(**raw))
    config = AutoConfig.for_model(**raw | turned)
    _refuse_unlike(header, config, stated)
    refuse_other_rotation(header, config, turned)
    return GgufSettings(config, aside, _unread(header, config, stated))


def _read_by_transformers(header: GgufHeader) -> dict[str, Any]:
    """A configuration as a dictionary, as transformers makes it from the file."""
    said, _ = PretrainedConfig.get_config_dict(ELSEWHERE, gguf_file=str(header.file.absolute()), local_files_only=True)
    absent = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))  # the class's are another vocabulary's
    return absent | {key: _shortest(value) for key, value in said.items() if key not in _STRAY}


def _stated(header: GgufHeader) -> dict[str, Any]:
    """The settings that the file states, one value for all layers."""
    found = {}
    for key, value in header.settings.items():
        one = value[0] if isinstance(value, list) and value and all(each == value[0] for each in value) else value
        found[key] = _shortest(one)
    if type(found.get("block_count")) is int:
        further = found.get("nextn_predict_layers", 0)  # blocks behind the last that are no part of the model
        found["block_count"] -= further if type(further) is int else 0
    return found


def _by_name(stated: Mapping[str, Any]) -> dict[str, Any]:
    """By what a configuration calls them, for the comparison with the tensors."""
    return {_NAMES[key][0]: value for key, value in stated.items() if key in _NAMES}


def _shortest(value: Any) -> Any:
    """A number of single precision as a person writes it: 1e-05, and not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) and float(np.float32(value)) == value else value


def _name(config: Any, key: str) -> str | None:
    return next((name for name in _NAMES.get(key, ()) if hasattr(config, name)), None)


def _differing(config: Any, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Stated settings, by the configuration's names, that the configuration has otherwise."""
    named = ((_name(config, key), value) for key, value in stated.items())
    return {
        name: value
        for name, value in named
        if name is not None and not isinstance(value, list) and not _same(getattr(config, name), value)
    }


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        return isinstance(one, (int, float)) and isinstance(other, (int, float)) and isclose(one, other, rel_tol=1e-6)
    return bool(one == other)


def _scale_of_gemma(header: GgufHeader, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The scale of attention, which no key contains: llama.cpp takes it from the size of a head, or of the 27B models
    from the width."""
    layers = _LARGEST_GEMMA.get(header.architecture)
    if layers is None:
        return {}
    width, heads = stated.get("embedding_length"), stated.get("attention.head_count")
    if stated.get("block_count") == layers and isinstance(width, int) and isinstance(heads, int) and heads > 0:
        return {"query_pre_attn_scalar": width // heads}
    return {"query_pre_attn_scalar": stated.get("attention.key_length", 256)}


def _refuse_unlike(header: GgufHeader, config: Any, stated: Mapping[str, Any]) -> None:
    """Refuse what could not be put into the configuration."""
    for name, value in _differing(config, stated).items():
        raise _unsettable(header, name, value, f"has {name} {getattr(config, name)}")
    width = config.hidden_size // max(1, config.num_attention_heads) if hasattr(config, "num_attention_heads") else 0
    for key in _CHANGING:
        value = stated.get(key)
        if not value or _name(config, key) is not None or (key.endswith("_length") and value == width):
            continue
        if key == "attention.max_alibi_bias" and header.architecture == "bloom":
            continue
        raise _unsettable(header, key, value, "has no such setting")
    if stated.get("attention.causal") is False:
        raise CheckpointError(
            f"{header.file} holds a {header.architecture} whose attention is not causal: circuits are audited on "
            f"decoders such as GPT2LMHeadModel or LlamaForCausalLM"
        )


def _unsettable(header: GgufHeader, key: str, value: Any, instead: str) -> CheckpointError:
    return CheckpointError(
        f"{header.file} states {key} {value!r:.40}, and transformers' {header.architecture} {instead}: it cannot be "
        f"read as the same model, so audit the model that it was converted from"
    )


def _unread(header: GgufHeader, config: Any, stated: Mapping[str, Any]) -> tuple[str, ...]:
    """What is said of settings that nothing here knows."""
    unknown = sorted(
        printable(f"{header.architecture}.{key}")[:60]
        for key, value in stated.items()
        if value and _name(config, key) is None and key not in _CHANGING and not key.startswith(_ELSEWHERE_READ)
    )
    return (f"settings in its metadata that are not read: {_few(unknown)}",) if unknown else ()


def _few(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
