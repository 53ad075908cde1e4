"""Read a checkpoint folder's weights into a model, and refuse what is not whole, finite, or a causal decoder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from transformers.activations import ACT2FN

from circuit_assertions.checkpoints.bounds import refuse_out_of_bounds
from circuit_assertions.checkpoints.errors import CheckpointError, reason_of
from circuit_assertions.checkpoints.fitting import refuse_unfit
from circuit_assertions.checkpoints.function import FunctionSettings, settings_of
from circuit_assertions.checkpoints.gguf.files import settings_called
from circuit_assertions.checkpoints.loading import Frame, is_mask, opened_tensors, stored_mask, unpickled
from circuit_assertions.checkpoints.overflow import first_overflow
from circuit_assertions.checkpoints.prefixes import plain_name, wrappers_in
from circuit_assertions.checkpoints.quantized import refuse_quantized
from circuit_assertions.checkpoints.safety import inspect_folder, is_transformers_class, refuse_other_head, weight_files
from circuit_assertions.checkpoints.settings import Opening
from circuit_assertions.checkpoints.stored import refuse_wrong_index, stored_tensors
from circuit_assertions.checkpoints.weights import (
    fingerprint,
    fingerprint_of,
    read_header,
    safetensors_files,
    weight_map_of,
)

__all__ = [
    "Read",
    "are_same",
    "finished",
    "logits_of",
    "read_model",
    "refuse_looking_ahead",
    "refuse_misfits",
    "refuse_nan",
    "refuse_overflow",
]

_HALF = (torch.float16, torch.bfloat16)
_PIECE = 1 << 20  # elements looked at together for NaN: bounds the extra memory
_TRIED = 32  # positions of each of the two prompts that a model is tried on
_SAME = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 2e-2}  # of the largest logit


@dataclass(frozen=True)
class Read:
    """A model in memory, and what it is.

    Attributes:
        weights: the fingerprint of its weights.
        function: the settings that change what they compute.
        notes: for the report: how it was read.
    """

    model: Any
    weights: str
    function: FunctionSettings
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """That of the weights, then a shorter one of the settings."""
        return f"{self.weights}-{self.function.print}"


def read_model(folder: Path, opening: Opening) -> Read:
    """Read the weights of a folder, every tensor under its plain name and none left out in silence.

    Raises:
        CheckpointError: if they are not whole, not plain numbers, or not those of the model that config.json describes.
    """
    config = inspect_folder(folder, opening.permissions)
    files = weight_files(folder, opening.permissions)
    if files[0].suffix != ".safetensors":
        return _read_pickles(folder, config, files, opening)
    refuse_wrong_index(files, weight_map_of(folder))
    headers = [tensor for file in files for tensor in read_header(file)]
    refuse_quantized(folder, config, headers)
    frame = _frame(folder, config, {plain_name(one.name): one.shape for one in headers}, opening)
    found = stored_tensors(headers, lambda name: frame.own_name(plain_name(name)))
    with _telling(folder):
        aside = frame.leaves_aside(found, lambda name: stored_mask(found[name]))
    tensors = {name: one for name, one in found.items() if name not in aside}
    frame.refuse_integers(folder, {name: one.dtype for name, one in tensors.items()})
    weights = fingerprint_of(tensors)  # reads every byte, and so meets a damaged file before torch does
    with _telling(folder), opened_tensors(tensors) as stored:
        model, report = frame.load(stored, opening)
    refuse_misfits(folder, config, model, report)
    return finished(folder, model, weights, _wrapped(one.name for one in headers))


def _read_pickles(folder: Path, config: dict[str, Any], files: tuple[Path, ...], opening: Opening) -> Read:
    with _telling(folder):
        held = unpickled(files)
    frame = _frame(folder, config, {name: tuple(one.shape) for name, one in held.items()}, opening)
    found = {frame.own_name(name): one for name, one in held.items()}
    aside = frame.leaves_aside(found, lambda name: is_mask(found[name]))
    tensors = {name: one for name, one in found.items() if name not in aside}
    kinds = {name: "F" if one.is_floating_point() else str(one.dtype) for name, one in tensors.items()}
    frame.refuse_integers(folder, kinds)
    with _telling(folder):
        model, report = frame.load(tensors, opening)
    refuse_misfits(folder, config, model, report)
    return finished(folder, model, fingerprint(files), [])


def _frame(folder: Path, config: dict[str, Any], shapes: Mapping[str, tuple[int, ...]], opening: Opening) -> Frame:
    refuse_out_of_bounds(folder, config, shapes)
    with _telling(folder):
        frame = Frame.of(folder, opening)
    frame.refuse_size(folder, sum(prod(shape) for shape in shapes.values()))
    refuse_unfit(folder, frame.numbers, opening)
    return frame


def finished(place: Path, model: Any, weights: str, notes: Iterable[str]) -> Read:
    """A model that was read, made ready for measuring.

    Args:
        weights: their fingerprint.
        notes: how they were read.
    """
    function = settings_of(model.config)  # before anything is set for measuring
    notes = (*notes, *_untied(place, model))
    _fuse_activations(model)
    return Read(model, weights, function, notes)


@contextlib.contextmanager
def _telling(folder: Path) -> Iterator[None]:
    """A wrong config.json or a damaged file can end anywhere in the library, with any exception."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{folder} cannot be opened: {reason_of(error)} (check that config.json belongs to these weights "
            f"and that transformers is recent enough, or save the model again with save_pretrained)"
        ) from error


def _wrapped(names: Iterable[str]) -> list[str]:
    wrappers = wrappers_in(names)
    return [f"weight names are read without {', '.join(wrappers)}"] if wrappers else []


def _untied(place: Path, model: Any) -> list[str]:
    """What is said where the configuration ties two matrices that are stored with different values."""
    end = model.get_output_embeddings()
    if not getattr(model.config.get_text_config(), "tie_word_embeddings", False) or end is None:
        return []
    if end.weight is model.get_input_embeddings().weight:
        return []
    own = settings_called(place)[1]
    return [f"{own} ties embedding and unembedding, but their stored values differ: they are read as two matrices"]


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


def refuse_misfits(folder: Path, config: dict[str, Any], model: Any, report: dict[str, Any]) -> None:
    """Refuse weights that were not read to the last tensor: what is missing would be random numbers."""
    own = settings_called(folder)[1]
    way_out = f"the file belongs to another model, or is incomplete: save it again, with {own}"
    for name, stored, expected in sorted(report.get("mismatched_keys") or []):
        raise CheckpointError(
            f"{folder} holds {name} of shape {tuple(stored)} where {own} calls for {tuple(expected)}: {way_out}"
        )
    missing = sorted(report.get("missing_keys") or [])
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of the tensors that {own} calls for, {missing[0]} among them: {way_out}"
        )
    spare = sorted(report.get("unexpected_keys") or [])
    if spare:
        refuse_other_head(folder, config, type(model).__name__, spare[0])
        raise CheckpointError(
            f"{folder} holds {len(spare)} tensors that {own} has no place for, {spare[0]} among them: {way_out}"
        )


def refuse_nan(model: Any, folder: Path) -> None:
    for name, parameter in model.named_parameters():
        for piece in parameter.detach().flatten().split(_PIECE):
            if not bool(torch.isfinite(piece).all()):
                if parameter.dtype in _HALF and not _is_stored_so(folder, name):
                    dtype = str(parameter.dtype).removeprefix("torch.")
                    raise CheckpointError(
                        f"{folder} holds numbers in {name} that are NaN, infinite or too large for {dtype}: "
                        f"use --model-dtype=float32, or audit an earlier checkpoint"
                    )
                raise CheckpointError(
                    f"{folder} holds NaN or infinity in {name}: the training run that wrote it has diverged, "
                    f"audit an earlier checkpoint"
                )


def _is_stored_so(folder: Path, name: str) -> bool:
    """Whether the folder's own file holds NaN or infinity there, which no other dtype would change."""
    for file in safetensors_files(folder, adapter=(folder / "adapter_config.json").is_file()):
        for tensor in read_header(file):
            if plain_name(tensor.name) in (name, name.partition(".")[2]):
                with opened_tensors({name: tensor}) as stored:
                    return not bool(torch.isfinite(stored[name][:]).all())
    return False


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
            f"{folder} can be opened, but does not run: {reason_of(error)} (check that {settings_called(folder)[1]} "
            f"belongs to it)"
        ) from error
    refuse_overflow(model, folder, logits)
    first, second = (row[: logits.shape[1] // 2] for row in logits)  # where the two prompts are the same
    if not are_same(first, second):
        raise CheckpointError(
            f"{folder} holds a {called(model)} that attends to later tokens, so it is not a causal language model: "
            f"circuits are audited on decoders such as GPT2LMHeadModel or LlamaForCausalLM"
        )
    return trial_tokens(model).to(model.device), logits


def refuse_overflow(model: Any, folder: Path, logits: torch.Tensor) -> None:
    """Refuse a model whose weights are finite and whose logits are not, and name the layer that overflows."""
    if bool(torch.isfinite(logits).all()):
        return
    dtype = str(model.dtype).removeprefix("torch.")
    way_out = "audit an earlier checkpoint"
    if model.dtype == torch.float16:  # bfloat16 has float32's range
        way_out = "use --model-dtype=float32"
    layer = first_overflow(model, trial_tokens(model).to(model.device))
    raise CheckpointError(
        f"{folder} overflows: {layer} gives infinity or NaN in {dtype}, though all weights are finite ({way_out})"
    )


def called(model: Any) -> str:
    """The class that config.json names where transformers has it, which tells a person more than the class read as."""
    said = (model.config.architectures or [""])[0]
    return said if isinstance(said, str) and is_transformers_class(said) else type(model).__name__


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
