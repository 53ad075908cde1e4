"""A model of which only the shape is known: what an audit asks of a model before it runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from circuit_assertions.checkpoints import Checkpoint, CheckpointError, Opening, find_checkpoints
from circuit_assertions.checkpoints.devices import choose_device
from circuit_assertions.checkpoints.errors import reason_of
from circuit_assertions.checkpoints.fetching import base_of, is_adapter
from circuit_assertions.checkpoints.gguf.header import read_gguf_header
from circuit_assertions.checkpoints.gguf.settings import settings_in
from circuit_assertions.checkpoints.loading import Frame
from circuit_assertions.checkpoints.opening import open_tokenizer
from circuit_assertions.checkpoints.quiet import quiet
from circuit_assertions.checkpoints.sources import local_path, read_json
from circuit_assertions.engine import Opened
from circuit_assertions.heads import Head
from circuit_assertions.shape import Shape

__all__ = ["ShapeLayout", "ShapeModel", "find_shape"]

_DESCRIBING = ("config.json", "adapter_config.json", "*token*", "vocab*", "merges.txt", "spiece.model", "*.jinja")


@dataclass(frozen=True)
class ShapeLayout:
    """The structural facts that a configuration has.

    Attributes:
        numbers: all weights, those that are used twice counted once.
        in_blocks: the weights of all blocks together.
        in_mlps: those of the MLPs among them.
    """

    layers: int
    heads: int
    groups_of: int
    d_model: int
    positions: int
    vocabulary: int
    width: int
    numbers: int
    in_blocks: int
    in_mlps: int

    def d_head(self, layer: int) -> int:
        """Width of a head's queries, keys and values."""
        return self.width

    def groups(self, layer: int) -> int:
        """How many key-value heads a block has."""
        return self.groups_of

    def all_heads(self) -> Iterator[Head]:
        """Every query head, layer by layer."""
        return (Head(layer, head) for layer in range(self.layers) for head in range(self.heads))

    @classmethod
    def of(cls, model: Any) -> ShapeLayout:
        """That of a model on the meta device."""
        config = model.config.get_text_config()
        heads, d_model = int(config.num_attention_heads), int(config.hidden_size)
        width = int(getattr(config, "head_dim", None) or d_model // heads)
        groups = int(getattr(config, "num_key_value_heads", None) or heads)
        numbers = sum(parameter.numel() for parameter in model.parameters())
        embeddings = {id(part.weight): part.weight.numel() for part in _embeddings(model)}
        layers, in_blocks = int(config.num_hidden_layers), numbers - sum(embeddings.values())
        in_attention = layers * d_model * width * (2 * heads + 2 * groups)
        return cls(
            layers=layers,
            heads=heads,
            groups_of=groups,
            d_model=d_model,
            positions=int(getattr(config, "max_position_embeddings", None) or 1 << 30),
            vocabulary=int(config.vocab_size),
            width=width,
            numbers=numbers,
            in_blocks=in_blocks,
            in_mlps=max(0, in_blocks - in_attention),
        )


@dataclass(frozen=True)
class _Source:
    """What an audit asks of an open checkpoint that is known without its weights. There is no fingerprint."""

    checkpoint: Checkpoint
    tokenizer: Any
    architecture: str
    device: torch.device
    dtype: torch.dtype
    fingerprint: str = ""


@dataclass(frozen=True)
class ShapeModel:
    """A checkpoint of which config.json and the tokenizer were read.

    Attributes:
        limits: none; whether a model has any is known once it is open.
    """

    source: _Source
    layout: ShapeLayout
    limits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where it would run."""
        return self.source.device

    def identity(self) -> dict[str, Any]:
        """As a model's; there is no fingerprint."""
        return {
            "fingerprint": self.source.fingerprint,
            "architecture": self.source.architecture,
            "dtype": str(self.source.dtype).removeprefix("torch."),
            "device": self.device.type,
        }

    @cached_property
    def shape(self) -> Shape:
        """Architecture and size."""
        return Shape(self.source.architecture, self.layout.layers, self.layout.heads, self.layout.d_model)

    def opened(self) -> Opened:
        """As a model's."""
        layout = self.layout
        return Opened(
            self.shape, self.identity(), str(self.device), layout.positions, layout.vocabulary, layout.numbers
        )

    @classmethod
    def of(cls, checkpoint: Checkpoint, opening: Opening) -> ShapeModel:
        """Read a checkpoint's config.json or the metadata of its GGUF file, and its tokenizer, and nothing else of it.

        Raises:
            CheckpointError: if one of them cannot be read.
        """
        local = _described(checkpoint)
        with quiet():
            frame = _frame_of_gguf(local.file, opening) if local.file is not None else _frame_of(local, opening)
            tokenizer = open_tokenizer(local, opening)
        source = _Source(
            checkpoint,
            tokenizer,
            type(frame.model).__name__,
            choose_device(opening.device),
            getattr(torch, opening.dtype),
        )
        return cls(source, ShapeLayout.of(frame.model))


def _frame_of(local: Checkpoint, opening: Opening) -> Frame:
    """What config.json calls for."""
    folder = local.folder
    assert folder is not None
    base = base_of(folder, opening) if is_adapter(folder) else folder
    read_json(base / "config.json")
    try:
        return Frame.of(base, opening)
    except Exception as error:  # a wrong config.json can end anywhere in the library
        raise CheckpointError(f"{base / 'config.json'} describes no model: {reason_of(error)}") from error


def _frame_of_gguf(file: Path, opening: Opening) -> Frame:
    """What the metadata of a GGUF file call for."""
    header = read_gguf_header(file)
    try:
        return Frame.of_config(settings_in(header).config, opening)
    except CheckpointError:
        raise
    except Exception as error:  # wrong metadata can end anywhere in the library
        raise CheckpointError(f"{file} describes no model: {reason_of(error)}") from error


def find_shape(given: str) -> tuple[Checkpoint, ...]:
    """The checkpoints that a person named; a folder with a config.json and no weights is one too.

    Raises:
        CheckpointError: if there is none.
    """
    folder = Path.cwd() / local_path(given)
    try:
        return find_checkpoints(given)
    except CheckpointError:
        if (folder / "config.json").is_file():
            return (Checkpoint(given, folder=folder),)
        raise


def _described(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with its description here: of one on the hub, config.json and the tokenizer are fetched."""
    if checkpoint.place is not None:
        return checkpoint
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            checkpoint.hub_id or "", revision=checkpoint.revision, allow_patterns=list(_DESCRIBING)
        )
    except Exception as error:  # of the network, of the hub, or of a name
        raise CheckpointError(
            f"{checkpoint.given} is not a local folder, and its config.json could not be fetched from the Hub: "
            f"{reason_of(error)}"
        ) from error
    return replace(checkpoint, folder=Path(folder), hub_id=None)


def _embeddings(model: Any) -> list[Any]:
    parts = (model.get_input_embeddings(), model.get_output_embeddings())
    positions = [part for name, part in model.named_modules() if name.endswith(("wpe", "embed_positions"))]
    return [part for part in (*parts, *positions) if part is not None and hasattr(part, "weight")]
