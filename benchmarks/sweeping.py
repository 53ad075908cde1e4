"""How much faster two workers are than one, over many small checkpoints with tiny seeded changes.

python -m benchmarks.sweeping --engine ray --checkpoints 100
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.scale import called

__all__ = ["main", "make_checkpoints", "timeless"]

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "fixtures" / "checkpoints" / "healthy"
_TIMING = ("name", "started", "seconds", "seconds_of")  # of a record
SIZE = 1e-4  # of the changes, in standard deviations of the weights


def make_checkpoints(folder: Path, count: int) -> None:
    """Copies of the embedded checkpoint as the steps of a run, each with noise of its own seed."""
    weights = load_file(MODEL / "model.safetensors")
    for step in range(1, count + 1):
        made = folder / f"checkpoint-{step}"
        shutil.copytree(MODEL, made)
        noise = torch.Generator().manual_seed(step)
        changed = {
            name: tensor + SIZE * tensor.std() * torch.randn(tensor.shape, generator=noise)
            for name, tensor in weights.items()
        }
        save_file(changed, made / "model.safetensors", metadata={"format": "pt"})


def timeless(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of a folder by the end of their names, without what says when and how fast they were made."""
    made = {file.name.split("-", 3)[-1]: json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")}
    return {end: {key: value for key, value in one.items() if key not in _TIMING} for end, one in made.items()}


def _swept(folder: Path, engine: str, jobs: int, suite: Path) -> tuple[float, dict[str, dict[str, Any]]]:
    """Seconds of a sweep with one thread a worker, and its records."""
    out = folder / f"{engine}-{jobs}"
    command = [sys.executable, "-m", "circuit_assertions", "sweep", "--models", "run/checkpoint-*", "--json"]
    command += ["--suites", str(suite), "--baseline", str(MODEL), "--device", "cpu", "--engine", engine]
    command += ["--jobs", str(jobs), "-o", str(out)]
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    assert json.loads(done.stdout)["kind"] == "sweep"
    return time.perf_counter() - began, timeless(out / "records")


def main() -> None:
    """Print both times, their ratio, and whether the records are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--checkpoints", type=int, default=100)
    parser.add_argument("--suite", type=Path, default=ROOT / "suites" / "induction.yaml")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_checkpoints(folder / "run", given.checkpoints)
        load = os.getloadavg()[0]
        (two, by_two), (one, by_one) = (_swept(folder, given.engine, jobs, given.suite) for jobs in (2, 1))
    print(f"{called()}; load {load:.1f} before, {os.getloadavg()[0]:.1f} after; one thread a worker")
    print(
        f"{given.checkpoints} checkpoints, {given.suite.name}, {given.engine}: one worker {one:.0f} s, two {two:.0f} s"
    )
    print(f"two are {one / two:.2f} times as fast; records equal apart from timing: {by_one == by_two}")


if __name__ == "__main__":
    main()
