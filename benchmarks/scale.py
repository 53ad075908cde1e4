"""What audits of large models would cost, extrapolated from rates that are measured now: the tables of docs/scale.md.

    python -m benchmarks.scale              # prints them
    python -m benchmarks.scale --out docs   # writes them into docs/scale.md

Passes and weights follow from the shapes and are exact. Rates are measured on this machine. Times are derived from
both; nothing of these sizes was run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from circuit_assertions.checkpoints import Opening
from circuit_assertions.diagnosis.suites_given import suites_given
from circuit_assertions.files import write_whole
from circuit_assertions.planning.plan_audit import plan_audit
from circuit_assertions.planning.probe import Rates, probe
from circuit_assertions.planning.shape_model import find_shape
from circuit_assertions.policy import DEFAULT
from circuit_assertions.report.planned import amount_text, time_text
from circuit_assertions.results import PlanResult

__all__ = ["SHAPES", "LargeShape", "called", "main", "planned", "tables"]

ROOT = Path(__file__).parents[1]
TOKENIZER = ROOT / "fixtures" / "checkpoints" / "healthy"
CIRCUIT = ROOT / "suites" / "circuits" / "gpt2.ioi.yaml"
SUITE = ROOT / "suites" / "ioi.yaml"
CHECKPOINTS, DEVICES = 1000, (1, 8, 64)
_FIGURES = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)


@dataclass(frozen=True)
class LargeShape:
    """A shape that has been published, as a configuration of Llama."""

    called: str
    layers: int
    heads: int
    groups: int
    d_model: int
    d_mlp: int
    vocabulary: int

    @property
    def config(self) -> dict[str, Any]:
        """Its config.json."""
        return {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.groups,
            "hidden_size": self.d_model,
            "intermediate_size": self.d_mlp,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": False,
        }


SHAPES = (  # Touvron et al. 2023, arXiv 2307.09288, and its released configurations
    LargeShape("7B", 32, 32, 32, 4096, 11008, 32000),
    LargeShape("70B", 80, 64, 8, 8192, 28672, 32000),
)


def planned(shape: LargeShape, rates: Rates, folder: Path, dtype: str = "float32") -> PlanResult:
    """The plan of the packaged IOI suite with a baseline, with GPT-2 small's circuit stretched over the shape."""
    model, base = (_described(shape, folder / f"{shape.called}-{name}") for name in ("model", "base"))
    circuit = folder / f"{shape.called}.ioi.yaml"
    circuit.write_text(yaml.safe_dump(_stretched(shape)), encoding="utf-8")
    return plan_audit(
        find_shape(str(model)),
        suites_given([SUITE], circuit),
        Opening("cpu", dtype),
        DEFAULT,
        baseline=find_shape(str(base))[0],
        rates=rates,
    )


def _described(shape: LargeShape, folder: Path) -> Path:
    """A folder with all that a plan reads of a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(shape.config), encoding="utf-8")
    for file in TOKENIZER.glob("*token*"):
        shutil.copy(file, folder)
    return folder


def _stretched(shape: LargeShape) -> dict[str, Any]:
    """A circuit with as many heads, at the same relative depth: which heads they are changes no cost."""
    known = yaml.safe_load(CIRCUIT.read_text(encoding="utf-8"))
    fits = known["fits"]

    def moved(name: str) -> str:
        layer, head = map(int, name.removeprefix("L").split("H"))
        return f"L{layer * shape.layers // fits['layers']}H{head * shape.heads // fits['heads']}"

    return {
        "circuit": known["circuit"],
        "fits": {"architecture": "LlamaForCausalLM", "layers": shape.layers, "heads": shape.heads}
        | {"d_model": shape.d_model},
        "roles": {role: [moved(name) for name in heads] for role, heads in known["roles"].items()},
    }


def called() -> str:
    """The machine, in words."""
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} of them used"
    return f"{platform.machine()}, {cores}, torch {torch.__version__}"


def tables(rates: Rates) -> Iterator[str]:
    """The page's figures as Markdown, each marked as exact, measured or derived."""
    yield f"Measured: {called()}; {rates.flops / 1e9:.1f} GFLOP/s in matrix products of float32,"
    yield f"{1e6 * rates.call:.1f} µs a small operation, {rates.moved / 1e9:.1f} GB/s moved."
    yield ""
    yield "| | " + " | ".join(shape.called for shape in SHAPES) + " |"
    yield "| --- | " + " | ".join("---" for _ in SHAPES) + " |"
    with tempfile.TemporaryDirectory() as folder:
        plans = [planned(shape, rates, Path(folder)) for shape in SHAPES]
        halves = [planned(shape, rates, Path(folder), "bfloat16") for shape in SHAPES]
    for label, cells in _rows(plans, halves):
        yield f"| {label} | {' | '.join(cells)} |"


def _rows(plans: list[PlanResult], halves: list[PlanResult]) -> Iterator[tuple[str, list[str]]]:
    yield "weights (exact)", [f"{plan.shapes[0].parameters / 1e9:.2f} billion" for plan in plans]
    yield "passes of a checkpoint (exact)", [f"{plan.passes.least} to {plan.passes.most}" for plan in plans]
    for dtype, some in (("float32", plans), ("bfloat16", halves)):
        yield f"memory in {dtype}, with the baseline open (derived)", [amount_text(plan.memory.peak) for plan in some]
    yield "the records of 1,000 checkpoints (derived)", [amount_text(CHECKPOINTS * plan.disk) for plan in plans]
    yield "one checkpoint at the measured rate (derived)", [time_text(plan.time.expected) for plan in plans]
    for devices in DEVICES:
        label = f"1,000 checkpoints on {devices} such device{'s' if devices > 1 else ''} (derived)"
        yield label, [_days(CHECKPOINTS * plan.time.expected / devices) for plan in plans]
    yield (
        "operations of one checkpoint (derived)",
        [f"{plan.time.expected * plan.time.rates.flops / 1e15:.1f} PFLOP at most" for plan in plans],
    )


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:.1f} days" if seconds > 172_800 else time_text(seconds)


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the folder of scale.md")
    given = parser.parse_args()
    rates = probe(max(shape.d_model for shape in SHAPES), torch.device("cpu"), torch.float32)
    text = "\n".join(tables(rates)) + "\n"
    if given.out is None:
        print(text, end="")
        return
    page = given.out / "scale.md"
    write_whole(page, _FIGURES.sub(lambda _: text, page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
