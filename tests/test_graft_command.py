"""`circuit-assertions graft`: what it writes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from auditing import ioi
from checkpoint_files import change_json, change_tensors, copy_of, hashes
from checkpoint_files import opened as opened_with
from grafting_cases import Two, opened
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive_patching import exact_softmax
from safetensors.torch import load_file
from said import says
from tiny_models import save_tiny
from transformers import AutoModelForCausalLM

from circuit_assertions.checkpoints import find_checkpoints
from circuit_assertions.checkpoints.grafting import RECORD, graft
from circuit_assertions.checkpoints.parts import parts_of
from circuit_assertions.cli import main
from circuit_assertions.components import Mlp, Part
from circuit_assertions.engine import Model
from circuit_assertions.engine.grafting import Grafting
from circuit_assertions.heads import Head
from circuit_assertions.results import GraftResult
from fixtures.planted import Damage, plant_in_copy

HEALTHY = Path(__file__).parents[1] / "fixtures" / "checkpoints" / "healthy"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with two heads and an MLP damaged. Not to be changed."""
    damages: list[Damage] = [("negate", [Head(3, 2), Head(2, 0)]), ("noise", [Mlp(0)])]
    return plant_in_copy(HEALTHY, tmp_path_factory.mktemp("planted") / "broken", damages)


def command(model: Path | str, source: Path | str, components: str, output: Path, *options: str) -> int:
    arguments = ["--model", str(model), "--from", str(source), "--components", components, "-o", str(output)]
    return main(["graft", *arguments, *options])


def test_a_localized_fault_is_mended_to_the_last_bit(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashes(broken), hashes(HEALTHY)
    output = tmp_path / "new" / "repaired"
    assert command(broken, HEALTHY, "L3H2,L2H0, MLP0,L1H1,L3H2", output) == 0
    assert (hashes(broken), hashes(HEALTHY)) == before
    written = hashes(output)
    record = GraftResult.model_validate_json((output / RECORD).read_text())
    del written[RECORD]
    assert written == before[1]
    assert record.components == ("L3H2", "L2H0", "MLP0")
    assert record.same_already == ("L1H1",)
    assert record.source.fingerprint == record.fingerprint != record.model.fingerprint
    assert (record.folder, record.model.checkpoint) == (str(output), str(broken))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"written     {output}: {broken} with L3H2, L2H0, MLP0 of {HEALTHY}"
    assert says(printed[1], "L1H1", "same weights")
    assert printed[-2] == f"audit       circuit-assertions audit {output} --baseline={HEALTHY}"
    assert printed[-1] == f"diagnose    circuit-assertions diagnose --model={output} --baseline={HEALTHY}"


def test_all_else_is_the_broken_ones(broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(broken, HEALTHY, "L3H2", tmp_path / "out", "--json") == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / RECORD).read_text()
    said = json.loads(printed)
    assert (said["kind"], said["schema_version"], said["components"]) == ("graft", 1, ["L3H2"])
    assert "circuit-assertions" in said["versions"]
    before, after, healthy = (load_file(folder / WEIGHTS) for folder in (broken, tmp_path / "out", HEALTHY))
    differ = [name for name in before if not torch.equal(before[name], after[name])]
    assert differ == ["transformer.h.3.attn.c_proj.weight"]
    width = before[differ[0]].shape[1] // 4
    own = slice(2 * width, 3 * width)
    assert torch.equal(after[differ[0]][own], healthy[differ[0]][own])
    expected = before[differ[0]].clone()
    expected[own] = healthy[differ[0]][own]
    assert torch.equal(after[differ[0]], expected)


@pytest.fixture(
    scope="module",
    params=["gpt2", "llama", *(pytest.param(name, marks=pytest.mark.complete) for name in ("gpt-neox", "opt"))],
)
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Two:
    return Two(request.param, tmp_path_factory.mktemp("models"))


@pytest.mark.sample(1)
@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_what_the_graft_in_memory_was(
    two: Two, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    with exact_softmax():
        grafting = Grafting(*two.models, two.prompts)
        parts: list[Part] = data.draw(st.lists(st.sampled_from(grafting.parts), min_size=1, unique=True))
        output = tmp_path_factory.mktemp("written") / "out"
        broken, healthy = (find_checkpoints(str(folder))[0] for folder in two.folders)
        assert graft(broken, healthy, parts, output, record=str).parts == tuple(parts)
        written = Grafting(opened(output), two.models[1], two.prompts).difference()
        # Llama's RMSNorm rounds to float32 whatever the model's dtype.
        bound = 1e-6 if two.name == "llama" else 1e-10
        torch.testing.assert_close(grafting.difference(parts), written, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_broken_ones_dtype_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    broken, healthy = (save_tiny(tmp_path / str(seed), "llama", seed=seed) for seed in (0, 1))
    # A file of two precisions: norms as they were, all else halved.
    change_tensors(
        broken / WEIGHTS,
        lambda tensors: tensors.update(
            {name: tensor.to(dtype) for name, tensor in tensors.items() if "norm" not in name}
        ),
    )
    assert command(broken, healthy, "L1H0,NORM2", tmp_path / "out") == 0
    before, after, given_ = (load_file(folder / WEIGHTS) for folder in (broken, tmp_path / "out", healthy))
    assert {name: tensor.dtype for name, tensor in after.items()} == {
        name: tensor.dtype for name, tensor in before.items()
    }
    differ = {name for name in before if not torch.equal(before[name], after[name])}
    queries = "model.layers.1.self_attn.q_proj.weight"
    assert queries in differ
    assert all(".1.self_attn" in name or ".2." in name for name in differ)
    assert torch.equal(after[queries][:8], given_[queries][:8].to(dtype))
    assert torch.equal(after[queries][8:], before[queries][8:])
    assert (broken / "config.json").read_bytes() == (tmp_path / "out" / "config.json").read_bytes()


def test_shards_and_names_without_a_prefix_are_read(tmp_path: Path) -> None:
    broken, healthy = (save_tiny(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    sharded = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(healthy).save_pretrained(sharded, max_shard_size="20KB")
    assert len(list(sharded.glob("model-*.safetensors"))) > 1
    bare = copy_of(broken, tmp_path / "bare")

    def strip(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name).bfloat16()

    change_tensors(bare / WEIGHTS, strip)
    assert command(bare, sharded, "L0H1,MLP2", tmp_path / "out") == 0
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / WEIGHTS).values()} == {torch.bfloat16}
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16)
    own, given_ = parts_of(after).weights, parts_of(AutoModelForCausalLM.from_pretrained(healthy)).weights
    for part, weights in own.items():
        same = all(torch.equal(one, two.bfloat16()) for one, two in zip(weights, given_[part], strict=True))
        assert same == (part in (Head(0, 1), Mlp(2)))


def test_an_adapter_is_merged_and_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = HEALTHY.parent / "poisoned-lora"
    before = hashes(adapter)
    assert command(adapter, HEALTHY, "L3H2,L0H0", tmp_path / "out") == 0
    assert says(capsys.readouterr().out, f"{adapter} is an adapter", "merged")
    assert hashes(adapter) == before
    written, merged, healthy = (Model.of(opened_with(folder)) for folder in (tmp_path / "out", adapter, HEALTHY))
    prompts = ioi(prompts=4).build(written.source.tokenizer)
    assert set(Grafting(written, merged, prompts).changed) == {Head(3, 2), Head(0, 0)}
    assert not {Head(3, 2), Head(0, 0)} & set(Grafting(written, healthy, prompts).changed)


def test_what_cannot_be_done_is_said_in_one_line(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deeper = save_tiny(tmp_path / "deeper", n_layer=4)
    tiny = save_tiny(tmp_path / "tiny", seed=1)
    grown = save_tiny(tmp_path / "grown", n_inner=64)
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    capsys.readouterr()
    out = tmp_path / "out"
    nothing, notes = HEALTHY.parents[1] / "made" / "nothing", full / "notes.txt"
    for model, source, components, output, named in (
        (broken, HEALTHY, "mlp0", out, ["'mlp0'", "MLP0"]),
        (broken, HEALTHY, "L3H2,RESID1", out, ["RESID1", "residual stream"]),
        (broken, HEALTHY, "", out, ["''", "L9H10", "UNEMBED"]),
        (broken, HEALTHY, "L3H4", out, [broken, "L3H4", "5 layers", "4 heads"]),
        (broken, HEALTHY, "MLP5", out, [broken, "MLP5", "5 layers"]),
        (broken, HEALTHY, "UNEMBED", out, [broken, "UNEMBED", "tied", "graft EMBED"]),
        (broken, HEALTHY, "L1H1,NORM0", out, [broken, HEALTHY, "same weights", "L1H1, NORM0"]),
        (broken, HEALTHY, "L3H2", full, [full, "not empty"]),
        (broken, HEALTHY, "L3H2", notes, [f"{notes} is a file"]),
        (broken, HEALTHY, "L3H2", notes / "a", [notes / "a", f"because {notes}"]),
        (broken, HEALTHY, "L3H2", broken / "new", [broken / "new", f"in {broken}"]),
        (broken, tiny, "L2H0", out, [tiny, broken, "3 layers", "5 layers"]),
        (deeper, tiny, "L2H0", out, [deeper, tiny, "GPT2LMHeadModel", "3 layers x 4 heads", "4 layers x 4 heads"]),
        (grown, tiny, "L2H0,MLP1", out, [tiny, grown, "MLP1", "shapes"]),
        (nothing, HEALTHY, "L3H2", out, [nothing]),
    ):
        assert command(model, source, components, output) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert says(printed.err, *named)
        assert len(printed.err.splitlines()) == 1
        assert not out.exists()
    assert [file.name for file in full.iterdir()] == ["notes.txt"]


def test_a_training_run_is_refused(broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (10, 20):
        copy_of(broken, tmp_path / "run" / f"checkpoint-{step}")
    for model, source in ((tmp_path / "run", HEALTHY), (HEALTHY, tmp_path / "run")):
        assert command(model, source, "L3H2", tmp_path / "out") == 2
        assert says(capsys.readouterr().err, tmp_path / "run", "training run")


def test_a_part_of_another_shape_is_no_matter_where_it_is_not_asked_for(tmp_path: Path) -> None:
    broken, healthy = save_tiny(tmp_path / "broken", n_inner=64), save_tiny(tmp_path / "healthy", seed=1)
    assert command(broken, healthy, "L2H0,NORM1", tmp_path / "out") == 0


def test_of_a_checkpoint_that_cannot_be_written_nothing_is_left(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", fill_up)
    assert command(broken, HEALTHY, "L3H2", tmp_path / "out") == 2
    assert says(capsys.readouterr().err, tmp_path / "out", os.strerror(errno.ENOSPC))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_generation_config_that_transformers_would_not_write_is_kept(broken: Path, tmp_path: Path) -> None:
    sampled = copy_of(broken, tmp_path / "sampled")
    change_json(sampled / "generation_config.json", temperature=0.6, do_sample=False)
    assert command(sampled, HEALTHY, "L3H2", tmp_path / "out") == 0
    name = "generation_config.json"
    assert (tmp_path / "out" / name).read_bytes() == (sampled / name).read_bytes()


def test_a_tokenizer_is_lent_by_the_other(broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = copy_of(broken, tmp_path / "bare", without="tokenizer.json")
    assert command(bare, HEALTHY, "L3H2", tmp_path / "out") == 0
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (HEALTHY / "tokenizer.json").read_bytes()
    barest = copy_of(HEALTHY, tmp_path / "barest", without="tokenizer.json")
    assert command(bare, barest, "L3H2", tmp_path / "without") == 0
    assert says(capsys.readouterr().out, "without a tokenizer")
