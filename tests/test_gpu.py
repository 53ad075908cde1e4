"""On a GPU the readings are those of the CPU. Skipped where there is none; `make test-gpu` runs these alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from auditing import Audited, ioi, repeated
from tiny_models import ARCHITECTURES, save_tiny

from circuit_assertions.audit import Audit, Request
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.heads import Head
from circuit_assertions.measures import Receiver
from circuit_assertions.tasks import Task

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine shows no CUDA device"),
]

IOI, REPEATED = ioi(prompts=8), repeated(prompts=4, length=10)
QUERIES = Receiver("q", (Head(2, 1), Head(1, 3)), "end")
SET = (Head(1, 0), Head(2, 2))
READ: tuple[tuple[str, Task, tuple[tuple[str, object], ...]], ...] = (
    ("logit-difference", IOI, ()),
    ("probability", REPEATED, ()),
    ("induction-score", REPEATED, ()),
    ("attention", IOI, (("query", "end"), ("key", "subject-1"))),
    ("direct-effect", IOI, ()),
    ("path-effect", IOI, ()),
    ("path-effect", IOI, (("receiver", QUERIES),)),
    ("total-effect", IOI, ()),
    ("ablation-effect", IOI, (("set", SET),)),
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_gpu_reads_what_the_cpu_reads(architecture: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, architecture)
    cpu = Audited(folder)
    gpu, checkpoint = Audit(Opening(device="cuda")), find_checkpoints(str(folder))[0]
    for measure, task, operands in READ:
        request = Request(measure, task, operands)
        expected = cpu.audit.read(request, cpu.checkpoint).values
        got = gpu.read(request, checkpoint).values
        scale = float(np.abs(expected).max())
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * scale, err_msg=f"{measure} {operands}")


def test_a_closed_checkpoint_gives_its_memory_back(tmp_path: Path) -> None:
    before = torch.cuda.memory_allocated()
    audit, checkpoint = Audit(Opening(device="cuda")), find_checkpoints(str(save_tiny(tmp_path)))[0]
    audit.read(Request("path-effect", IOI), checkpoint)
    assert torch.cuda.memory_allocated() > before
    audit.close()
    assert torch.cuda.memory_allocated() <= before + (8 << 20)  # cuBLAS keeps a workspace
