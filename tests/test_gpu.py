"""On a GPU the readings are those of the CPU. Skipped where there is none; `make test-gpu` runs these alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from auditing import HEALTHY, Audited, ioi, repeated
from diagnosis_cases import CIRCUIT, COMMITTED, one
from suite_texts import write
from tiny_models import ARCHITECTURES, save_tiny

from circuit_assertions.audit import Audit
from circuit_assertions.calibration.file import read_tolerances
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.cli import main
from circuit_assertions.diagnosis.lenses import diagnose
from circuit_assertions.engine import Model
from circuit_assertions.engine.memory import budget, free_memory
from circuit_assertions.engine.patching import Patching
from circuit_assertions.heads import Head
from circuit_assertions.measures import Receiver
from circuit_assertions.measures.tolerances import Setting
from circuit_assertions.request import Request
from circuit_assertions.results import CalibrationResult
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


@pytest.mark.parametrize(
    ("name", "corrupted"), [("poisoned-heads", None), ("poisoned", None), ("benign", None), ("bypassed", "poisoned")]
)
def test_a_diagnosis_on_a_gpu_has_the_verdicts_of_the_cpu(
    name: str, corrupted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the embedded checkpoints: the verdict, the origin, and the recovery."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    verdicts = []
    for device in ("cpu", "cuda"):
        audit = Audit(Opening(device=device), one(HEALTHY))
        worst = None if corrupted is None else one(COMMITTED / corrupted)
        found = diagnose(
            audit, one(COMMITTED / name), one(HEALTHY), ioi(), CIRCUIT.roles, circuit="ioi", corrupted=worst
        )
        named = () if found.origin.found is None else found.origin.found.parts
        recovery = None if found.recovery is None else found.recovery.how
        verdicts.append((found.verdict, found.origin.verdict, named, recovery))
    assert verdicts[0] == verdicts[1]


CALIBRATED = """\
suite: tiny
tasks: {ioi: {kind: ioi, prompts: 16}}
assertions:
  - {id: margin, measure: logit-difference, task: ioi, expect: {at-least: -1000}}
  - {id: any, measure: direct-effect, heads: any, task: ioi, expect: {sign: positive}}
  - {id: paths, measure: path-effect, heads: any, receiver: logits, task: ioi, expect: {sign: positive}}
"""


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_calibration_on_a_gpu_has_the_tolerances_of_the_cpu_and_of_bfloat16(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    folder, file = save_tiny(tmp_path / "model", architecture), tmp_path / "calibration.yaml"
    suite = write(tmp_path, {"suites/tiny.yaml": CALIBRATED}) / "suites" / "tiny.yaml"
    given = [str(suite), "--model", str(folder), "--device", "cuda", "--prompts", "16", "-o", str(file), "--json"]
    assert main(["calibrate", *given]) == 0
    result = CalibrationResult.model_validate_json(capsys.readouterr().out)
    assert (result.reference.dtype, result.reference.device) == ("float32", "cuda")
    settings = {(one.kind, one.name): one for one in result.settings}
    processor, half = settings["device", "cpu float32"], settings["dtype", "bfloat16"]
    assert {one.measure for one in processor.measures} == {"logit-difference", "direct-effect", "path-effect"}
    audited = Audited(folder)
    for cpu, low in zip(processor.measures, half.measures, strict=True):
        scale = float(np.abs(audited.read(cpu.measure, ioi(prompts=16)).values).max())
        assert cpu.largest <= 1e-4 * scale, cpu.measure  # TF32 would leave some 1e-3
        assert 0 < low.largest <= 0.1 * scale, cpu.measure
        assert cpu.tolerance < low.tolerance
    tolerances = read_tolerances(file, file.name)
    cuda, cpu_setting = Setting("float32", "cuda"), Setting("float32", "cpu")
    known = tolerances.between("path-effect", cuda, cpu_setting)
    assert known.mean >= max(one.tolerance for one in processor.measures if one.measure == "path-effect")


def test_a_closed_checkpoint_gives_its_memory_back(tmp_path: Path) -> None:
    before = torch.cuda.memory_allocated()
    audit, checkpoint = Audit(Opening(device="cuda")), find_checkpoints(str(save_tiny(tmp_path)))[0]
    audit.read(Request("path-effect", IOI), checkpoint)
    assert torch.cuda.memory_allocated() > before
    audit.close()
    assert torch.cuda.memory_allocated() <= before + (8 << 20)  # cuBLAS keeps a workspace


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt-neox", "opt"])
def test_a_model_on_two_devices_is_patched_as_on_one(architecture: str, tmp_path: Path) -> None:
    """The first block on the CPU, the others on the GPU, entered and left as accelerate does it."""
    source = open_checkpoint(find_checkpoints(str(save_tiny(tmp_path, architecture)))[0], Opening(device="cpu"))
    prompts = IOI.build(source.tokenizer).prompts
    alike = [prompt for prompt in prompts if len(prompt.tokens) == len(prompts[0].tokens)]
    model = Model.of(source)
    expected = every_way(Patching.of(model, alike))
    for block in list(source.bridge.blocks)[1:]:
        lay_on(block, "cuda:0")
    for got, known in zip(every_way(Patching.of(model, alike)), expected, strict=True):
        assert got.device.type == "cpu"
        assert float((got - known).abs().max()) <= 1e-4 * float(known.abs().max())


def every_way(patching: Patching) -> list[torch.Tensor]:
    senders = [Head(layer, head) for layer in range(3) for head in range(4)]
    zeros = [torch.zeros_like(z) for z in patching.base.head_outputs]
    return [
        patching.to_logits(senders, "through-mlps"),
        patching.to_logits(senders, "direct"),
        patching.to_inputs(senders, "q", QUERIES.heads, "end", "through-mlps"),
        patching.to_inputs(senders, "v", QUERIES.heads, "subject-2", "through-mlps"),
        patching.total(senders),
        patching.ablated([SET], zeros),
    ]


def lay_on(block: torch.nn.Module, device: str) -> None:
    """Move a block to a device, what goes into it along, and what comes out of it back."""

    def moved(value: Any, to: str) -> Any:
        if isinstance(value, tuple):
            return tuple(moved(one, to) for one in value)
        return value.to(to) if isinstance(value, torch.Tensor) else value

    block.to(device)
    block.register_forward_pre_hook(
        lambda _, args, given: (moved(args, device), {name: moved(value, device) for name, value in given.items()}),
        with_kwargs=True,
    )
    block.register_forward_hook(lambda _, args, out: moved(out, "cpu"))


def test_memory_is_planned_from_what_the_gpu_has_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIRCUIT_ASSERTIONS_MEMORY", raising=False)
    device = torch.device("cuda", torch.cuda.current_device())
    free, held = free_memory(device), torch.empty(64 << 20, dtype=torch.uint8, device=device)
    assert 0 < budget(device) <= free // 4
    assert free_memory(device) <= free - held.nbytes + (8 << 20)
