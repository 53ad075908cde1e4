"""How positions are rotated into queries and keys, as a GGUF file says it: base, rotated share of a head, scaling."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi
from typing import Any

import numpy as np

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.gguf.header import GgufHeader

__all__ = ["refuse_other_rotation", "rotation_of"]

_BASE = 10_000.0  # what llama.cpp takes where nothing is said
_FACTORS = "rope_freqs.weight"  # Llama 3.1 and later: what each frequency is divided by
_LONG = ("rope_factors_long.weight", "rope_factors_short.weight")
# How Llama 3.1 to 3.3 stretch their frequencies; the factor itself is the largest of the stored ones.
_LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_FINE_KEYS = ("alpha", "attn_factor", "yarn_log_multiplier", "yarn_ext_factor", "yarn_attn_factor")


def rotation_of(header: GgufHeader, config: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """What a configuration is to be given so that it rotates as the file says, and the tensors that say it.

    Args:
        config: of transformers, with the sizes that the file states.

    Raises:
        CheckpointError: if the file scales its frequencies in a way that transformers cannot be given.
    """
    long = [name for name in _LONG if any(tensor.name == name for tensor in header.tensors)]
    if long:
        raise CheckpointError(
            f"{header.file} contains {long[0]} (LongRoPE), which transformers does not read from GGUF: audit the model "
            f"that it was converted from"
        )
    if not isinstance(getattr(config, "rope_parameters", None), dict):
        return {}, frozenset()
    stated = header.settings
    given: dict[str, Any] = {"rope_theta": _number(header, stated, "rope.freq_base", _BASE)}
    if "rope.freq_base_swa" in stated:
        given["rope_local_base_freq"] = _number(header, stated, "rope.freq_base_swa", _BASE)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    turned = _number(header, stated, "rope.dimension_count", head)
    nested = any(isinstance(value, dict) for value in config.rope_parameters.values())
    if not nested and turned / head != config.rope_parameters.get("partial_rotary_factor", 1.0):
        given["partial_rotary_factor"] = turned / head
    scaled = _scaling(header, stated)
    if scaled and scaled["rope_type"] == config.rope_parameters.get(
        "rope_type"
    ):  # what the class has besides is the model's
        scaled = config.rope_parameters | scaled
    factors = next((tensor for tensor in header.tensors if tensor.name == _FACTORS), None)
    if factors is None:
        return given | ({"rope_scaling": scaled} if scaled else {}), frozenset()
    stretched = _llama_3(header, given["rope_theta"], int(turned))
    if scaled and stretched:
        raise CheckpointError(f"{header.file} scales its rotary frequencies twice, which is not read: convert it again")
    chosen = stretched or scaled
    return given | ({"rope_scaling": chosen} if chosen else {}), frozenset({_FACTORS})


def refuse_other_rotation(header: GgufHeader, config: Any, given: Mapping[str, Any]) -> None:
    """Refuse a configuration in which what it was given had no effect.

    Raises:
        CheckpointError: naming the first value that is another.
    """
    found = getattr(config, "rope_parameters", None)
    if not given or not isinstance(found, dict):
        return
    local = found.get("sliding_attention", {})
    found = found.get("full_attention", found)
    expected = {"rope_type": "default", **given, **given.get("rope_scaling", {})}
    expected.pop("rope_scaling", None)
    if local:
        found = {**found, "rope_local_base_freq": local.get("rope_theta")}
    for key, value in expected.items():
        if found.get(key) != value:
            raise CheckpointError(
                f"{header.file} has {key} {value!r:.40} for its rotary frequencies, and transformers takes "
                f"{found.get(key)!r:.40}: audit the model that it was converted from"
            )


def _number(header: GgufHeader, stated: Mapping[str, Any], key: str, absent: float) -> float:
    value = stated.get(key, absent)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise CheckpointError(f"{header.file} states {key} {value!r:.40}, which is not a size: convert it again")
    return value


def _scaling(header: GgufHeader, stated: Mapping[str, Any]) -> dict[str, Any]:
    """What `rope_scaling` is to be; empty where nothing is scaled."""
    kind = stated.get("rope.scaling.type", "linear")
    factor = stated.get("rope.scaling.factor", stated.get("rope.scale_linear", 1.0)) or 1.0
    finer = [key for key in _FINE_KEYS if stated.get(f"rope.scaling.{key}") not in (None, 0, 1.0)]
    original = stated.get("rope.scaling.original_context_length")
    if kind == "none" or (kind == "linear" and factor == 1.0 and not finer):
        return {}
    if kind == "linear" and not finer:
        return {"rope_type": "linear", "factor": float(factor)}
    if kind == "yarn" and not finer and isinstance(original, int):
        ends = {key: stated.get(f"rope.scaling.yarn_{key}") for key in ("beta_fast", "beta_slow")}
        return {
            "rope_type": "yarn",
            "factor": float(factor),
            "original_max_position_embeddings": original,
            **{key: value for key, value in ends.items() if value is not None},
        }
    how = f"{kind!r:.40} with {finer[0]}" if finer else f"{kind!r:.40}"
    raise CheckpointError(
        f"{header.file} scales its rotary frequencies by {how}, which cannot be read from GGUF: audit the model that "
        f"it was converted from"
    )


def _llama_3(header: GgufHeader, base: float, turned: int) -> dict[str, Any]:
    """The scaling of Llama 3.1 and later that gives the stored factors; empty where they are all 1.

    Each frequency is divided by the factor if its wave is longer than the original context allows, left as it is if the
    wave is short, and something between the two otherwise
    (https://huggingface.co/docs/transformers/internal/rope_utils, `llama3`).
    """
    tensor = next(one for one in header.tensors if one.name == _FACTORS)
    stored = np.fromfile(header.file, np.float32, turned // 2, offset=tensor.start) if tensor.dtype == "F32" else None
    if stored is not None and len(stored) == turned // 2 and tensor.shape == (turned // 2,):
        if bool((stored == 1).all()):
            return {}
        largest = float(stored.max())
        waves = 2 * pi * base ** (np.arange(0, turned, 2) / turned)
        low, high, length = _LLAMA_3.values()
        smooth = ((length / waves - low) / (high - low)).clip(0, 1)
        expected = 1 / ((1 - smooth) / largest + smooth)
        if np.allclose(expected, stored, rtol=1e-4):
            return {"rope_type": "llama3", "factor": largest, **_LLAMA_3}
    raise CheckpointError(
        f"{header.file} contains {_FACTORS} with factors that are not those of Llama 3, and no others can be read from "
        f"GGUF: audit the model that it was converted from"
    )
