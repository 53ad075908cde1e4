"""Quantized weights, known by config.json or by their tensors' names and types, and refused by the method's name.

No torch. A circuit is read from weights as numbers, and packed or scaled integers are not the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.sources import read_json
from circuit_assertions.checkpoints.weights import StoredTensor, read_header, safetensors_files

__all__ = ["method_in", "method_of", "refuse_quantized"]

_METHODS = {
    "bitsandbytes": "bitsandbytes",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8 (FBGEMM)",
    "compressed-tensors": "compressed-tensors",
    "mxfp4": "MXFP4",
    "hqq": "HQQ",
    "aqlm": "AQLM",
    "eetq": "EETQ",
    "quanto": "Quanto",
    "torchao": "torchao",
    "modelopt": "ModelOpt",
    "bitnet": "BitNet",
    "vptq": "VPTQ",
    "spqr": "SpQR",
    "higgs": "HIGGS",
    "quark": "Quark",
    "auto-round": "AutoRound",
}
# By tensor names, the first that fits. AWQ and GPTQ share most names; only GPTQ stores the order of its groups.
_NAMES = (
    ("bitsandbytes", re.compile(r"\.(quant_state\.|absmax$|quant_map$|nested_absmax$|SCB$|weight_format$)")),
    ("GPTQ", re.compile(r"\.g_idx$")),
    ("AWQ", re.compile(r"\.(qweight|qzeros)$")),
    ("compressed-tensors", re.compile(r"\.(weight_packed|weight_zero_point|weight_global_scale)$")),
    ("MXFP4", re.compile(r"_(blocks|scales)$")),
    ("AQLM", re.compile(r"\.(codebooks|codes)$")),
    ("HQQ", re.compile(r"\.W_q$")),
    ("Quanto", re.compile(r"\._(data|scale)$|\.weight\._")),
)
_SCALED = re.compile(r"\.(weight_scale(_inv|s)?|input_scale|scale_weight)$")


def refuse_quantized(folder: Path, config: Mapping[str, Any], tensors: Iterable[StoredTensor]) -> None:
    """Check that weights are plain numbers.

    Raises:
        CheckpointError: naming the method that quantized them.
    """
    method = method_of(config, tensors)
    if method is not None:
        raise CheckpointError(
            f"{folder} holds quantized weights ({method}), which are not measured: audit the full-precision model "
            f"that they were made from, or save a de-quantized copy (`model.dequantize()`, then save_pretrained)"
        )


def method_of(config: Mapping[str, Any], tensors: Iterable[StoredTensor]) -> str | None:
    """The method by which weights are quantized; None where they are not."""
    said = config.get("quantization_config") or config.get("compression_config")
    if said:
        name = str(said.get("quant_method") or "") if isinstance(said, dict) else ""
        if not name and isinstance(said, dict) and any(key.startswith(("load_in_", "bnb_")) for key in said):
            name = "bitsandbytes"
        return _METHODS.get(name.lower(), f"{name:.40}" or "by quantization_config in config.json")
    return _by_tensors({tensor.name: tensor.dtype for tensor in tensors})


def method_in(folder: Path) -> str | None:
    """The method by which a folder's weights are quantized, if its configuration or headers show it.

    Raises:
        CheckpointError: if a file cannot be read.
    """
    file = folder / "config.json"
    config = read_json(file) if file.is_file() else {}
    return method_of(config, (tensor for shard in safetensors_files(folder) for tensor in read_header(shard)))


def _by_tensors(dtypes: Mapping[str, str]) -> str | None:
    packed = any(not dtype.startswith(("F", "BF", "C")) for dtype in dtypes.values())
    for method, pattern in _NAMES:
        if any(pattern.search(name) for name in dtypes) and (packed or method == "bitsandbytes"):
            return method
    scaled = any(_SCALED.search(name) for name in dtypes)
    if any(dtype.startswith("F8") for dtype in dtypes.values()):
        return "FP8"
    narrow = next((dtype for dtype in dtypes.values() if dtype == "F4" or dtype.startswith(("F4_", "F6_"))), None)
    if narrow is not None:
        return f"{narrow} numbers"
    return "compressed-tensors, 8-bit integers" if scaled and packed else None
