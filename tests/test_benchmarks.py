"""The benchmark's command: the rows that it prints, what they are held against, and how it draws."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import curves, speed
from benchmarks.jobs import Job, Jobs
from benchmarks.machine import Machine
from benchmarks.models import SHAPES, make_model
from benchmarks.plot import Panel, Series, figure
from benchmarks.rows import Row, open_bench
from benchmarks.table import aims, line

JOBS = [
    "heads -> logits",
    "heads -> query of three heads",
    "heads -> value",
    "heads -> key",
    "joint ablation of twenty sets",
    "five-stage sweep",
]
STAGES = [
    "1 heads -> logits",
    "2 heads -> queries",
    "3 heads -> values",
    "4 heads -> keys",
    "4 heads -> values",
    "5 heads -> values",
]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, called with these words."""

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["benchmarks.speed", *words])
        return speed.main()

    return run


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    model = make_model(SHAPES["tiny"].config(6), tmp_path_factory.mktemp("bench"), "cpu")
    return Jobs(open_bench(model, "tiny", prompts=2, samples=1).patching)


def test_quick_json_holds_every_job_on_both_sides_and_what_it_was_taken_under(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--shape", "tiny", "--quick", "--json", "--device", "cpu") == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    assert [row["job"] for row in rows] == JOBS + STAGES
    assert [row["stage_of_sweep"] for row in rows] == [False] * len(JOBS) + [True] * len(STAGES)
    for row in rows:
        assert (row["shape"], row["device"], row["threads"], row["cut"]) == ("tiny", "cpu", 1, "cut from 12 layers")
        assert "processor" in row["clock"]
        assert min(row[name] for name in ("seconds", "loop_seconds", "floor_seconds", "forward_seconds")) > 0
        assert row["times_loop"] == pytest.approx(row["loop_seconds"] / row["seconds"])
        assert row["times_floor"] == pytest.approx(row["seconds"] / row["floor_seconds"])
        assert row["forwards"] == pytest.approx(row["seconds"] / row["forward_seconds"])
        assert 0 < row["passes_timed"] < row["passes"]
        assert row["difference"] < 1e-3, "both sides must compute the same thing"
    ablation = next(row for row in rows if row["job"].startswith("joint ablation"))
    assert ablation["lens_seconds"] is None
    assert ablation["lens_note"]
    sweep, stages = rows[len(JOBS) - 1], rows[len(JOBS) :]
    assert sweep["seconds"] == pytest.approx(sum(stage["seconds"] for stage in stages))
    assert {aim["aim"] for aim in sweep["aims"]} == {"at most 30 forward passes", "at most 2 x the floor"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused_before_any_work(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--shape", "tiny", "--device", "cuda") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("benchmarks.speed: ")
    assert "Traceback" not in printed.err


def test_the_floor_lies_below_what_is_really_multiplied(jobs: Jobs) -> None:
    """The floor leaves out attention scores and repeated work; it must never claim more than the work that is done."""
    for job in jobs.singles():
        with FlopCounterMode(display=False) as counted:
            job.work()
        multiplied = counted.get_total_flops() / 2
        assert 0.2 * multiplied < job.products <= multiplied, job.name


def test_the_sweep_goes_down_through_the_layers_and_patches_below_its_receivers(jobs: Jobs) -> None:
    below: list[int] = []

    def take(job: Job) -> Any:
        below.append(len(job.sample))
        return Machine(torch.device("cpu"), twice=False).take(job.work)

    jobs.sweep(take)
    assert len(below) == len(STAGES)
    assert below == sorted(below, reverse=True)
    assert below[-1] > 0


def test_rows_are_held_against_their_aims() -> None:
    row = Row("heads -> value", 1.0, 10.0, 6.0, 10.0, 288, 4, None, "refused", 0.4, 0.5, 1e-6)
    found = {aim.aim: aim.reached for aim in aims([row])}
    assert found == {"at least 5 x the loop": True, "at most 2 x the floor": False}
    assert "-*" in line(row).split()


def test_a_figure_is_svg_with_log_axes_and_the_same_text_for_the_same_numbers() -> None:
    panel = Panel("Heads", "heads", "seconds", [Series("ours", "ours", [(1, 0.1), (2, 1), (4, 10)])], (0.1, 10))
    text = figure("costs <of> things", [panel] * 4)
    assert text == figure("costs <of> things", [panel] * 4)
    root = ET.fromstring(text)
    dots = root.findall(".//{*}circle")[:3]
    across, down = ([float(dot.attrib[name]) for dot in dots] for name in ("cx", "cy"))
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.2)
    assert down[1] - down[0] == pytest.approx(down[2] - down[1], abs=0.2)
    assert down[0] > down[2]
    words = [element.text for element in root.findall(".//{*}text")]
    assert {"Heads", "heads", "seconds", "ours", "0.1", "10"} <= set(words)
    assert "prefers-color-scheme: dark" in text


@pytest.mark.complete
def test_curves_print_and_draw_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = {1: 1.0, 10: 1.1, 25: 1.2, 49: 1.29, 50: 1.3}
    monkeypatch.setattr(curves, "audit_seconds", lambda repeats: {"readings": seconds, "ablations": seconds})
    few = {"heads": curves.VARIED["heads"][:2], "length": curves.VARIED["length"][:2]}
    monkeypatch.setattr(curves, "VARIED", few)
    monkeypatch.setattr(sys, "argv", ["benchmarks.curves", "--json", "--out", str(tmp_path)])
    assert curves.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert [point["length"] for point in found["curves"]["length"]] == [18, 34]
    assert [point["loop"] for point in found["curves"]["heads"]] == [16, 32]
    assert all(point["forwards"] > 0 for points in found["curves"].values() for point in points)
    assert found["one_more_adds"]["readings"]["mean_of_26th_to_50th"] == pytest.approx(0.1 / 25 / 1.3)
    assert ET.parse(tmp_path / "cost.svg").getroot().tag.endswith("svg")
