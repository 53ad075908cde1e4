"""What cost grows with: heads, prompts, layers and length for path patching; assertions for an audit.

    python -m benchmarks.curves [--json] [--out docs]

Path patching of all heads into the logits and one clean forward pass of the same model and prompts are timed in the
same run; a loop of hooks costs one such pass per head. The audit is of the embedded checkpoint, from opening it to the
last verdict, by suites made on the fly: ever more assertions on one task.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.audits import COUNTS, audit_seconds
from benchmarks.machine import Machine
from benchmarks.models import gpt2, make_model
from benchmarks.plot import Panel, Series, figure
from circuit_assertions.engine.patching import Patching
from circuit_assertions.files import write_whole
from circuit_assertions.report.tables import Column, table
from circuit_assertions.tasks import IoiTask
from circuit_assertions.tasks.words import TEMPLATES

_FILLER = "at the "  # two words that every tokenizer here knows; longer prompts begin with many of them
_SENTENCE = TEMPLATES[2]


@dataclass(frozen=True)
class Point:
    """One model and batch, and what all its heads into the logits cost, in forward passes."""

    heads: int = 8
    prompts: int = 8
    layers: int = 8
    filler: int = 0  # pairs of words before the sentence
    length: int = 0
    forwards: float = 0.0

    @property
    def loop(self) -> float:
        """Forward passes of a hook loop."""
        return float(self.heads * self.layers)


VARIED: dict[str, Sequence[Point]] = {
    "heads": [Point(heads=heads) for heads in (2, 4, 8, 16, 32, 64)],
    "prompts": [Point(prompts=prompts) for prompts in (2, 4, 8, 16, 32, 64)],
    "layers": [Point(layers=layers) for layers in (2, 4, 8, 16, 32)],
    "length": [Point(filler=pairs) for pairs in (0, 8, 24, 56, 120)],
}
_LABELS = {
    "heads": ("heads in a layer", "Heads"),
    "prompts": ("prompts in a batch", "Prompts"),
    "layers": ("layers", "Layers"),
    "length": ("tokens in a prompt", "Length"),
}


def main() -> int:
    """Measure, print, and draw where asked to."""
    given = _arguments()
    torch.set_num_threads(1)
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        curves = {name: [_measured(point) for point in points] for name, points in VARIED.items()}
        audits = audit_seconds(given.repeats)
    if given.json:
        found = {name: [asdict(point) | {"loop": point.loop} for point in points] for name, points in curves.items()}
        added = {name: _added(seconds) for name, seconds in audits.items()}
        print(json.dumps({"curves": found, "audit_seconds": audits, "one_more_adds": added}, indent=2))
    else:
        for text in _text(curves, audits):
            print(text)
    if given.out is not None:
        write_whole(given.out / "cost.svg", _drawn(curves, audits))
    return 0


def _measured(point: Point) -> Point:
    config = gpt2(point.layers, point.heads, width=256, vocabulary=256, positions=512)
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(config, Path(folder), "cpu")
    words = {"kind": "ioi", "prompts": point.prompts, "templates": [_FILLER * point.filler + _SENTENCE]}
    patching = Patching.of(model, IoiTask.model_validate(words).build(model.source.tokenizer).prompts)
    machine, heads = Machine(model.device), list(model.layout.all_heads())
    tokens = patching.base.tokens
    with torch.no_grad():
        ratios = [
            machine.seconds(lambda: patching.to_logits(heads, "through-mlps"))
            / machine.seconds(lambda: model.bridge(tokens))
            for _ in range(3)
        ]
    ours = {"length": patching.base.positions, "forwards": sorted(ratios)[1]}
    return Point(**(asdict(point) | ours))


def _text(curves: dict[str, list[Point]], audits: dict[str, dict[int, float]]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = []
    for name, points in curves.items():
        rows.append((_LABELS[name][0], *(f"{getattr(point, name)}" for point in points)))
        rows.append(("  forward passes", *(f"{point.forwards:.2f}" for point in points)))
        rows.append(("  of a hook loop", *(f"{point.loop:.0f}" for point in points)))
    rows.append(("assertions", *map(str, COUNTS)))
    rows += [(f"  seconds, {name}", *(f"{seconds[count]:.3f}" for count in COUNTS)) for name, seconds in audits.items()]
    columns = max(map(len, rows)) - 1
    yield from table(rows, Column(22, gap=0), *[Column(9, "right", gap=0)] * columns)
    yield from table([_reached(name, _added(seconds)) for name, seconds in audits.items()], Column(least=11, gap=1))


def _reached(name: str, added: dict[str, float]) -> tuple[str, str]:
    word = "reached" if added["mean_of_26th_to_50th"] < 0.01 else "not reached"
    shares = ", ".join(f"{key.replace('_', ' ')} {100 * share:.2f} %" for key, share in added.items())
    return word, f"{name}: one more adds under 1 % of an audit of fifty; {shares}"


def _added(seconds: dict[int, float]) -> dict[str, float]:
    """What one more assertion adds to an audit of fifty, as a share of it; the mean of many is the steadier figure."""
    return {
        "fiftieth": (seconds[50] - seconds[49]) / seconds[50],
        "mean_of_26th_to_50th": (seconds[50] - seconds[25]) / 25 / seconds[50],
    }


def _drawn(curves: dict[str, list[Point]], audits: dict[str, dict[int, float]]) -> str:
    panels = [
        Panel(
            f"{_LABELS[name][1]}",
            _LABELS[name][0],
            "forward passes",
            [
                Series("path patching", "ours", [(getattr(point, name), point.forwards) for point in points]),
                Series("hook loop", "other", [(getattr(point, name), point.loop) for point in points]),
            ],
            (0.01, 1000.0),
        )
        for name, points in curves.items()
    ]
    lines = [
        Series(name, look, [(count, audits[kind][count]) for count in COUNTS if count != 49])
        for kind, name, look in (("readings", "shared passes", "ours"), ("ablations", "an ablation each", "other"))
    ]
    panels.append(Panel("Assertions", "assertions on one task", "seconds", lines, (0.1, 100.0)))
    return figure("Cost of path patching and of an audit, on logarithmic axes", panels)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="draw cost.svg in this folder")
    parser.add_argument("--repeats", type=int, default=5, help="audits of each size; the best counts (default: 5)")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
