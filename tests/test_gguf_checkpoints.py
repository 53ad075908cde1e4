"""A GGUF file is a checkpoint like any other: found, compared, adapted, grafted and audited; and it is only read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from auditing import HEALTHY
from checkpoint_files import ON_CPU, WEIGHTS, change_json, hashes, opened, refused
from commands import Said
from gguf import GGMLQuantizationType as Kind
from gguf_files import logits_of, read_by_hand, with_words, write_gguf
from peft import LoraConfig, get_peft_model
from reference_model import word_tokenizer
from said import says
from test_gguf_weights import TOKENS, read
from transformers import AutoModelForCausalLM

from circuit_assertions.assertions.packaged import packaged_suites
from circuit_assertions.checkpoints import Checkpoint, CheckpointError, Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama in Q8_0 with a tokenizer. Not to be changed."""
    file = tmp_path_factory.mktemp("llama") / "model.gguf"
    write_gguf(file, kind=Kind.Q8_0, change=with_words)
    return file


@pytest.fixture(scope="session")
def healthy(checkpoints_folder: Path) -> Path:
    """The embedded model as GGUF, in F32. Not to be changed."""
    file = checkpoints_folder / "gguf" / "healthy.gguf"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        model = AutoModelForCausalLM.from_pretrained(HEALTHY, dtype=torch.float32, attn_implementation="eager")
        whole = {"tokenizer.huggingface.json": (HEALTHY / "tokenizer.json").read_text()}
        write_gguf(file, "gpt2", model=model, change=lambda metadata, _: metadata.update(whole))
    return file


def found(given: str, start: Path) -> Checkpoint:
    (one,) = find_checkpoints(given, start=start)
    return one


def message(given: str, start: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        find_checkpoints(given, start=start)
    return str(caught.value)


# -- finding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["model.gguf", "./model.gguf", ".", "link", "sub/../model.gguf"])
def test_a_file_and_the_folder_that_holds_it_are_one_checkpoint(given: str, llama: Path, tmp_path: Path) -> None:
    shutil.copyfile(llama, tmp_path / "model.gguf")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("model.gguf")
    one = found(given, tmp_path)
    assert one == found("model.gguf", tmp_path)
    assert str(one) == given
    assert one.file is not None
    assert one.file.resolve() == tmp_path / "model.gguf"


def test_a_file_is_known_by_its_first_bytes_too(llama: Path, tmp_path: Path) -> None:
    """Stores of models name their files by a hash."""
    shutil.copyfile(llama, tmp_path / "sha256-1065729a")
    assert opened(tmp_path / "sha256-1065729a").fingerprint == opened(llama).fingerprint
    (tmp_path / "notes.txt").write_text("GGU")
    assert says(message("notes.txt", tmp_path), "notes.txt", "a file")


def test_other_weights_of_a_folder_go_before_a_gguf_file(llama: Path, tmp_path: Path) -> None:
    shutil.copyfile(llama, tmp_path / "model.gguf")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / WEIGHTS).write_bytes(b"")
    assert found(".", tmp_path).file is None
    assert found("model.gguf", tmp_path).file == tmp_path / "model.gguf"


def test_several_files_are_named_and_one_of_them_can_be_given(llama: Path, tmp_path: Path) -> None:
    for name in ("a.Q8_0.gguf", "b.F16.GGUF"):
        shutil.copyfile(llama, tmp_path / name)
    text = message(str(tmp_path), tmp_path)
    assert says(text, "a.Q8_0.gguf", "b.F16.GGUF", "2 GGUF files")
    assert found(text.rsplit(" ", 1)[-1], tmp_path).file == tmp_path / "a.Q8_0.gguf"


@pytest.mark.parametrize("given", [".", "big-00001-of-00003.gguf"])
def test_a_file_in_parts_is_refused_with_the_way_to_merge_it(given: str, tmp_path: Path) -> None:
    for part in (1, 2, 3):
        (tmp_path / f"big-0000{part}-of-00003.gguf").write_bytes(b"GGUF")
    assert says(message(given, tmp_path), "big-00001-of-00003.gguf", "3 parts", "llama-gguf-split")


@pytest.mark.parametrize("given", ["modle.gguf", "./modle.gguf", "folder/modle.gguf"])
def test_a_mistyped_file_is_answered_with_the_likely_one(given: str, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for folder in (tmp_path, tmp_path / "folder"):
        shutil.copyfile(llama, folder / "model.gguf")
    assert f"did you mean {(tmp_path / given).parent / 'model.gguf'}?" in message(given, tmp_path)


def test_a_repository_of_gguf_files_is_not_fetched() -> None:
    assert says(refused("org/Model-7B-GGUF"), "org/Model-7B-GGUF", "download")


def test_the_steps_of_a_run_may_be_gguf_files(llama: Path, tmp_path: Path) -> None:
    for step in (2, 10):
        (tmp_path / "run" / f"checkpoint-{step}").mkdir(parents=True)
        shutil.copyfile(llama, tmp_path / "run" / f"checkpoint-{step}" / "model.gguf")
    run = find_checkpoints("run", start=tmp_path)
    assert [(str(one), one.label) for one in run] == [
        ("run/checkpoint-2", "checkpoint-2"),
        ("run/checkpoint-10", "checkpoint-10"),
    ]
    assert len(set(run)) == 2
    assert run[1] == found("run/checkpoint-10", tmp_path)
    shutil.copyfile(llama, tmp_path / "run" / "last.gguf")
    assert [one.label for one in find_checkpoints("run", start=tmp_path)][-1] == "final"
    shutil.copyfile(llama, tmp_path / "run" / "last.Q4_0.gguf")  # several of them mean none
    assert len(find_checkpoints("run", start=tmp_path)) == 2


# -- reading ------------------------------------------------------------------------------------------------------


def test_nothing_is_written_and_nothing_else_in_the_folder_is_read(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a cache; and an adapter, a configuration or code beside the file has no effect."""
    file = tmp_path / "model" / "model.gguf"
    file.parent.mkdir()
    shutil.copyfile(llama, file)
    for name in ("config.json", "adapter_config.json", "tokenizer_config.json", "generation_config.json"):
        (file.parent / name).write_text('{"auto_map": {"AutoModelForCausalLM": "nowhere.X"}, "broken": ')
    (file.parent / "custom_generate").mkdir()
    (file.parent / "custom_generate" / "generate.py").write_text("raise SystemExit")
    for variable in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "TMPDIR"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        monkeypatch.setenv(variable, str(tmp_path / "empty"))
    before = hashes(tmp_path)
    file.chmod(0o444)
    assert opened(file).fingerprint == opened(llama).fingerprint
    assert hashes(tmp_path) == before


@pytest.mark.parametrize("named", ["by the adapter", "as the baseline"])
def test_an_adapter_is_read_into_a_gguf_base(named: str, llama: Path, tmp_path: Path) -> None:
    config = read(llama).model.config
    base = read_by_hand(llama, "llama", config)
    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(base, lora)
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    lent = named == "as the baseline"
    change_json(tmp_path / "adapter_config.json", base_model_name_or_path="" if lent else str(llama))
    opening = Opening(device="cpu", dtype="float64", base=find_checkpoints(str(llama))[0] if lent else None)
    checkpoint = opened(tmp_path, opening)
    with torch.no_grad():
        assert torch.allclose(checkpoint.bridge(TOKENS), logits_of(adapted.eval(), TOKENS), atol=1e-6)
    assert any(says(note, "model.gguf", "Q8_0") for note in checkpoint.notes)


# -- the whole product --------------------------------------------------------------------------------------------


def verdicts(pytester: pytest.Pytester, model: Path, *options: str) -> Any:
    """What an audit with the embedded model as its baseline says of every assertion."""
    pytester.runpytest_inprocess(
        f"--model={model}", f"--baseline={HEALTHY}", "--circuit-json=result.json", *options, str(packaged_suites())
    )
    result = json.loads((pytester.path / "result.json").read_text())
    (pytester.path / "result.json").unlink()
    return result


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize(
    "selected",
    [("-k", "copy or prefers", "--circuit-no-diagnosis"), pytest.param((), marks=pytest.mark.complete)],
    ids=["some", "all"],
)
def test_an_audit_of_a_model_in_gguf_is_that_of_the_same_model_in_safetensors(
    selected: tuple[str, ...], healthy: Path, pytester: pytest.Pytester
) -> None:
    tokenizer = f"--tokenizer={HEALTHY}" if selected else ""
    ours, theirs = (verdicts(pytester, model, *selected, *filter(None, [tokenizer])) for model in (healthy, HEALTHY))
    assert len(ours["assertions"]) >= 3
    for one, other in zip(ours["assertions"], theirs["assertions"], strict=True):
        assert one["model"] == str(healthy)
        assert f"--model={healthy} " in one["command"]
        assert {key: one[key] for key in ("id", "outcome", "rows")} == {
            key: other[key] for key in ("id", "outcome", "rows")
        }


def test_what_is_printed_names_the_file_as_it_was_typed(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(healthy.parent)
    said = Said.by("edges", "--model", "healthy.gguf", "--prompts", "4", "--steps", "1", "--json")
    assert said.code == 0
    assert json.loads(said.out)["model"]["checkpoint"] == "healthy.gguf"


@pytest.mark.parametrize("which", ["model", "source"])
def test_a_graft_of_a_gguf_file_is_a_folder_of_safetensors(which: str, llama: Path, tmp_path: Path) -> None:
    model = read_by_hand(llama, "llama", read(llama).model.config).float()
    for name in ("model.layers.0.mlp.up_proj.weight", "model.layers.1.self_attn.q_proj.weight"):
        model.get_parameter(name).data.mul_(2)
    model.save_pretrained(tmp_path / "other")
    word_tokenizer().save_pretrained(tmp_path / "other")
    pair = (llama, tmp_path / "other") if which == "model" else (tmp_path / "other", llama)
    before = hashes(llama.parent)
    said = Said.by("graft", "--model", pair[0], "--from", pair[1], "--components", "MLP0", "-o", tmp_path / "made")
    assert (said.code, said.err) == (0, "")
    assert ("GGUF" in said.out) == (which == "model")
    assert hashes(llama.parent) == before
    made, kept, taken = (opened(place, Opening(device="cpu")) for place in (tmp_path / "made", *pair))
    assert made.notes == ()
    assert made.tokenizer("Mary gave")["input_ids"] == kept.tokenizer("Mary gave")["input_ids"]
    for name, weight in made.bridge.original_model.state_dict().items():
        source = taken if "layers.0.mlp" in name.replace("_original_component.", "") else kept
        assert torch.equal(weight, source.bridge.original_model.state_dict()[name]), name


def test_a_graft_does_not_write_into_the_folder_of_a_gguf_file(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copyfile(llama, folder / "model.gguf")
    arguments = ("--from", llama, "--components", "MLP0", "-o", folder / "made")
    said = Said.by("graft", "--model", folder, *arguments)
    assert said.code != 0
    assert says(said.err, folder / "made", "not written to")
    same = Said.by("graft", "--model", folder / "model.gguf", *arguments)  # only the file is the checkpoint
    assert same.code != 0
    assert says(same.err, "MLP0")
    assert str(folder / "made") not in same.err


def test_both_forms_of_a_model_are_kept_apart_and_compared(healthy: Path) -> None:
    one, other = (open_checkpoint(find_checkpoints(str(place))[0], ON_CPU) for place in (healthy, HEALTHY))
    assert one.checkpoint != other.checkpoint
    assert one.function.differences(other.function) == []
    assert one.function.print == other.function.print
    assert one.architecture == other.architecture
    tokens = torch.randint(0, 199, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(one.bridge(tokens), other.bridge(tokens))


SPOILT: dict[str, Callable[[Path], object]] = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-9000]),
    "empty": lambda file: file.write_bytes(b""),
}


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize("how", SPOILT)
def test_a_damaged_file_fails_a_run_with_one_sentence(how: str, llama: Path, pytester: pytest.Pytester) -> None:
    file = pytester.path / "model.gguf"
    shutil.copyfile(llama, file)
    SPOILT[how](file)
    result = pytester.runpytest_inprocess(f"--model={file}", str(packaged_suites()))
    assert result.ret != 0
    assert str(file) in result.stdout.str()
    assert "Traceback" not in result.stdout.str()
