"""The audit of one pytest session: registered only where a model was asked for."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.conditions.snapshot import Snapshot
from circuit_assertions.assertions.packaged import only_by_name
from circuit_assertions.assertions.runner import NotApplicable
from circuit_assertions.checkpoints import Checkpoint, DeviceError
from circuit_assertions.places import CHAINS, CIRCUITS, PACKAGED
from circuit_assertions.plugin.audited import SessionAudit
from circuit_assertions.plugin.gate_plugin import note_audit
from circuit_assertions.plugin.items import AssertionItem, SuiteFile, is_suite, node_id
from circuit_assertions.plugin.limits import short_of
from circuit_assertions.plugin.python_expectations import Expecting, outcome_of_expectations
from circuit_assertions.plugin.reported import attach, note
from circuit_assertions.plugin.workers import make_scheduler
from circuit_assertions.printable import printable
from circuit_assertions.results import AssertionResult
from circuit_assertions.results.audit import ReadingCounts
from circuit_assertions.results.facts import audited_model
from circuit_assertions.results.judged import judged
from circuit_assertions.unexpected import UnexpectedError, sentence_of, tell_unexpected

if TYPE_CHECKING:
    from circuit_assertions.plugin.audit_fixture import AuditedCheckpoint

__all__ = ["AuditPlugin"]

_OUR_WARNING = ".*path effects are measured with hooks"  # by its words: its class could not be named without torch


class AuditPlugin:
    """Opens each checkpoint once, and runs the suites on it."""

    def __init__(self, audited: SessionAudit) -> None:
        self.config = audited.config
        self._audited = audited
        self._runner = audited.runner
        self._current: Checkpoint | None = None
        self._complained: dict[tuple[Checkpoint, str], tuple[str, str]] = {}  # to where and what was said first
        audited.suites.choose()

    # -- collection ---------------------------------------------------------------------------------------------

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_collect_file"""
        if file_path.suffix not in (".yaml", ".yml") or file_path.parent.name in (CIRCUITS, CHAINS):
            return None
        if not is_suite(file_path) and not parent.session.isinitpath(file_path):
            return None
        if only_by_name(file_path) and not parent.session.isinitpath(file_path):
            return None
        suite: SuiteFile = SuiteFile.from_parent(parent, path=file_path, nodeid=node_id(file_path, self.config))
        suite.audited = self._audited
        return suite

    @pytest.hookimpl(tryfirst=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> pytest.CollectReport | None:
        """Collect a packaged suite under its name. `--lf` takes node ids for paths, and would pass over this file."""
        if not isinstance(collector, SuiteFile) or not collector.nodeid.startswith(PACKAGED):
            return None
        with contextlib.suppress(collector.CollectError):  # which pytest reports better
            return pytest.CollectReport(collector.nodeid, "passed", None, list(collector.collect()))
        return None

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_itemcollected"""
        note_audit(item)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """One checkpoint after the other, so that one is in memory beside the baseline and the corrupted one."""
        order = {checkpoint: index for index, checkpoint in enumerate(self._audited.checkpoints)}
        items.sort(key=lambda item: order[found] if (found := self.checkpoint_of(item)) in order else 0)
        self._runner.announce(item.asked for item in items if isinstance(item, AssertionItem))

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Python tests that use `audit` run once for each checkpoint."""
        if "circuit_checkpoint" in metafunc.fixturenames and len(self._audited.checkpoints) > 1:
            ids = [self._audited.label(checkpoint) for checkpoint in self._audited.checkpoints]
            metafunc.parametrize("circuit_checkpoint", self._audited.checkpoints, ids=ids)

    # -- running ------------------------------------------------------------------------------------------------

    def pytest_sessionstart(self) -> None:
        """A missing device is a mistake in the command, reported before any work."""
        worker = hasattr(self.config, "workerinput")
        if self.config.option.collectonly or self._audited.options.device in ("auto", "cpu") or worker:
            return
        from circuit_assertions.checkpoints.devices import choose_device

        try:
            choose_device(self._audited.options.device)
        except DeviceError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """A worker takes its share of GPUs and cores before anything touches them."""
        if hasattr(self.config, "workerinput") and self._audited.options.device == "auto":
            from circuit_assertions.checkpoints.devices import claim_worker_share

            claim_worker_share()

    @pytest.fixture
    def circuit_checkpoint(self) -> Checkpoint:
        """The checkpoint that a Python test is about."""
        return self._audited.checkpoints[0]

    @pytest.fixture
    def circuit_audit(self, circuit_checkpoint: Checkpoint, request: pytest.FixtureRequest) -> AuditedCheckpoint:
        """The checkpoint under audit, for assertions that YAML cannot say."""
        from circuit_assertions.plugin.audit_fixture import AuditedCheckpoint

        with self.telling_plainly(circuit_checkpoint, request.node):
            self._runner.audit.opened(circuit_checkpoint)
            circuits = self._audited.circuits_of(*self._audited.suites.paths)
        expecting = Expecting(
            request.node,
            self._runner,
            self._audited.options,
            circuit_checkpoint,
            self._audited.label(circuit_checkpoint),
        )
        return AuditedCheckpoint(self._runner, circuit_checkpoint, circuits, expecting.conclude)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """A Python test whose expectations are not all HELD has their outcome, once it is through."""
        try:
            done = yield
        except CircuitAssertionsError as error:
            checkpoint = self.checkpoint_of(item)
            if checkpoint is None or not (short := short_of(error, item, checkpoint, self._runner)):
                raise
            raise pytest.fail.Exception(short).with_traceback(error.__traceback__) from None
        outcome_of_expectations(item)
        return done

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> list[str] | None:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_assertrepr_compare"""
        from circuit_assertions.plugin.audit_fixture import comparison_lines

        return list(comparison_lines(op, left, right)) or None

    @pytest.fixture
    def circuit_judgement(self, request: pytest.FixtureRequest) -> AssertionResult:
        """The result of an assertion item. Made in set-up: what cannot be read is an error, not a failure."""
        item = request.node
        assert isinstance(item, AssertionItem)
        checkpoint = item.asked.checkpoint
        with self.telling_plainly(checkpoint, item), self._recalling(item, request):
            judgement = self._runner.judge(item.asked)
            if self._audited.recording is not None:
                self._audited.recording.after(item.asked, judgement)
            note(item, model=audited_model(self._runner, checkpoint))
            if isinstance(judgement, NotApplicable):
                respelled = self._audited.options.respelled
                judgement = NotApplicable(respelled(judgement.reason), respelled(judgement.way_out))
            result = judged(item.to_come, item.asked.assertion, judgement)
        note(item, assertions=(result,))
        return result

    @contextlib.contextmanager
    def _recalling(self, item: AssertionItem, request: pytest.FixtureRequest) -> Iterator[None]:
        """Let the runner find the snapshot of this item."""
        if not any(isinstance(one, Snapshot) for one in item.asked.assertion.expect.conditions):
            yield
            return
        from circuit_assertions.plugin.kept_readings import ItemSnapshots

        self._runner.recall = ItemSnapshots(request, item.again(), self._runner.tolerances)
        try:
            yield
        finally:
            self._runner.recall = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_runtest_makereport"""
        report = yield
        if report.when == "teardown":
            readings = self._audited.drained()
            if readings != ReadingCounts():
                note(item, readings=readings)
        attach(item, report)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Close the checkpoint before, once another is asked about."""
        checkpoint = self.checkpoint_of(item)
        if checkpoint is not None and checkpoint != self._current:
            if self._current is not None:
                self._runner.forget(self._current)
            self._current = checkpoint

    def pytest_sessionfinish(self) -> None:
        """Nothing stays open behind a session, which may be one of several in its process."""
        self._runner.audit.close()
        if self._audited.cache is not None and not hasattr(self.config, "workerinput"):
            self._audited.cache.folder.trim()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """https://pytest-xdist.readthedocs.io: with `-n N` alone, a checkpoint's items stay together."""
        return make_scheduler(config, log)

    @contextlib.contextmanager
    def telling_plainly(self, checkpoint: Checkpoint, node: pytest.Item) -> Iterator[None]:
        """Turn errors into one clear sentence; the second time the same one is only pointed at, in one line.

        What the libraries behind a model warn of is not the project's: its own warning filters do not see it. What the
        engine warns of, that a model is measured slowly, is shown.
        """
        try:
            with warnings.catch_warnings(action="ignore"), tell_unexpected(f"{checkpoint} cannot be audited"):
                warnings.filterwarnings("always", message=_OUR_WARNING)
                yield
        except CircuitAssertionsError as error:
            if short := short_of(error, node, checkpoint, self._runner):
                note(node, reason=short)
                raise pytest.fail.Exception(short, pytrace=False) from None
            key = error.same if isinstance(error, UnexpectedError) else str(error)
            first, text = self._complained.setdefault(
                (checkpoint, key), (node.nodeid, self._audited.options.respelled(str(error)))
            )
            note(node, reason=text)
            said = text if first == node.nodeid else f"(as above) the same error as {printable(first)}"
            raise pytest.fail.Exception(said, pytrace=False) from None
        except Exception as error:  # let through, where its traceback is asked for
            note(node, reason=sentence_of(error))
            raise

    def checkpoint_of(self, item: pytest.Item) -> Checkpoint | None:
        """The checkpoint that an item is about, if it is about one."""
        if isinstance(item, AssertionItem):
            return item.asked.checkpoint
        if not isinstance(item, pytest.Function) or "circuit_checkpoint" not in item.fixturenames:
            return None
        callspec = getattr(item, "callspec", None)
        chosen = callspec.params.get("circuit_checkpoint") if callspec is not None else self._audited.checkpoints[0]
        return chosen if isinstance(chosen, Checkpoint) else self._audited.checkpoints[0]
