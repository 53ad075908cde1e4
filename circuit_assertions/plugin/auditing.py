"""The audit of one pytest session: registered only where a model was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Judgement
from circuit_assertions.assertions.packaged import packaged_suites
from circuit_assertions.assertions.running import NotAsked, SuiteRunner
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import (
    Checkpoint,
    CheckpointError,
    DeviceError,
    Opening,
    Permissions,
    find_checkpoints,
)
from circuit_assertions.plugin.items import AssertionItem, SuiteFile, is_suite
from circuit_assertions.plugin.options import read_options
from circuit_assertions.plugin.telling import FACTS, LINE, facts_of, record
from circuit_assertions.report import AuditLine

if TYPE_CHECKING:
    from circuit_assertions.plugin.face import AuditedCheckpoint

__all__ = ["AuditPlugin"]


class AuditPlugin:
    """Opens what was asked for, once, and puts the suites to it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.options = read_options(config)
        start = config.invocation_params.dir
        try:
            found = [find_checkpoints(model, start=start) for model in self.options.models]
            baseline = find_checkpoints(self.options.baseline, start=start) if self.options.baseline else ()
        except CheckpointError as error:
            raise pytest.UsageError(str(error)) from error
        if len(baseline) > 1:
            raise pytest.UsageError(
                f"--baseline {self.options.baseline} is a training run: name one of its checkpoints"
            )
        self.checkpoints: tuple[Checkpoint, ...] = tuple(dict.fromkeys(one for run in found for one in run))
        self.baseline = baseline[0] if baseline else None
        permissions = Permissions(self.options.allow_pickle, self.options.trust_remote_code)
        opening = Opening(self.options.device, self.options.dtype, self.options.tokenizer, self.baseline, permissions)
        self.runner = SuiteRunner(Audit(opening, self.baseline), self.baseline)
        self._complained: set[tuple[Checkpoint, str]] = set()
        self._choose_suites()

    def label(self, checkpoint: Checkpoint) -> str:
        """What tells a checkpoint from the others in item names; empty when there is only one."""
        if len(self.checkpoints) == 1:
            return ""
        return checkpoint.label or Path(checkpoint.given).name or checkpoint.given

    # -- collection ---------------------------------------------------------------------------------------------

    def _choose_suites(self) -> None:
        """Where no test path was given, run the suites and not the project's own tests."""
        if self.config.args_source is pytest.Config.ArgsSource.ARGS:
            return
        root = self.config.rootpath
        chosen = [root / path for path in self.options.suites] or [root / "suites"]
        if not self.options.suites and not chosen[0].is_dir():
            chosen = [packaged_suites()]
        self.config.args[:] = [str(path) for path in chosen]

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_collect_file"""
        if file_path.suffix not in (".yaml", ".yml") or file_path.parent.name == "circuits":
            return None
        if not is_suite(file_path) and not parent.session.isinitpath(file_path):
            return None
        suite: SuiteFile = SuiteFile.from_parent(parent, path=file_path)
        suite.plugin = self
        return suite

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """One checkpoint after the other, so that only one is in memory beside the baseline."""
        order = {checkpoint: index for index, checkpoint in enumerate(self.checkpoints)}
        items.sort(key=lambda item: order[found] if (found := checkpoint_of(item)) in order else 0)
        self.runner.announce(item.asked for item in items if isinstance(item, AssertionItem))

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Python tests that use `audit` run once for each checkpoint."""
        if "audit" in metafunc.fixturenames and len(self.checkpoints) > 1:
            ids = [self.label(checkpoint) for checkpoint in self.checkpoints]
            metafunc.parametrize("circuit_checkpoint", self.checkpoints, ids=ids)

    # -- running ------------------------------------------------------------------------------------------------

    def pytest_sessionstart(self) -> None:
        """A device that is not there is a mistake in the command, told before any work."""
        worker = hasattr(self.config, "workerinput")
        if self.config.option.collectonly or self.options.device in ("auto", "cpu") or worker:
            return
        from circuit_assertions.checkpoints.devices import choose_device

        try:
            choose_device(self.options.device)
        except DeviceError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """A worker takes its share of GPUs and cores before anything touches them."""
        if hasattr(self.config, "workerinput") and self.options.device == "auto":
            from circuit_assertions.checkpoints.devices import claim_worker_share

            claim_worker_share()

    @pytest.fixture
    def circuit_checkpoint(self) -> Checkpoint:
        """The checkpoint that a Python test is about."""
        return self.checkpoints[0]

    @pytest.fixture
    def audit(self, circuit_checkpoint: Checkpoint) -> AuditedCheckpoint:
        """The checkpoint under audit, for assertions that YAML cannot say."""
        from circuit_assertions.plugin.face import AuditedCheckpoint

        with self.telling_plainly(circuit_checkpoint):
            self.runner.audit.model(circuit_checkpoint)
        return AuditedCheckpoint(self.runner, circuit_checkpoint)

    @pytest.fixture
    def circuit_judgement(self, request: pytest.FixtureRequest) -> Judgement:
        """The judgement of an assertion item. Made in set-up: what cannot be read is an error, not a failure."""
        item = request.node
        assert isinstance(item, AssertionItem)
        with self.telling_plainly(item.asked.checkpoint):
            judged = self.runner.judge(item.asked)
        record(item, FACTS, facts_of(self.runner, item.asked.checkpoint))
        if isinstance(judged, NotAsked):
            pytest.skip(judged.reason)
        record(item, LINE, AuditLine.of(item.asked, item.shown_suite, judged).plain())
        return judged

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Close a checkpoint once nothing more is asked of it."""
        checkpoint = checkpoint_of(item)
        if checkpoint is not None and (nextitem is None or checkpoint_of(nextitem) != checkpoint):
            self.runner.forget(checkpoint)

    @contextlib.contextmanager
    def telling_plainly(self, checkpoint: Checkpoint) -> Iterator[None]:
        """Turn our own errors into one clear sentence; the second time the same one is only pointed at."""
        try:
            yield
        except CircuitAssertionsError as error:
            text = str(error)
            known = (checkpoint, text) in self._complained
            self._complained.add((checkpoint, text))
            plainly = pytest.fail.Exception(f"(as above) {text}" if known else text, pytrace=False)
            raise plainly from None


def checkpoint_of(item: pytest.Item) -> Checkpoint | None:
    """The checkpoint that an item is about, if it is about one."""
    if isinstance(item, AssertionItem):
        return item.asked.checkpoint
    callspec = getattr(item, "callspec", None)
    chosen = callspec.params.get("circuit_checkpoint") if callspec is not None else None
    return chosen if isinstance(chosen, Checkpoint) else None
