"""From stored tensors to a model: its class, the names that it loads, and what it may leave aside.

The state dict is given to transformers under plain names, so the files that are fingerprinted are the files that are
read, and nothing else in the folder (a generation configuration, a second set of weights) has a say.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import load_state_dict

from circuit_assertions.checkpoints.bounds import MORE_THAN_STORED
from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.gguf.files import settings_called
from circuit_assertions.checkpoints.prefixes import plain_name
from circuit_assertions.checkpoints.settings import Opening
from circuit_assertions.checkpoints.weights import StoredTensor

__all__ = ["Frame", "is_mask", "opened_tensors", "stored_mask", "unpickled"]

# Buffers that older versions stored. A mask is known by its shape too: another tensor may have such a name.
_BUFFERS = re.compile(
    r"(^|\.)(position_ids|masked_bias|attn\.embed_positions|(rotary|rotary_emb|rotary_pos_emb|rope)\.(inv_freq|.*_cached))$"
)
_MASKS = re.compile(r"(^|\.)(attn|attention|self_attn|self_attention)\.(bias|causal_mask|mask|attn_mask)$")
_FLOATS = ("F", "BF")  # how safetensors spells types of floating point


@dataclass(frozen=True)
class Frame:
    """A model without weights, on the meta device: what its configuration calls for.

    Attributes:
        expected: the tensors that it loads, by name.
    """

    model: Any
    expected: Mapping[str, Tensor]

    @classmethod
    def of(cls, folder: Path, opening: Opening) -> Frame:
        """Build it. What a wrong config.json asks for can end anywhere in the library, with any exception."""
        trusted = opening.permissions.remote_code
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trusted)
        return cls.of_config(config, opening)

    @classmethod
    def of_config(cls, config: Any, opening: Opening) -> Frame:
        """Build what a configuration of transformers calls for."""
        trusted = opening.permissions.remote_code
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", trust_remote_code=trusted)
        return cls(model, model.state_dict())

    def refuse_size(self, place: Path, stored: int) -> None:
        """Check that the model is about as large as the stored weights, before memory is taken for it.

        Raises:
            CheckpointError: naming its largest tensor.
        """
        tensors = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        if sum(tensor.numel() for tensor in tensors.values()) > 4 * stored + MORE_THAN_STORED:
            name, largest = max(tensors.items(), key=lambda item: item[1].numel())
            settings, own = settings_called(place)
            raise CheckpointError(
                f"{settings} needs {name} of shape {tuple(largest.shape)}, but all stored weights "
                f"have {stored} numbers: check that {own} belongs to these weights, or save the model again"
            )

    @property
    def numbers(self) -> int:
        """How many weights the model has, those that are used twice counted once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def own_name(self, name: str) -> str:
        """The model's name for a tensor that is stored with or without the prefix of its body."""
        prefix = f"{self.model.base_model_prefix}."
        if name not in self.expected:
            for other in (f"{prefix}{name}", name.removeprefix(prefix)):
                if other in self.expected:
                    return other
        return name

    def leaves_aside(self, names: Collection[str], is_mask: Callable[[str], bool]) -> set[str]:
        """The stored tensors that the class itself ignores, and buffers that it computes itself: masks, frequencies."""
        patterns = list(self.model._keys_to_ignore_on_load_unexpected or ())
        ignored = re.compile("|".join(f"({pattern})" for pattern in patterns)) if patterns else None
        return {
            name
            for name in names
            if name not in self.expected
            and (
                (ignored is not None and ignored.search(name))
                or _BUFFERS.search(name)
                or (_MASKS.search(name) and is_mask(name))
            )
        }

    def refuse_integers(self, folder: Path, dtypes: Mapping[str, str]) -> None:
        """Check that what the model computes with is stored as numbers of floating point.

        Raises:
            CheckpointError: naming the first tensor that is not.
        """
        for name, dtype in sorted(dtypes.items()):
            expected = self.expected.get(name)
            if (expected is None or expected.is_floating_point()) and not dtype.startswith(_FLOATS):
                raise CheckpointError(
                    f"{folder} stores {name} as {dtype}, which is not a floating-point type: if the model was "
                    f"quantized, audit the original, otherwise save the model again"
                )

    def load(self, weights: Mapping[str, Any], opening: Opening) -> tuple[Any, dict[str, Any]]:
        """The model with these weights, and what transformers reports of them."""
        loaded: tuple[Any, dict[str, Any]] = type(self.model).from_pretrained(
            None,
            config=self.model.config,
            state_dict=dict(weights),
            dtype=getattr(torch, opening.dtype),
            attn_implementation="eager",
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused by name
            output_loading_info=True,
            # The experts' grouped product has no float64.
            **({"experts_implementation": "eager"} if opening.dtype == "float64" else {}),
        )
        return loaded


@contextlib.contextmanager
def opened_tensors(tensors: Mapping[str, StoredTensor]) -> Iterator[dict[str, Any]]:
    """Stored tensors by name, not read yet."""
    with contextlib.ExitStack() as stack:
        files = {
            file: stack.enter_context(safe_open(file, framework="pt", device="cpu"))
            for file in dict.fromkeys(tensor.file for tensor in tensors.values())
        }
        yield {name: files[tensor.file].get_slice(tensor.name) for name, tensor in tensors.items()}


def unpickled(files: Collection[Path]) -> dict[str, Tensor]:
    """The tensors of pickled files by plain name, read with weights_only=True.

    Raises:
        CheckpointError: if what they hold is not tensors by name, or two of one name with different values.
    """
    found: dict[str, Tensor] = {}
    for file in files:
        for name, one in load_state_dict(str(file), weights_only=True).items():
            if not isinstance(one, Tensor):
                raise CheckpointError(f"{file} holds {name!r:.60}, which is not a tensor: save only the state dict")
            first = found.setdefault(plain_name(name), one)
            if first is not one and not torch.equal(first, one):
                raise CheckpointError(
                    f"{file} holds {name} with other values than another file or name does: keep the right "
                    f"file, or save the model again with save_pretrained"
                )
    return found


def stored_mask(tensor: StoredTensor) -> bool:
    """Whether a stored tensor is a causal mask, which is read only where its shape is one's."""
    if not _is_square(tensor.shape):
        return False
    with safe_open(tensor.file, framework="pt", device="cpu") as file:
        return is_mask(file.get_tensor(tensor.name))


def is_mask(tensor: Tensor) -> bool:
    """Whether a tensor is a causal mask: square, of zeros and ones, with nothing above its diagonal."""
    if not _is_square(tuple(tensor.shape)):
        return False
    mask = tensor.reshape(tensor.shape[-2:]).float()
    return not bool(mask.triu(1).any()) and bool(((mask == 0) | (mask == 1)).all())


def _is_square(shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 and shape[-1] == shape[-2] > 0 and all(size == 1 for size in shape[:-2])
