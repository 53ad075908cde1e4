"""What changes a model's function and is no tensor: norm epsilon, activation, heads, scales, an adapter's alpha."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from circuit_assertions.checkpoints.sources import read_json

__all__ = ["FunctionSettings", "adapter_settings", "settings_of"]

_ADAPTER = "adapter."  # before the names of an adapter's settings
_DIGITS = 16

# Names, dates, training, generation and bookkeeping; and sizes, which the shapes of the weights show.
_NO_FUNCTION = re.compile(
    r"^_|name_or_path|^architectures$|version|dtype|use_cache|dropout|pdrop|layerdrop|_drop$|initializer|^init_|_init$"
    r"|_std$|^output_|return_dict|token_ids?$|2id$|^id2|num_labels|problem_type|^summary_|task_specific|checkpointing"
    r"|chunk_size_feed_forward|torchscript|auto_map|tokenizer_class|^prefix$|is_encoder_decoder|cross_attention"
    r"|tie_encoder_decoder|pruned_heads|finetuning_task|quantization|aux_loss|router_jitter|pretraining_tp|bfloat16"
    r"|tp_plan|pp_plan|fsdp_plan|distributed|fusion|_implementation$|^model_type$"
    r"|^(vocab_size|n_embd|hidden_size|n_inner|intermediate_size|ffn_dim|n_layer|num_hidden_layers|num_layers)$"
)
_NO_ADAPTER_FUNCTION = re.compile(
    r"name_or_path|revision|inference_mode|task_type|auto_mapping|peft_version|dropout|runtime_config|loftq_config"
    r"|target_|modules_to_save|exclude_modules|layers_to_transform|layers_pattern|eva_config|corda_config|megatron"
    r"|trainable_token_indices|init_|low_cpu_mem|ensure_weight_tying|^_"
)


@dataclass(frozen=True)
class FunctionSettings:
    """Settings by name, and those of them that are not the class's default.

    A default that a configuration spells out, and a field that a later version adds, thereby change nothing.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    unusual: Mapping[str, Any] = field(default_factory=dict)

    @property
    def print(self) -> str:
        """A short hash of the settings that are not the default."""
        text = json.dumps(dict(self.unusual), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]

    def with_adapter(self, other: FunctionSettings) -> FunctionSettings:
        """These settings and an adapter's."""
        return FunctionSettings({**self.values, **other.values}, {**self.unusual, **other.unusual})

    def differences(self, now: FunctionSettings) -> list[str]:
        """How later settings differ from these: `config.json differs in layer_norm_epsilon (1e-05 -> 1e-06)`.

        An adapter's settings are compared where both have an adapter.
        """
        changed = [
            name for name in sorted({*self.values, *now.values}) if self.values.get(name) != now.values.get(name)
        ]
        both = all(any(name.startswith(_ADAPTER) for name in one.values) for one in (self, now))
        own = [name for name in changed if not name.startswith(_ADAPTER)]
        adapters = [name for name in changed if name.startswith(_ADAPTER)] if both else []
        return [
            f"{file} differs in {', '.join(self._turn(name, now) for name in names)}"
            for file, names in (("config.json", own), ("adapter_config.json", adapters))
            if names
        ]

    def _turn(self, name: str, now: FunctionSettings) -> str:
        return f"{name.removeprefix(_ADAPTER)} ({_said(self.values.get(name))} -> {_said(now.values.get(name))})"


def settings_of(config: Any) -> FunctionSettings:
    """The settings of a transformers configuration that change what its weights compute."""
    said = config.to_dict()
    try:
        usual = type(config)().to_dict()
    except Exception:
        usual = dict.fromkeys(said)  # some classes need arguments: then everything is told
    known = {key: value for key, value in said.items() if key in usual and not _NO_FUNCTION.search(key)}
    values, defaults = dict(_flat(known)), dict(_flat(usual))
    missing = object()
    unusual = {name: value for name, value in values.items() if defaults.get(name, missing) != value}
    return FunctionSettings(values, {"model_type": str(config.model_type), **unusual})


def adapter_settings(folder: Path) -> FunctionSettings:
    """The settings of a PEFT adapter that change what its weights compute."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    said = read_json(folder / "adapter_config.json")
    kind = PEFT_TYPE_TO_CONFIG_MAPPING.get(said.get("peft_type"))
    try:
        usual = kind().to_dict() if kind is not None else {}
    except Exception:
        usual = {}
    values = dict(_of_adapter({**usual, **said}))
    defaults = dict(_of_adapter(usual))
    return FunctionSettings(values, {name: value for name, value in values.items() if defaults.get(name) != value})


def _of_adapter(said: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    known = {
        key: value for key, value in said.items() if not _NO_ADAPTER_FUNCTION.search(key) and value not in (None, {})
    }
    return ((f"{_ADAPTER}{name}", value) for name, value in _flat(known))


def _flat(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values under dotted names; a dictionary whose keys are not names is one value."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat({str(name): one for name, one in value.items()}, f"{at}{key}.")
        elif at and _NO_FUNCTION.search(str(key)):
            continue
        else:
            yield f"{at}{key}", float(value) if type(value) is int else value


def _said(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value}"[:60]
