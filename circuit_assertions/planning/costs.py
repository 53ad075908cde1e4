"""What counted work costs: memory, disk and time.

The constants were measured on the embedded model and on GPT-2 shapes with random weights; see docs/scale.md.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence

from circuit_assertions.checkpoints.fitting import way_to_fit
from circuit_assertions.checkpoints.free_memory import amount_text, free_memory
from circuit_assertions.engine.memory import VARIABLE
from circuit_assertions.planning.counting import Counted
from circuit_assertions.planning.probe import Rates
from circuit_assertions.planning.shape_model import ShapeModel
from circuit_assertions.results.plan import MemoryPlan

__all__ = ["disk_of", "memory_of", "program_now", "seconds_of", "seconds_to_open"]

_OPENING = 0.15  # of a model's weights, while they are read and the bridge is made
_CALLS_A_BLOCK = 260  # small operations of a block in a pass with hooks
_CALLS_A_PATCHED_BLOCK = 90
_CALLS_TO_OPEN_A_BLOCK = 30_000  # wrapping, checking, comparing logits
_CALLS_TO_OPEN = 100_000
_CALLS_A_JUDGEMENT = 5_000  # intervals, resampling
_CALLS_A_READING = 3_000
_MOVED_A_TOKEN = 350  # how often a block reads or writes as many numbers as the residual stream has
_MOVED_A_PAIR = 60  # the same of attention, for each head and pair of positions
_WRITTEN_A_VALUE = 6  # characters of a number in a record: four bytes in base64, and some for what is around it
_WRITTEN_A_PROMPT = 60  # its hash and its template
_WRITTEN_A_TOKEN = 6  # of a prompt's text
_WRITTEN_AN_ASSERTION = 4_000
_READ_AGAIN = 3  # how often weights are read from disk or memory while they are opened and hashed
_DISK = 1.0e9  # bytes a second of a disk whose files are in memory already


def program_now() -> int:
    """The most memory that this process has taken, with the libraries that an audit imports too."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def memory_of(models: Sequence[ShapeModel], counted: Counted, program: int) -> MemoryPlan:
    """The most memory that is taken at a time."""
    sizes = [model.layout.numbers * model.source.dtype.itemsize for model in models]
    weights, opening = sum(sizes), int(_OPENING * max(sizes))
    device = models[0].device
    on_processor = device.type == "cpu"
    peak = weights + max(opening, counted.largest) + (program if on_processor else 0)
    free = free_memory(device) + (program if on_processor else 0)
    return MemoryPlan(
        weights=weights,
        opening=opening,
        work=counted.largest,
        program=program,
        peak=peak,
        free=free,
        fits=peak <= free,
        way_out="" if peak <= free else _way_out(models, counted, free - peak + weights + counted.largest),
    )


def _way_out(models: Sequence[ShapeModel], counted: Counted, room: int) -> str:
    """The setting that would fit.

    Args:
        room: what is free for weights and work.
    """
    weights = sum(model.layout.numbers * model.source.dtype.itemsize for model in models)
    left = room - weights
    if left > counted.largest // 8:
        return f"{VARIABLE}={amount_text(4 * left // 2).replace(' ', '')} keeps less at once"
    return way_to_fit(sum(model.layout.numbers for model in models), max(0, room), share=1 / (1 + _OPENING))


def disk_of(assertions: int, counted: Counted) -> int:
    """Bytes of a record."""
    prompts = sum(counted.prompts.values())
    tokens = sum(counted.longest[task] * count for task, count in counted.prompts.items())
    written = assertions * _WRITTEN_AN_ASSERTION + counted.values * _WRITTEN_A_VALUE
    return written + prompts * _WRITTEN_A_PROMPT + tokens * _WRITTEN_A_TOKEN


def seconds_to_open(model: ShapeModel, rates: Rates) -> float:
    """Seconds for reading, hashing and checking a model."""
    size = model.layout.numbers * model.source.dtype.itemsize
    calls = _CALLS_TO_OPEN + _CALLS_TO_OPEN_A_BLOCK * model.layout.layers
    return _READ_AGAIN * size / _DISK + calls * rates.call


def seconds_of(model: ShapeModel, counted: Counted, rates: Rates) -> float:
    """Seconds for all that was counted."""
    layout, width, patched = model.layout, model.source.dtype.itemsize, counted.patched
    flops: float = 2 * layout.in_blocks * counted.tokens + 2 * layout.d_model * layout.vocabulary * counted.read_tokens
    flops += 2 * layout.in_mlps / layout.layers * patched.rows + 2 * layout.in_blocks / layout.layers * patched.live
    rows = counted.tokens * layout.layers + patched.rows + patched.live
    moved: float = rows * _MOVED_A_TOKEN * layout.d_model * width
    pairs: float = counted.pairs + patched.live * counted.pairs / max(1, counted.tokens) / layout.layers
    flops += 4 * pairs * layout.layers * layout.heads * layout.width
    moved += pairs * layout.layers * layout.heads * _MOVED_A_PAIR * width
    calls = counted.batches * layout.layers * _CALLS_A_BLOCK + patched.calls * _CALLS_A_PATCHED_BLOCK
    calls += counted.judgements * _CALLS_A_JUDGEMENT + counted.readings * _CALLS_A_READING
    return flops / rates.flops + moved / rates.moved + calls * rates.call
