"""The cache of readings in pytest: a second run opens nothing, says the same, and whatever matters is read anew."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import HEALTHY, ioi, repeated
from suite_texts import TINY_SUITE, write

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening, Permissions, find_checkpoints
from circuit_assertions.heads import Head
from circuit_assertions.plugin.project_folders import CACHE
from circuit_assertions.records import cache as cache_module
from circuit_assertions.records.cache import ReadingCache
from circuit_assertions.records.cache_folder import CacheFolder
from circuit_assertions.request import Request
from circuit_assertions.tasks import IoiTask, Task

pytestmark = pytest.mark.usefixtures("opened_once")

ON_CPU = Opening("cpu")

# Prompts grow until an assertion is decided, and one is of any head.
SUITE = f"""\
{TINY_SUITE}
  - {{id: near, measure: loss, task: grows, expect: {{at-least: NEAR}}}}
  - {{id: any-head, measure: attention, heads: any, query: end, key: subject-2, task: names, expect: {{at-least: 0.2}}}}
""".replace(
    "tasks:\n",
    "tasks:\n  grows: {kind: repeated-tokens, prompts: {start: 64, budget: 150}, length: 8}\n"
    "  names: {kind: ioi, prompts: {start: 16, budget: 64}}\n",
)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> pytest.Pytester:
    """A project whose runs keep their readings."""
    monkeypatch.delenv("CIRCUIT_ASSERTIONS_CACHE")
    mean = (
        Audit(Opening("cpu"))
        .read(Request("loss", repeated(prompts=150, length=8)), find_checkpoints(str(tiny_folder))[0])
        .mean
    )
    suite = SUITE.replace("NEAR", f"{mean:.6f}")
    write(pytester.path, {"suites/tiny.yaml": suite, "pytest.ini": "[pytest]\nmarkers = gate: x\n"})
    return pytester


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checkpoints that are opened from now on."""
    opened, real = [], Audit._opened

    def open_it(audit: Audit, checkpoint: Checkpoint) -> Any:
        opened.append(str(checkpoint))
        return real(audit, checkpoint)

    monkeypatch.setattr(Audit, "_opened", open_it)
    return opened


def audit(project: pytest.Pytester, *options: object) -> dict[str, Any]:
    """A run, and its result as JSON."""
    file = project.path / "audit.json"
    project.runpytest_inprocess(*map(str, options), f"--circuit-json={file}", "-p", "no:cacheprovider")
    plain: dict[str, Any] = json.loads(file.read_text())
    return plain


def without_counts(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "readings"}


def test_a_second_run_opens_nothing_and_has_the_same_result(
    project: pytest.Pytester, tiny_folder: Path, opens: list[str]
) -> None:
    uncached = audit(project, f"--model={tiny_folder}", "--circuit-no-cache")
    assert not (project.path / CACHE).exists()
    first = audit(project, f"--model={tiny_folder}")
    opens.clear()
    second = audit(project, f"--model={tiny_folder}")
    assert opens == []
    assert without_counts(uncached) == without_counts(first) == without_counts(second)
    assert (first["readings"]["cached"], second["readings"]["taken"]) == (0, 0)
    assert first["readings"]["taken"] == second["readings"]["cached"] > 5
    looks = {one["id"]: one["reading"] and one["reading"]["prompts"] for one in second["assertions"]}
    assert looks["near"] == 150


def test_an_unchanged_baseline_is_not_opened(
    project: pytest.Pytester,
    reference_folder: Path,
    flipped_folder: Path,
    reference_project: Path,
    opens: list[str],
) -> None:
    shutil.rmtree(project.path / "suites")
    shutil.copytree(reference_project, project.path, dirs_exist_ok=True)
    asked = (f"--baseline={reference_folder}", "--no-diagnosis")
    plain = audit(project, f"--model={flipped_folder}", *asked, "--circuit-no-cache")
    audit(project, f"--model={reference_folder}", *asked)
    opens.clear()
    found = audit(project, f"--model={flipped_folder}", *asked)
    assert opens == [str(flipped_folder)]
    assert without_counts(found) == without_counts(plain)
    assert found["readings"]["cached"] > 0


def test_a_record_that_is_made_of_cached_readings_is_the_same(project: pytest.Pytester, tiny_folder: Path) -> None:
    def readings(name: str) -> Any:
        audit(project, f"--model={tiny_folder}", f"--circuit-save={name}")
        (file,) = (project.path / ".circuit-assertions" / "records").glob(f"*-{name}.json")
        record = json.loads(file.read_text())
        return record["readings"], record["prompts"], record["reads"]

    assert readings("first") == readings("second")


def test_a_folder_in_the_way_changes_no_verdict_and_is_told(project: pytest.Pytester, tiny_folder: Path) -> None:
    plain = audit(project, f"--model={tiny_folder}", "--circuit-no-cache")
    (project.path / "kept").write_text("a file")
    file = project.path / "audit.json"
    result = project.runpytest_inprocess(f"--model={tiny_folder}", "--circuit-cache=kept", f"--circuit-json={file}")
    assert without_counts(json.loads(file.read_text())) == without_counts(plain)
    (told,) = (line for line in result.outlines if line.startswith("cache "))
    assert str(project.path / "kept") in told


def test_damaged_entries_are_read_again(project: pytest.Pytester, tiny_folder: Path) -> None:
    first = audit(project, f"--model={tiny_folder}")
    entries = list((project.path / CACHE).glob("*/*.entry"))
    for number, entry in enumerate(entries):
        entry.write_bytes(entry.read_bytes()[:-9] if number % 2 else b"")
    again = audit(project, f"--model={tiny_folder}")
    assert again == first
    assert audit(project, f"--model={tiny_folder}")["readings"] == {"taken": 0, "cached": first["readings"]["taken"]}


@pytest.mark.complete
@pytest.mark.slow
def test_workers_read_and_write_one_folder(project: pytest.Pytester, tiny_folder: Path) -> None:
    other = (project.path / "suites" / "tiny.yaml").read_text().replace("suite: tiny", "suite: other")
    write(project.path, {"suites/other.yaml": other})
    alone = audit(project, f"--model={tiny_folder}", "--circuit-no-cache")

    def spread() -> dict[str, Any]:
        command = [str(Path(sys.executable).parent / "pytest"), f"--model={tiny_folder}", "-n", "2"]
        subprocess.run([*command, "--circuit-json=spread.json"], cwd=project.path, check=False, timeout=240)
        found: dict[str, Any] = json.loads((project.path / "spread.json").read_text())
        return found

    first, second = spread(), spread()
    assert without_counts(first) == without_counts(second) == without_counts(alone)
    assert second["readings"]["taken"] == 0
    assert second["readings"]["cached"] >= first["readings"]["taken"]


@pytest.mark.complete
@pytest.mark.slow
def test_a_run_of_kept_readings_imports_no_torch(project: pytest.Pytester, tiny_folder: Path) -> None:
    write(
        project.path,
        {"conftest.py": "import sys\ndef pytest_unconfigure():\n    print('torch', 'torch' in sys.modules)\n"},
    )
    command = [str(Path(sys.executable).parent / "pytest"), f"--model={tiny_folder}", "--model-device=cpu"]
    command += ["--circuit-report=out.html"]
    said = [
        subprocess.run(command, cwd=project.path, capture_output=True, text=True, check=False, timeout=240).stdout
        for _ in range(2)
    ]
    assert [text.strip().splitlines()[-1] for text in said] == ["torch True", "torch False"]


# -- what a reading depends on ----------------------------------------------------------------------------------------


class Asked:
    """A reading of a checkpoint, and whether the cache of a folder has it."""

    def __init__(self, folder: Path, kept: Path) -> None:
        self.folder = folder
        self.kept = kept

    def found(self, task: Task, opening: Opening = ON_CPU, **operands: Any) -> bool:
        """Whether a new run finds it; where it does not, it is kept thereby."""
        audit = Audit(opening, cache=ReadingCache(CacheFolder(self.kept)))
        measure = "attention" if operands else "answer-rate"
        heads = (Head(0, 0),) if operands else None
        audit.read(Request(measure, task, tuple(operands.items()), heads), find_checkpoints(str(self.folder))[0])
        return audit.counts["cached"] == 1


@pytest.fixture
def asked(tiny_folder: Path, tmp_path: Path) -> Asked:
    shutil.copytree(tiny_folder, tmp_path / "model")
    return Asked(tmp_path / "model", tmp_path / "cache")


def test_whatever_a_reading_depends_on_gives_another_key(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    task, file = ioi(prompts=8), asked.folder / "model.safetensors"
    looks: dict[str, Any] = {"query": "end", "key": "subject-2"}
    assert [asked.found(task), asked.found(task), asked.found(task, **looks), asked.found(task, **looks)] == [
        False,
        True,
        False,
        True,
    ]
    assert not asked.found(task, **{**looks, "key": "indirect-object"})
    assert not asked.found(ioi(prompts=9))
    assert not asked.found(ioi(prompts=8, seed=1))
    assert not asked.found(repeated(prompts=8, length=8))
    assert not asked.found(task, Opening("cpu", "float64"))
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "device_called", lambda wanted: "cuda:0 of another make")
        assert not asked.found(task)
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "versions", lambda: {"torch": "another"})
        assert not asked.found(task)
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "code_print", lambda: "another")
        assert not asked.found(task)
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1  # a bit of the last weight
    file.write_bytes(bytes(raw))
    assert not asked.found(task)
    for name, key in (("config.json", "layer_norm_epsilon"), ("tokenizer_config.json", "model_max_length")):
        plain = json.loads((asked.folder / name).read_text())
        (asked.folder / name).write_text(json.dumps({**plain, key: 0.5 if key.endswith("epsilon") else 77}))
        assert not asked.found(task), name
    assert asked.found(task)


def test_heads_that_are_kept_are_found_among_more_and_joined_by_others(tiny_folder: Path, tmp_path: Path) -> None:
    def read(*heads: Head) -> tuple[Any, int]:
        audit = Audit(Opening("cpu"), cache=ReadingCache(CacheFolder(tmp_path)))
        request = Request("attention", ioi(prompts=8), (("query", "end"), ("key", "subject-2")), heads or None)
        return audit.read(request, find_checkpoints(str(tiny_folder))[0]), audit.counts["cached"]

    assert read(Head(1, 2), Head(0, 1))[1] == read(Head(2, 0), Head(0, 1))[1] == 0
    assert read(Head(1, 2), Head(0, 1), Head(2, 0))[1] == 1  # no run has read all three
    everyone, cached = read()
    assert cached == 0
    some, cached = read(Head(1, 2), Head(0, 1))
    assert cached == 1
    np.testing.assert_array_equal(some.values, everyone.only((Head(1, 2), Head(0, 1))).values)


def test_files_that_change_while_a_model_is_opened_keep_nothing(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Audit._opened

    def open_it(audit: Audit, checkpoint: Checkpoint) -> Any:
        model = real(audit, checkpoint)
        (asked.folder / "config.json").touch()
        return model

    monkeypatch.setattr(Audit, "_opened", open_it)
    assert not asked.found(ioi(prompts=8))
    assert not list(asked.kept.glob("*/*.entry"))
    os.utime(asked.folder / "config.json", (1e9, 1e9))


def test_the_embedded_checkpoints_have_prints_that_differ() -> None:
    from circuit_assertions.checkpoints.files_print import print_of_files

    folders = sorted(one for one in HEALTHY.parent.iterdir() if (one / "model.safetensors").is_file())
    prints = {print_of_files(find_checkpoints(str(one))[0], Opening("cpu")).digest for one in folders}
    assert len(prints) == len(folders) > 2


class OwnIoi(IoiTask):
    """A kind of task that another package could have."""


def test_what_other_packages_define_and_what_checkpoints_run_is_never_kept(asked: Asked) -> None:
    own = OwnIoi.model_validate({"kind": "ioi", "prompts": 8})
    assert [asked.found(own) for _ in range(2)] == [False, False]
    running_code = Opening("cpu", permissions=Permissions(remote_code=True))
    assert [asked.found(ioi(prompts=8), running_code) for _ in range(2)] == [False, False]
    assert not list(asked.kept.glob("readings/*"))
