"""What `--model` may be given, and which checkpoints it then stands for. Nothing here opens a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from said import says

from circuit_assertions.checkpoints import Checkpoint, CheckpointError, Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_tokenizer


def _checkpoint(folder: Path, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / weights).write_bytes(b"")
    return folder


def _adapter(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    return folder


def _labels(checkpoints: tuple[Checkpoint, ...]) -> list[str]:
    return [checkpoint.label for checkpoint in checkpoints]


def _message(given: str, *, start: Path | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        find_checkpoints(given, start=start)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("weights", ["model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin"])
def test_a_folder_with_config_and_weights_is_one_checkpoint(tmp_path: Path, weights: str) -> None:
    folder = _checkpoint(tmp_path / "model", weights)
    (found,) = find_checkpoints(str(folder))
    assert (str(found), found.folder, found.label, found.adapter) == (str(folder), folder, "", False)


@pytest.mark.parametrize("given", ["model/", "./model", "other/../model", "link"])
def test_a_folder_is_one_checkpoint_however_it_is_spelled(tmp_path: Path, given: str) -> None:
    for name in ("model", "other"):
        _checkpoint(tmp_path / name)
    (tmp_path / "link").symlink_to("model")
    one, two, other = (find_checkpoints(said, start=tmp_path)[0] for said in ("model", given, "other"))
    assert one == two
    assert len({one, two, other}) == 2
    assert (str(one), str(two)) == ("model", given)


def test_the_steps_of_a_run_are_told_apart_though_their_links_lead_to_one_folder(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "model")
    (tmp_path / "run").mkdir()
    for step in (1, 2):
        (tmp_path / "run" / f"checkpoint-{step}").symlink_to(tmp_path / "model")
    assert len({*find_checkpoints(str(tmp_path / "run")), *find_checkpoints(str(tmp_path / "model"))}) == 3


def test_a_step_of_a_run_is_the_same_by_its_own_path(tmp_path: Path) -> None:
    for step in (1, 2):
        _checkpoint(tmp_path / "run" / f"checkpoint-{step}")
    (alone,) = find_checkpoints("run/checkpoint-2/", start=tmp_path)
    run = find_checkpoints("run", start=tmp_path)
    assert [one == alone for one in run] == [False, True]
    assert len({*run, alone}) == 2


def test_a_relative_path_is_taken_from_where_the_user_stands(tmp_path: Path) -> None:
    folder = _checkpoint(tmp_path / "runs" / "model")
    (found,) = find_checkpoints("runs/model", start=tmp_path)
    assert found.folder == folder
    assert str(found) == "runs/model"


def test_an_adapter_is_known_by_its_config(tmp_path: Path) -> None:
    (found,) = find_checkpoints(str(_adapter(tmp_path / "adapter")))
    assert found.adapter


def test_a_training_run_stands_for_its_checkpoints_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for step in (10, 9, 100, 1):
        _checkpoint(tmp_path / f"checkpoint-{step}")
    found = find_checkpoints(str(tmp_path))
    assert _labels(found) == ["checkpoint-1", "checkpoint-9", "checkpoint-10", "checkpoint-100"]
    assert str(found[1]) == f"{tmp_path}/checkpoint-9"


def test_weights_in_the_root_of_a_run_are_its_final_checkpoint(tmp_path: Path) -> None:
    run = _checkpoint(tmp_path / "final")  # a run may itself be called so
    _checkpoint(run / "checkpoint-3")
    found = find_checkpoints(str(run))
    assert _labels(found) == ["checkpoint-3", "final"]
    assert [checkpoint.folder for checkpoint in found] == [run / "checkpoint-3", run]
    assert str(found[-1]) == str(run)


def test_a_run_that_trains_an_adapter_is_a_run_and_not_one_adapter(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "checkpoint-20", tmp_path / "checkpoint-3"):
        _adapter(folder)
    found = find_checkpoints(str(tmp_path))
    assert _labels(found) == ["checkpoint-3", "checkpoint-20", "final"]
    assert all(checkpoint.adapter for checkpoint in found)


def test_what_else_lies_in_a_run_is_no_checkpoint(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "checkpoint-5")
    (tmp_path / "checkpoint-6").mkdir()  # nothing was written before the run was stopped
    (tmp_path / "checkpoint-7").write_text("a file")
    for name in ("checkpoint-best", "old-checkpoint-8", "runs"):
        _checkpoint(tmp_path / name)
    for name in ("optimizer.pt", "scheduler.pt", "training_args.bin", "trainer_state.json"):
        (tmp_path / name).write_bytes(b"")
    assert _labels(find_checkpoints(str(tmp_path))) == ["checkpoint-5"]


@pytest.mark.parametrize(
    ("given", "hub_id", "revision"),
    [
        ("gpt2", "gpt2", None),
        ("org/some-model.v2", "org/some-model.v2", None),
        ("org/name@v1.0", "org/name", "v1.0"),
        ("gpt2@607a30d783dfa663caf39e06633721c8d4cfcd7e", "gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e"),
    ],
)
def test_what_is_no_folder_may_be_a_hub_id(given: str, hub_id: str, revision: str | None, tmp_path: Path) -> None:
    (found,) = find_checkpoints(given, start=tmp_path)
    assert (str(found), found.folder, found.hub_id, found.revision) == (given, None, hub_id, revision)
    assert found == Checkpoint("spelled otherwise", hub_id=hub_id, revision=revision)
    assert found != Checkpoint(given, hub_id=hub_id, revision="another")


def test_a_folder_goes_before_a_hub_id_of_the_same_name(tmp_path: Path) -> None:
    (found,) = find_checkpoints("gpt2", start=_checkpoint(tmp_path / "gpt2").parent)
    assert found.hub_id is None


@pytest.mark.parametrize("given", ["./nowhere", "/nowhere/at/all", "nowhere/", "a/b/c", "~nobody-at-all/model", "a\0b"])
def test_a_path_that_is_not_there_is_said_to_be_missing(given: str, tmp_path: Path) -> None:
    assert _message(given, start=tmp_path).startswith("no such path: ")


def test_a_mistyped_path_is_answered_with_the_likely_one(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "healthy")
    assert _message(f"{tmp_path}/helthy") == f"no such path: {tmp_path}/helthy (did you mean {tmp_path}/healthy?)"


def test_a_mistyped_folder_on_the_way_is_answered_too(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "checkpoints" / "healthy")
    assert f"did you mean {tmp_path}/checkpoints/healthy?" in _message(f"{tmp_path}/chekpoints/healthy")


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    assert says(_message(str(tmp_path)), tmp_path, "empty")


def test_a_file_is_answered_with_the_wish_for_its_folder(tmp_path: Path) -> None:
    assert "is a file: give the folder" in _message(str(_checkpoint(tmp_path) / "model.safetensors"))


def test_a_config_without_weights_is_named_as_such(tmp_path: Path) -> None:
    (_checkpoint(tmp_path) / "model.safetensors").unlink()
    assert says(_message(str(tmp_path)), tmp_path, "config", "no weights")


def test_a_folder_that_is_called_like_a_weight_file_is_none(tmp_path: Path) -> None:
    (_checkpoint(tmp_path) / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").mkdir()
    assert says(_message(str(tmp_path)), tmp_path, "config", "no weights")


def test_weights_without_a_config_are_named_as_such(tmp_path: Path) -> None:
    (_checkpoint(tmp_path) / "config.json").unlink()
    assert says(_message(str(tmp_path)), tmp_path, "weights", "no config.json")


@pytest.mark.parametrize("given", ["", "   "])
def test_an_empty_string_is_no_model(given: str) -> None:
    assert "empty string" in _message(given)


def test_a_name_that_is_too_long_for_a_file_is_refused_in_one_sentence() -> None:
    assert len(_message("a" * 5000)) < 400


def test_a_hub_id_that_is_not_cached_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _checkpoint(tmp_path / "surely-not-cached")
    with pytest.raises(CheckpointError, match=r"\bHub\b") as caught:
        open_tokenizer(find_checkpoints("surely-not-cachd")[0])
    assert "\n" not in str(caught.value)
    assert says(caught.value, "surely-not-cachd", "surely-not-cached/?")


def test_a_hub_id_is_fetched_at_its_revision_and_without_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def snapshot_download(repo: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(repo=repo, revision=revision, patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        open_tokenizer(find_checkpoints("org/name@v2")[0], Opening())
    assert (asked["repo"], asked["revision"]) == ("org/name", "v2")
    assert "*.safetensors" in asked["patterns"]
    assert "*.bin" not in asked["patterns"]
