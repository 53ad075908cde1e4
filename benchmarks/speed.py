"""How fast exact path patching is, against a plain hook loop, TransformerLens's own functions, and arithmetic's floor.

    python -m benchmarks.speed [--shape gpt2-small|llama-0.5b|tiny|all] [--prompts N] [--quick] [--json] [--device cpu]

Every row is one job over all heads of the model on the same prompts, both sides in one run; `benchmarks/jobs.py` says
what the jobs are and docs/speed.md how to read the table.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import table
from benchmarks.models import SHAPES, make_model
from benchmarks.rows import Bench, Row, open_bench
from circuit_assertions.checkpoints import DeviceError
from circuit_assertions.checkpoints.devices import choose_device

_ALL = ("gpt2-small", "llama-0.5b")


def main() -> int:
    """Print the table, shape after shape."""
    given = _arguments()
    try:
        choose_device(given.device)
    except DeviceError as error:
        print(f"benchmarks.speed: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(given.threads)
    found: list[dict[str, Any]] = []
    for shape in _ALL if given.shape == "all" else (given.shape,):
        bench = _open(shape, given)
        if given.json:
            found += table.as_json(bench.setting, bench.measure(lambda row: None))
        else:
            _print(bench)
        del bench
        gc.collect()
    if given.json:
        print(json.dumps({"rows": found}, indent=2))
    return 0


def _open(name: str, given: argparse.Namespace) -> Bench:
    shape = SHAPES[name]
    layers = shape.quick_layers if given.quick else shape.layers
    cut = f"cut from {shape.layers} layers" if layers < shape.layers else ""
    prompts = given.prompts or (shape.quick_prompts if given.quick else shape.prompts)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):  # progress bars
        model = make_model(shape.config(layers), Path(folder), given.device)
    return open_bench(model, name, prompts, given.samples or (1 if given.quick else 2), cut)


def _print(bench: Bench) -> None:
    def tell(row: Row) -> None:
        print(table.line(row), flush=True)

    print(table.heading(bench.setting), flush=True)
    rows = bench.measure(tell)
    for note in table.notes(rows):
        print(note)
    for text in table.reached(table.aims(rows)):
        print(text)
    print()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=(*SHAPES, "all"), default="all")
    parser.add_argument("--prompts", type=int, help="prompts in the batch (default: by shape)")
    parser.add_argument("--samples", type=int, help="heads that the slow sides are timed on; with 1 all is timed once")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU, for every side (default: 1)")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--quick", action="store_true", help="few prompts, everything timed once, a large model cut to fewer layers"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.prompts is not None and given.prompts < 2:
        parser.error("--prompts: a batch has at least two prompts, one in either order of the names")
    return given


if __name__ == "__main__":
    sys.exit(main())
