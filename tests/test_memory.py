"""Memory is planned: how much there is, what is cut to fit into it, and what happens where it runs out all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from auditing import Audited, ioi
from naive_patching import exact_softmax
from patching_cases import SENDERS, TASK, Both
from tiny_models import save_tiny
from torch import Tensor

from circuit_assertions.checkpoints.free_memory import left_in_groups
from circuit_assertions.engine import MeasuringError, memory
from circuit_assertions.engine.arithmetic import Block
from circuit_assertions.engine.live import Live
from circuit_assertions.heads import Head
from circuit_assertions.request import Request

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
MISSING = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.00 GiB.")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both("gpt2", tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    ("said", "quarter"), [("400MB", 10**8), ("400 mb", 10**8), ("1GiB", 1 << 28), ("0.5GB", 125 * 10**6), ("3B", 1)]
)
def test_an_amount_that_is_said_is_shared_out(monkeypatch: pytest.MonkeyPatch, said: str, quarter: int) -> None:
    monkeypatch.setenv("CIRCUIT_ASSERTIONS_MEMORY", said)
    assert memory.budget(CPU) == quarter


@pytest.mark.parametrize("said", ["much", "2", "-1GB", "0GB", "2 PB", "1e9B"])
def test_what_is_no_amount_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("CIRCUIT_ASSERTIONS_MEMORY", said)
    with pytest.raises(MeasuringError, match=rf"CIRCUIT_ASSERTIONS_MEMORY={said} .*\b500MB\b"):
        memory.budget(CPU)


def test_a_quarter_of_what_is_free_is_taken_and_never_more_than_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIRCUIT_ASSERTIONS_MEMORY", raising=False)
    monkeypatch.setattr(memory, "free_memory", lambda device: 800 << 20)
    assert memory.budget(CPU) == memory.budget(CUDA) == 200 << 20
    monkeypatch.setattr(memory, "free_memory", lambda device: 1 << 50)
    assert 64 << 20 <= memory.budget(CPU) <= 1 << 30 <= memory.budget(CUDA) <= 16 << 30


def test_what_the_allocator_holds_free_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"mem_get_info": (1000, 5000), "memory_reserved": 700, "memory_allocated": 300}
    for name, figure in figures.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, figure=figure: figure)
    assert memory.free_memory(CUDA) == 1400


def test_free_memory_is_some_of_what_the_machine_has() -> None:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory.free_memory(CPU) <= physical


@pytest.mark.parametrize(
    ("said", "files", "left"),
    [
        (
            "0::/jobs/mine",
            {
                "jobs/mine": {"memory.max": "max", "memory.current": "5"},
                "jobs": {"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 1\ninactive_file 200"},
            },
            [500],
        ),
        ("0::/of/the/host", {"": {"memory.max": "400", "memory.current": "100", "memory.stat": "anon 1"}}, [300]),
        (
            "7:cpu:/x\n4:memory:/x",
            {
                "memory/x": {
                    "memory.limit_in_bytes": "900",
                    "memory.usage_in_bytes": "800",
                    "memory.stat": "inactive_file 7\ntotal_inactive_file 50",
                }
            },
            [150],
        ),
        ("0::/nowhere", {}, []),
    ],
)
def test_limits_of_control_groups_bind(
    tmp_path: Path, said: str, files: dict[str, dict[str, str]], left: list[int]
) -> None:
    (tmp_path / "cgroup").write_text(said + "\n")
    for folder, held in files.items():
        (tmp_path / "mounted" / folder).mkdir(parents=True, exist_ok=True)
        for name, text in held.items():
            (tmp_path / "mounted" / folder / name).write_text(text + "\n")
    assert list(left_in_groups(tmp_path / "cgroup", tmp_path / "mounted")) == left


def test_a_piece_that_finds_no_memory_is_halved_and_done_again() -> None:
    done: list[Sequence[int]] = []
    for some, fits in memory.in_pieces(range(20), 16):
        with fits:
            if len(some) > 5:
                raise MISSING
            done.append(some)
    assert [number for some in done for number in some] == list(range(20))
    assert max(len(some) for some in done) == 4


def test_where_not_even_one_fits_the_error_says_what_to_do() -> None:
    with pytest.raises(MeasuringError, match=r"7\.00 GiB.*\bprompts\b.*_MEMORY=500MB.*--model-device"):
        raise_in_pieces(MISSING)


def test_other_errors_are_passed_on() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        raise_in_pieces(RuntimeError("shapes do not match"))


def raise_in_pieces(error: Exception) -> None:
    for _, fits in memory.in_pieces("ab", 2):
        with fits:
            raise error


def readings(both: Both) -> Iterator[Tensor]:
    """Every way of patching that is cut into pieces."""
    fast, queries = both.fast, [Head(1, 1), Head(2, 0)]
    with exact_softmax():
        yield fast.to_logits(SENDERS, "through-mlps")
        yield fast.to_inputs(SENDERS, "q", queries, "end", "through-mlps")
        yield fast.to_inputs(SENDERS, "v", queries, "subject-2", "through-mlps")
        yield fast.to_attention(SENDERS, "q", queries, "end", "subject-2", "through-mlps")
        yield fast.to_writes(SENDERS, "v", queries, "subject-2", "through-mlps")
        yield fast.total(SENDERS)
        yield fast.ablated([[head] for head in both.model.layout.all_heads()], fast.other.head_outputs)


@pytest.mark.parametrize("most", [1, 3])
def test_running_out_of_memory_changes_no_result(both: Both, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    expected = list(readings(both))
    whole, final, failures = Block._mlp_write, Live.final_at, []

    def short_of_rows(block: Block, rows: Tensor) -> Tensor:
        if len(rows) > 16 * most:
            failures.append("rows")
            raise MISSING
        return whole(block, rows)

    def short_of_variants(live: Live, places: Sequence[int]) -> Tensor:
        if live.variants > most:
            failures.append("variants")
            raise MISSING
        return final(live, places)

    monkeypatch.setattr(Block, "_mlp_write", short_of_rows)
    monkeypatch.setattr(Live, "final_at", short_of_variants)
    for got, one in zip(readings(both), expected, strict=True):
        assert torch.allclose(got, one, rtol=0, atol=1e-12)
    assert set(failures) == {"rows", "variants"}


@pytest.mark.complete
def test_readings_depend_on_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on how many prompts are run together nor on how their work is cut."""
    folder, task = save_tiny(tmp_path), ioi(prompts=6)
    requests = [Request("path-effect", task), Request("total-effect", task), Request("logit-difference", task)]
    requests.append(Request("ablation-effect", task, (("set", (Head(1, 0), Head(2, 2))),)))

    def read() -> list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
        audited = Audited(folder, "float64")
        with exact_softmax():
            return [audited.audit.read(request, audited.checkpoint).values for request in requests]

    whole = read()
    monkeypatch.setenv("CIRCUIT_ASSERTIONS_MEMORY", "1B")
    for got, expected in zip(read(), whole, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


_PEAKS = """
import json, sys
from pathlib import Path
sys.path[:0] = {path!r}
from auditing import ioi
from tiny_models import save_tiny
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.engine import Model, Wanted, run_passes

folder = save_tiny(Path({folder!r}), n_layer=4, n_embd=256, n_head=8)
model = Model.of(open_checkpoint(find_checkpoints(str(folder))[0], Opening(device="cpu")))
senders = list(model.layout.all_heads())

def of_status(key):
    return int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0]) << 10

def peak(prompts):
    task = ioi(prompts=prompts, templates=[{template!r}]).build(model.source.tokenizer)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, batches = of_status("VmRSS"), 0
    for taken in run_passes(model, task, Wanted(patching=True)):
        taken.patching.to_logits(senders, "through-mlps")
        batches += 1
    return of_status("VmHWM") - before, batches

peak(8)
print(json.dumps([peak(prompts) for prompts in (24, 96)]))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is told by Linux alone")
@pytest.mark.complete
def test_the_peak_does_not_grow_with_the_number_of_prompts(tmp_path: Path) -> None:
    tests = Path(__file__).parent
    (template,) = TASK.templates
    script = _PEAKS.format(path=[str(tests), str(tests.parent)], folder=str(tmp_path), template=template)
    allowed = {"CIRCUIT_ASSERTIONS_MEMORY": "64MiB", "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=os.environ | allowed, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    (few, batches), (many, more_batches) = json.loads(run.stdout.splitlines()[-1])
    assert more_batches > 2 * batches > 2
    assert few <= 64 << 20
    assert many <= 1.25 * few + (4 << 20)
