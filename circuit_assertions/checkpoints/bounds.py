"""Whether config.json asks for a model of about the size of the stored weights, before any of it is built. No torch.

A number of layers is a loop, and a width is memory: what a file of a few megabytes cannot fill is refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isfinite, prod
from pathlib import Path
from typing import Any

from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.gguf.files import settings_called

__all__ = ["MORE_THAN_STORED", "refuse_out_of_bounds"]

Shapes = Mapping[str, tuple[int, ...]]

MORE_THAN_STORED = 1 << 27  # elements that a model may have beyond four times the stored ones: masks, tied copies

_SLACK = 64  # blocks that the configuration may have beyond twice those in the file: reported by name when they lack
_SMALL = 1 << 16  # what any size may be
_BLOCKS = re.compile(r"(^|_)(n_?layers?|num_(hidden_|decoder_|encoder_)?layers|num_blocks|n_blocks)$")
_EXPERTS = re.compile(r"experts?$")
# Numbers that no tensor need be as large as: positions, tokens, seeds, and what training alone reads.
_FREE = re.compile(
    r"position|_ctx$|ctx_|context|length|window|token|_id$|_ids$|seed|theta|base$|chunk|size_limit|version"
)


def refuse_out_of_bounds(place: Path, config: Mapping[str, Any], shapes: Shapes) -> None:
    """Check the numbers of a configuration against the names and shapes of the stored tensors.

    Args:
        place: the checkpoint's folder, or its GGUF file.

    Raises:
        CheckpointError: naming the first number that these tensors cannot fill.
    """
    settings, own = settings_called(place)
    numbers = [int(part) for name in shapes for part in name.split(".") if part.isdecimal() and len(part) < 10]
    blocks = max(numbers, default=-1) + 1
    widest = max((size for shape in shapes.values() for size in shape), default=0)
    stored = sum(prod(shape) for shape in shapes.values())
    for key, value in config.items():
        endless = isinstance(value, float) and not isfinite(value)
        if endless or (isinstance(value, dict) and "__float__" in value):  # as transformers writes infinity and NaN
            said = value if endless else value["__float__"]
            raise CheckpointError(f"{settings} has {key} {said}, which is not a finite number: correct it there")
    for key, value in _integers(config):
        name = key.rpartition(".")[2]
        if _BLOCKS.search(name):
            most, held = 2 * blocks + _SLACK, f"{blocks} numbered blocks"
        elif _EXPERTS.search(name):
            most, held = 2 * max(blocks, widest) + _SLACK, f"no tensor with more than {max(blocks, widest)} parts"
        elif _FREE.search(name):
            continue
        else:
            most, held = max(stored, _SMALL), f"{stored} numbers in all"
        if abs(value) > most:
            raise CheckpointError(
                f"{settings} has {key} {_short(value)}, but the weights contain {held}: check that "
                f"{own} belongs to these weights, or save the model again"
            )


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**15 else f"of {value.bit_length()} bits"


def _integers(config: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, int]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _integers(value, f"{at}{key}.")
        elif isinstance(value, list):
            yield from ((f"{at}{key}", one) for one in value if type(one) is int)
        elif type(value) is int:
            yield f"{at}{key}", value
        elif isinstance(value, float) and isfinite(value) and value.is_integer():
            yield f"{at}{key}", int(value)
