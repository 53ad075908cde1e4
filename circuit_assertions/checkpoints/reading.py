"""Read a checkpoint folder's weights into a model, and refuse what is not whole, finite, or a causal decoder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.activations import ACT2FN

from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.safety import inspect_folder, weight_files
from circuit_assertions.checkpoints.settings import Opening
from circuit_assertions.checkpoints.weights import fingerprint

__all__ = ["IN_A_BLOCK", "are_same", "logits_of", "read_model", "refuse_looking_ahead", "refuse_nan"]

_PIECE = 1 << 20  # elements looked at together for NaN: bounds the extra memory
IN_A_BLOCK = re.compile(r"\.\d+\.")  # tensors of numbered blocks, `transformer.h.3.`: never an optional extra
_TRIED = 32  # positions of each of the two prompts that a model is tried on
_SAME = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 2e-2}  # of the largest logit


def read_model(folder: Path, opening: Opening) -> tuple[Any, str]:
    inspect_folder(folder, opening.permissions)
    files = weight_files(folder, opening.permissions)
    print_of_weights = fingerprint(files)  # reads every byte, and so meets a damaged file before torch does
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=getattr(torch, opening.dtype),
            use_safetensors=files[0].suffix == ".safetensors",
            weights_only=True,
            attn_implementation="eager",
            local_files_only=True,
            trust_remote_code=opening.permissions.remote_code,
            ignore_mismatched_sizes=True,  # they are reported, and refused below by name
            output_loading_info=True,
            # The experts' grouped product has no float64.
            **({"experts_implementation": "eager"} if opening.dtype == "float64" else {}),
        )
    except Exception as error:
        # A wrong config.json or a damaged file can end anywhere in the library, with any exception.
        raise CheckpointError(
            f"{folder} cannot be opened: {reason_of(error)} (check that config.json belongs to these weights "
            f"and that transformers is recent enough, or save the model anew with save_pretrained)"
        ) from error
    _refuse_misfits(folder, report)
    _fuse_activations(model)
    return model, print_of_weights


def _fuse_activations(model: Any) -> None:
    """Compute the tanh approximation of GELU in one pass over memory instead of eight (GPT-2, GPT-J, GPT-Neo, Phi).

    In half precision each of the eight rounds, and what they round to is a part of the model.
    """
    if model.dtype not in (torch.float32, torch.float64):
        return
    unfused = type(ACT2FN["gelu_new"])
    for module in list(model.modules()):
        for name, part in module.named_children():
            if type(part) is unfused:
                setattr(module, name, ACT2FN["gelu_pytorch_tanh"])


def _refuse_misfits(folder: Path, report: dict[str, Any]) -> None:
    """Refuse weights that were not read to the last tensor: what is missing would be random numbers."""
    way_out = "the file is not this model's, or was saved in part: save it anew, with its own config.json"
    for name, stored, expected in sorted(report.get("mismatched_keys") or []):
        raise CheckpointError(
            f"{folder} holds {name} of shape {tuple(stored)} where its config.json calls for {tuple(expected)}: "
            f"{way_out}"
        )
    missing = sorted(report.get("missing_keys") or [])
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of the tensors that its config.json calls for, {missing[0]} among them: "
            f"{way_out}"
        )
    spare = sorted(name for name in report.get("unexpected_keys") or [] if IN_A_BLOCK.search(name))
    if spare:
        raise CheckpointError(
            f"{folder} holds {len(spare)} tensors that its config.json has no place for, {spare[0]} among them: "
            f"{way_out}"
        )


def refuse_nan(model: Any, folder: Path) -> None:
    for name, parameter in model.named_parameters():
        for piece in parameter.detach().flatten().split(_PIECE):
            if not bool(torch.isfinite(piece).all()):
                raise CheckpointError(
                    f"{folder} holds NaN or infinity in {name}: the training run that wrote it has diverged, "
                    f"audit an earlier checkpoint"
                )


def refuse_looking_ahead(model: Any, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Refuse a model whose prediction depends on tokens that come after: an encoder, whatever its class is called.

    Returns:
        the tokens that were tried, and the model's logits for them.
    """
    try:
        logits = logits_of(model)
    except Exception as error:
        # The first time that the model runs: what config.json got wrong about its inside shows here.
        raise CheckpointError(
            f"{folder} can be opened, but does not run: {reason_of(error)} (check that config.json belongs to it)"
        ) from error
    first, second = (row[: logits.shape[1] // 2] for row in logits)  # where the two prompts are the same
    if not are_same(first, second):
        raise CheckpointError(
            f"{folder} holds a {type(model).__name__} that looks ahead, and so is not a causal language model: "
            f"circuits are audited on decoders such as GPT2LMHeadModel or LlamaForCausalLM"
        )
    return trial_tokens(model).to(model.device), logits


@torch.no_grad()
def logits_of(model: Any) -> torch.Tensor:
    """Logits for two short prompts: [2, positions, d_vocab]."""
    logits: torch.Tensor = model(trial_tokens(model).to(model.device), use_cache=False).logits
    return logits


def trial_tokens(model: Any) -> torch.Tensor:
    """Two prompts that are the same in their first half and differ everywhere after it: [2, positions].

    Tokens from all over the vocabulary, the first and the last of it among them, some more than once; 64 at most.
    """
    size = int(model.get_input_embeddings().weight.shape[0])
    config = model.config.get_text_config()
    rooms = [getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len")]
    length = max(2, min([_TRIED, *(room for room in rooms if isinstance(room, int))]))
    half = length // 2
    drawn = torch.randint(0, size, (2, length), generator=torch.Generator().manual_seed(0))
    drawn[:, 1::5] = torch.tensor([[size - 1], [0]])
    drawn[:, 2::7] = drawn[:, :1]
    drawn[1, :half] = drawn[0, :half]
    same = drawn[1, half:] == drawn[0, half:]
    drawn[1, half:] = (drawn[1, half:] + same) % size
    return drawn


def are_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    scale = float(one.abs().max()) or 1.0
    return float((one - other).abs().max()) <= _SAME[one.dtype] * scale
