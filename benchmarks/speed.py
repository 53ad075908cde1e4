"""How fast exact path patching is, against a hook loop, TransformerLens's own functions, and the arithmetic's floor.

    python -m benchmarks.speed [--shape gpt2-small|llama-0.5b] [--prompts 32] [--quick] [--json] [--device cpu]

Every row is one job over all heads of the model on the same prompts; both sides are timed in the same run. The slow
sides are timed on some of their forward passes and scaled to all of them, which each row says. `forwards` are the job's
time over the time of one clean forward pass of the same prompts. The floor is the job's matrix products over the rate
that a matrix product of the same size reaches in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.models import SHAPES, make_model
from circuit_assertions.engine import Model
from circuit_assertions.engine.hooked import HookedPatching
from circuit_assertions.engine.patching import Patching
from circuit_assertions.engine.rows import Sender
from circuit_assertions.heads import Head
from circuit_assertions.tasks import IoiTask

PAGE = 4096


@dataclass(frozen=True)
class Row:
    """One job. Times in seconds, memory in MB beyond the weights and captured runs, `None` where not measured."""

    job: str
    fast: float
    hooks: float
    transformer_lens: float | None
    floor: float
    forwards: float
    peak_mb: float

    @property
    def speedup(self) -> float:
        """How many times faster than the hook loop."""
        return self.hooks / self.fast


@dataclass
class Bench:
    """A model, a batch, and what its jobs are held against."""

    model: Model
    patching: Patching
    hooked: HookedPatching
    samples: int
    forward: float
    rate: float  # multiply-adds a second

    def row(self, job: str, work: Callable[[], object], slow: Slow, products: float, lens: float | None) -> Row:
        """Time one job."""
        fast, peak = timed(work, self.model.device)
        hooks = slow(self.samples)
        return Row(job, fast, hooks, lens, products / self.rate, fast / self.forward, peak)


Slow = Callable[[int], float]  # how many passes to time -> seconds for all of them


def main() -> int:
    """Print the table."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        model = make_model(given.shape, given.tokenizer, Path(folder), given.device)
        bench = _bench(model, 8 if given.quick else given.prompts, 2 if given.quick else 6)
        rows = list(_rows(bench, given.quick))
    facts = {
        "shape": given.shape,
        "prompts": len(bench.patching.prompts),
        "tokens": bench.patching.base.positions,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "forward_s": bench.forward,
        "gigaflops": 2 * bench.rate / 1e9,
    }
    if given.json:
        print(json.dumps({"facts": facts, "rows": [asdict(row) | {"speedup": row.speedup} for row in rows]}, indent=2))
    else:
        _print(facts, rows)
    return 0


def _rows(bench: Bench, quick: bool) -> Iterator[Row]:
    layout, patching, hooked = bench.model.layout, bench.patching, bench.hooked
    senders: list[Sender] = list(layout.all_heads())
    late = 3 * layout.layers // 4
    receivers = [Head(late, 0), Head(late, 1), Head(late + 1, 0)]
    middle = [Head(late - 2, head) for head in range(layout.heads // layout.groups(late - 2))]
    sets = [[Head(layer % layout.layers, layer % layout.heads), Head(late, 1)] for layer in range(20)]

    def loop(work: Callable[[Sequence[Sender]], object], passes: int) -> Slow:
        return lambda samples: _scaled(lambda some: work(senders[-some:]), samples, len(senders), passes)

    yield bench.row(
        "heads -> logits",
        lambda: patching.to_logits(senders, "through-mlps"),
        loop(lambda some: hooked.to_logits(some, "through-mlps"), 1),
        _mlp_products(bench, layout.layers),
        None,
    )
    for name, which, heads, at in (
        ("heads -> query of three heads", "q", receivers, "end"),
        ("heads -> value", "v", middle, "subject-2"),
        ("heads -> key", "k", middle, "subject-2"),
    ):
        yield bench.row(
            name,
            lambda which=which, heads=heads, at=at: patching.to_inputs(senders, which, heads, at, "through-mlps"),  # type: ignore[misc]
            loop(
                lambda some, which=which, heads=heads, at=at: hooked.to_inputs(some, which, heads, at, "through-mlps"),  # type: ignore[misc]
                2,
            ),
            _input_products(bench, [head.layer for head in heads], at),
            _lens_direct(bench, which, 2) if not quick else None,
        )
    zero = [torch.zeros_like(z) for z in patching.base.head_outputs]
    yield bench.row(
        "joint ablation of twenty sets",
        lambda: patching.ablated(sets, zero),
        lambda samples: _scaled(lambda some: hooked.ablated(sets[:some], zero), samples, len(sets), 1),
        sum(_suffix_products(bench, min(head.layer for head in heads), 0) for heads in sets),
        None,
    )


def _mlp_products(bench: Bench, upto: int) -> float:
    """Multiply-adds of all heads' rows through the MLPs below a layer."""
    layout = bench.model.layout
    rows = sum(layout.heads * (layer + 1) for layer in range(upto)) * len(bench.patching.prompts)
    return rows * _mlp_weights(bench)


def _mlp_weights(bench: Bench) -> float:
    block = bench.model.bridge.blocks[0]
    return float(sum(weight.numel() for weight in block.mlp.parameters() if weight.dim() == 2))


def _attention_weights(bench: Bench) -> float:
    layout = bench.model.layout
    return layout.d_model * layout.d_head(0) * 2 * (layout.heads + layout.groups(0))


def _suffix_products(bench: Bench, layer: int, first: int) -> float:
    """Multiply-adds of one variant from a layer and a position on."""
    tokens = (bench.patching.base.positions - first) * len(bench.patching.prompts)
    return tokens * (bench.model.layout.layers - layer) * (_mlp_weights(bench) + _attention_weights(bench))


def _input_products(bench: Bench, layers: Sequence[int], at: str) -> float:
    first = int(bench.patching.positions(at).min())
    active = bench.model.layout.heads * max(layers)
    return _mlp_products(bench, max(layers)) + active * _suffix_products(bench, min(layers), first)


def _lens_direct(bench: Bench, which: str, samples: int) -> float | None:
    """TransformerLens's direct path patching of every head into one layer's heads, scaled from some destinations."""
    from transformer_lens.patching import get_act_patch_direct_path

    model, layout = bench.model.bridge, bench.model.layout
    tokens, twins = bench.patching.base.tokens, bench.patching.other.tokens
    layer = layout.layers - 2
    with torch.no_grad():
        names = [layout.head_outputs(layer)]
        caches = [model.run_with_cache(row, names_filter=names)[1] for row in (tokens, twins)]
        start = time.perf_counter()
        try:
            get_act_patch_direct_path(
                model, tokens, caches[1], caches[0], lambda logits: logits[0, -1, 0], layer, 0, which, verbose=False
            )
        except ValueError:  # keys and values of grouped queries are refused there
            return None
    pairs = layout.heads * (layout.layers - 1 - layer)
    return (time.perf_counter() - start) / pairs * layout.heads * layout.layers


def _scaled(work: Callable[[int], object], samples: int, of: int, passes: int) -> float:
    """Seconds for all of a loop's passes, from some of them. `passes` is for the reader: forwards a sender."""
    work(1)
    start = time.perf_counter()
    work(samples)
    return (time.perf_counter() - start) / samples * of


def _bench(model: Model, prompts: int, samples: int) -> Bench:
    task = IoiTask.model_validate({"kind": "ioi", "prompts": prompts, "templates": [_TEMPLATE]})
    batch = task.build(model.source.tokenizer).prompts
    patching = Patching.of(model, batch)
    hooked = HookedPatching(model, patching.prompts, patching.base, patching.other)
    with torch.no_grad():
        forward, _ = timed(lambda: model.bridge(patching.base.tokens), model.device)
    return Bench(model, patching, hooked, samples, forward, _rate(model))


_TEMPLATE = "When {first} and {second} got a {object} at the {place}, {subject} decided to give it to"


def _rate(model: Model) -> float:
    """Multiply-adds a second of a matrix product as large as an MLP's over many rows."""
    width = model.layout.d_model
    rows = torch.randn(4096, width, device=model.device)
    weights = torch.randn(width, 4 * width, device=model.device)
    seconds, _ = timed(lambda: rows @ weights, model.device, repeat=5)
    return 4096 * width * 4 * width / seconds


def timed(work: Callable[[], object], device: torch.device, repeat: int = 2) -> tuple[float, float]:
    """Best of some runs after a first one, in seconds, and the peak memory in MB beyond what was there before."""
    with _peak(device) as peak:
        work()
    best = float("inf")
    for _ in range(repeat):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return best, peak[0]


@contextlib.contextmanager
def _peak(device: torch.device) -> Iterator[list[float]]:
    result = [0.0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield result
        result[0] = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        return
    done, before = threading.Event(), _resident()

    def watch() -> None:
        while not done.wait(0.002):
            result[0] = max(result[0], (_resident() - before) / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield result
    finally:
        done.set()
        watcher.join()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _print(facts: dict[str, object], rows: Sequence[Row]) -> None:
    print(
        ", ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in facts.items()
        )
    )
    print(
        f"{'job':<32}{'ours s':>9}{'hooks s':>9}{'TL s':>9}{'x hooks':>9}{'forwards':>10}{'x floor':>9}{'peak MB':>9}"
    )
    for row in rows:
        lens = f"{row.transformer_lens:>9.1f}" if row.transformer_lens is not None else f"{'-':>9}"
        print(
            f"{row.job:<32}{row.fast:>9.2f}{row.hooks:>9.1f}{lens}{row.speedup:>9.0f}{row.forwards:>10.1f}"
            f"{row.fast / row.floor:>9.1f}{row.peak_mb:>9.0f}"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="gpt2-small")
    parser.add_argument("--tokenizer", type=Path, default=Path("../shared/data/gpt2-tokenizer"))
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="8 prompts and fewer samples of the slow sides")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
