"""Checkpoints that many tests audit, saved once a session. Torch is not imported until one of them is asked for."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Runs inside this process forget what they import. These would be imported anew for each of them otherwise.
import hypothesis  # noqa: F401
import pytest
import rich.console
import rich.padding
import rich.progress
import rich.style
import rich.table
import rich.text  # noqa: F401
from pairwise import mark_families
from suite_texts import REFERENCE_SUITE, circuit_text, write

import circuit_assertions.assertions.packaged
import circuit_assertions.assertions.runner
import circuit_assertions.plugin.audited
import circuit_assertions.plugin.diagnosis_section
import circuit_assertions.plugin.gate_plugin
import circuit_assertions.plugin.items
import circuit_assertions.plugin.limits
import circuit_assertions.plugin.old_keys
import circuit_assertions.plugin.output_files
import circuit_assertions.plugin.python_expectations
import circuit_assertions.plugin.reading_snapshots
import circuit_assertions.plugin.selection
import circuit_assertions.plugin.session
import circuit_assertions.plugin.terminal
import circuit_assertions.plugin.workers  # noqa: F401
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening

# Tests run side by side, one worker a core; threads of their own would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Compiled modules are kept for the other workers and for the processes that tests start, whatever the machine says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# No test may ask the network for a model: what is meant to fail offline must fail at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A test that audits twice is about what the second audit reads; those of the cache switch it on.
os.environ["CIRCUIT_ASSERTIONS_CACHE"] = "off"
# What tests audit is not told on the page of a step that runs them, and pytest prints the same there as elsewhere.
for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "CI", "BUILD_NUMBER"):
    os.environ.pop(name, None)


# Thousands of modules stay once torch is imported, and each full collection looks through all of them.
gc.set_threshold(20_000, 20, 50)


def _read_once(name: str) -> None:
    """What installed packages say of themselves is read once: pytest asks all of them in each run in this process."""
    read, known = getattr(importlib.metadata.Distribution, name).fget, {}

    def once(self: importlib.metadata.Distribution) -> Any:
        place = getattr(self, "_path", None)
        if place is None:
            return read(self)
        if place not in known:
            known[place] = read(self)
        return known[place]

    setattr(importlib.metadata.Distribution, name, property(once))


_read_once("entry_points")
_read_once("files")
_read_once("metadata")


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_families(items)


ROOT = Path(__file__).parents[1]
_MOST_OPEN = 16  # models of some megabytes

_Asked = tuple[str, Opening, tuple[tuple[str, int, int], ...]]


class ModelsKeptOpen:
    """Models of the checkpoints that many tests audit. Opening one takes longer than most of what is then asked of it.

    The files of a folder are looked at each time, and whether anything was written into the weights in memory. What was
    changed is opened again.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = [folder.resolve() for folder in folders]
        self.open = Audit._opened
        self.kept: OrderedDict[_Asked, tuple[Any, int]] = OrderedDict()

    def opened(self, audit: Audit, checkpoint: Checkpoint) -> Any:
        """What `Audit._opened` gives, kept for the next audit in this process."""
        folder = None if checkpoint.folder is None else checkpoint.folder.resolve()
        if folder is None or folder.parent not in self.folders:
            return self.open(audit, checkpoint)
        files = (file for file in folder.iterdir() if file.is_file())
        seen = tuple(sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files))
        asked = (repr(checkpoint), audit.opening, seen)  # with the name by which messages call it
        model, writes = self.kept.pop(asked, (None, 0))
        if model is None or writes != _writes(model):
            model = self.open(audit, checkpoint)
        self.kept[asked] = model, _writes(model)
        while len(self.kept) > _MOST_OPEN:
            self.kept.popitem(last=False)
        return model


def _writes(model: Any) -> int:
    """How often anything was written into a model's weights, by torch's own count."""
    return sum(weights._version for weights in model.bridge.parameters())


@pytest.fixture(scope="session")
def checkpoints_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where checkpoints lie that many tests audit. Not to be written to by a test."""
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="session", autouse=True)
def models_kept_open(checkpoints_folder: Path) -> Iterator[ModelsKeptOpen]:
    """The checkpoints of the session and the embedded ones are opened once a process, whoever audits them."""
    kept = ModelsKeptOpen([checkpoints_folder, ROOT / "fixtures" / "checkpoints"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Audit, "_opened", lambda audit, checkpoint: kept.opened(audit, checkpoint))
        yield kept


@pytest.fixture
def opened_anew(models_kept_open: ModelsKeptOpen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every audit opens its checkpoints itself, as it does for users."""
    monkeypatch.setattr(Audit, "_opened", models_kept_open.open)


@pytest.fixture(scope="session")
def reference_folder(checkpoints_folder: Path) -> Path:
    """The reference model as a checkpoint."""
    from reference_model import build_reference_model

    return build_reference_model().save(checkpoints_folder / "reference")


@pytest.fixture(scope="session")
def flipped_folder(reference_folder: Path) -> Path:
    """The reference model with the output of one name mover, L4H1, negated."""
    from safetensors.torch import load_file, save_file

    folder = reference_folder.parent / "flipped"
    shutil.copytree(reference_folder, folder)
    weights = load_file(folder / "model.safetensors")
    output = weights["transformer.h.4.attn.c_proj.weight"]  # [heads * d_head, d_model]
    d_head = len(output) // 4
    output[d_head : 2 * d_head] *= -1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def tiny_folder(checkpoints_folder: Path) -> Path:
    """A random three-layer GPT-2."""
    from tiny_models import save_tiny

    return save_tiny(checkpoints_folder / "tiny")


@pytest.fixture(scope="session")
def reference_project(tmp_path_factory: pytest.TempPathFactory, reference_folder: Path) -> Path:
    """A suite for the reference model and the circuit file that binds its roles. Not to be written to."""
    import json

    from reference_model import CAST

    config = json.loads((reference_folder / "config.json").read_text())
    keys = {"layers": "n_layer", "heads": "n_head", "d_model": "n_embd"}
    shape = {"architecture": "GPT2LMHeadModel"} | {key: config[source] for key, source in keys.items()}
    files = {"suites/ioi.yaml": REFERENCE_SUITE, "suites/circuits/reference.ioi.yaml": circuit_text(shape, CAST)}
    return write(tmp_path_factory.mktemp("project"), files)


@pytest.fixture(scope="session")
def opened_once(tiny_folder: Path) -> None:
    """Everything that opening and measuring imports is imported.

    A run inside this process restores `sys.modules` when it ends, and torch cannot be imported twice.
    """
    import scipy.stats  # noqa: F401

    import circuit_assertions.measures.reading_builder  # noqa: F401
    from circuit_assertions.checkpoints import find_checkpoints
    from circuit_assertions.checkpoints.opening import open_checkpoint
    from circuit_assertions.engine import Model

    Model.of(open_checkpoint(find_checkpoints(str(tiny_folder))[0]))
