"""Suites as pytest sees them: a file that collects, and one test function for each assertion and checkpoint."""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import load_suite
from circuit_assertions.assertions.runner import PlannedAssertion
from circuit_assertions.assertions.yaml_source import MOST_BYTES
from circuit_assertions.places import PACKAGED, packaged_name
from circuit_assertions.plugin.audited import SessionAudit
from circuit_assertions.plugin.gate import Rules, fails
from circuit_assertions.plugin.reported import note
from circuit_assertions.plugin.workers import group_of
from circuit_assertions.printable import printable
from circuit_assertions.report import explain
from circuit_assertions.results import AssertionResult
from circuit_assertions.results.judged import planned
from circuit_assertions.verdict_words import Outcome

__all__ = ["AssertionItem", "NotHeldError", "SuiteFile", "is_suite", "node_id", "selected_line"]

_SUITE_KEY = re.compile(r"""^(suite|"suite"|'suite')\s*:""", re.MULTILINE)


class NotHeldError(AssertionError):
    """An assertion that is not HELD; what is raised when it breaks."""


def is_suite(path: Path) -> bool:
    """Whether a YAML file says that it is a suite (`suite:` at its top level)."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as stream:
            text = stream.read(MOST_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return False
    return bool(_SUITE_KEY.search(text))


class SuiteFile(pytest.File):
    """A suite file. Collects one item for each assertion and checkpoint."""

    audited: SessionAudit

    def collect(self) -> Iterable[AssertionItem]:
        """Validate the whole suite, then make its items.

        Raises:
            pytest.Collector.CollectError: with one line for each problem of the suite.
        """
        try:
            circuits = self.audited.circuits_of(self.path)
            loaded = load_suite(self.path, circuits, unbound=self.audited.unbound)
        except CircuitAssertionsError as error:  # of the suite, or of what other packages offer to suites
            raise self.CollectError(_relative(str(error))) from error
        for checkpoint in self.audited.checkpoints:
            for index, assertion in enumerate(loaded.suite.assertions):
                label = self.audited.label(checkpoint)
                asked = PlannedAssertion(loaded, assertion, checkpoint, circuits)
                name = f"{assertion.id}[{label}]" if label else assertion.id
                item = AssertionItem.from_parent(self, name=name, callobj=_assertion)
                try:
                    item.place(asked, loaded.line(index))
                except pytest.PytestUnknownMarkWarning as warning:  # where the project makes errors of warnings
                    raise self.CollectError(
                        f"{printable(item.shown_suite)}:{loaded.line(index)}: {warning}"
                    ) from warning
                yield item


def _assertion(circuit_judgement: AssertionResult, request: pytest.FixtureRequest) -> None:
    """What every assertion item runs: its judgement was made in set-up, where trouble is an error and not a failure."""
    item = request.node
    assert isinstance(item, AssertionItem)
    item.conclude(circuit_judgement)


class AssertionItem(pytest.Function):
    """One assertion for one checkpoint."""

    asked: PlannedAssertion
    line: int
    to_come: AssertionResult

    def place(self, asked: PlannedAssertion, line: int) -> None:
        """Tell the item what it asks, and where that is written."""
        self.asked = asked
        self.line = line
        for mark in asked.assertion.marks:
            self.add_marker(mark)
        if self.config.pluginmanager.hasplugin("xdist"):  # without it, nobody has registered the mark
            self.add_marker(pytest.mark.xdist_group(group_of(str(asked.checkpoint), asked.assertion.task)))
        self.to_come = planned(asked, self.shown_suite, self.again(), line=line)
        note(self, assertions=(self.to_come,))

    def conclude(self, result: AssertionResult) -> None:
        """Fail, report or pass: as the gate will count it."""
        options = self.audited.options
        failing = fails(result, Rules(options.unresolved, options.skipped))
        if result.outcome == Outcome.SKIPPED:
            if not failing:
                pytest.skip(f"{_waiver(result)}{result.reason}")
            needed = " (required)" if result.required else ""
            pytest.fail(f"{Outcome.SKIPPED}{needed}: {result.reason}{_expired(result)}", pytrace=False)
        text = explain(result) + _expired(result)
        if failing:
            raise NotHeldError(text)
        if result.outcome != Outcome.HELD:
            waived = result.counted == Outcome.WAIVED
            pytest.skip(_waiver(result) + (text if waived else f"{result.outcome}: {text}"))

    @property
    def audited(self) -> SessionAudit:
        """The audit that this item belongs to."""
        assert isinstance(self.parent, SuiteFile)
        return self.parent.audited

    def again(self) -> str:
        """The command that reproduces this item alone."""
        checkpoint, command = (
            self.asked.checkpoint,
            [f"{self.audited.options.spelled('--model')}={self.asked.checkpoint}"],
        )
        command += self.audited.options.spelled_out
        # The last checkpoint of a training run is not reached by a path of its own, but by its label.
        alone = str(checkpoint) != checkpoint.given or not checkpoint.label
        command.append(f"{self.shown_suite}::{self.asked.assertion.id if alone else self.name}")
        return f"pytest {shlex.join(command)}"

    @property
    def shown_suite(self) -> str:
        """The suite's path as the user would type it."""
        return _shown(self.path, self.config)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Point at the assertion in the suite, not at the function that judges it."""
        return printable(str(self.path)), self.line - 1, self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """Explain in the terms of the suite; a traceback of the judging code would tell nobody anything."""
        if isinstance(excinfo.value, NotHeldError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **kwargs)


def _shown(path: Path, config: pytest.Config) -> str:
    start = config.invocation_params.dir
    return packaged_name(path, start) or os.path.relpath(path, start)


def node_id(path: Path, config: pytest.Config) -> str | None:
    """The node id of a suite file that pytest has no unique or printable one for; None for all others.

    pytest finds a file outside the root again by its absolute path, and this plugin a packaged one by `packaged:NAME`.
    """
    named = packaged_name(path, config.invocation_params.dir)
    if named is not None:
        return named
    if not path.is_relative_to(config.rootpath):
        return printable(path.as_posix())
    shown = printable(path.relative_to(config.rootpath).as_posix())
    return None if shown == path.relative_to(config.rootpath).as_posix() else shown


def selected_line(nodeid: str, audited: SessionAudit) -> AssertionResult | None:
    """The line to come of an assertion that a worker has selected; None where the node id is no assertion's."""
    file, _, name = nodeid.partition("::")
    path = audited.config.rootpath / file
    if not file.startswith(PACKAGED) and not (path.suffix in (".yaml", ".yml") and _is_suite(path)):
        return None
    assertion, bracket, label = name.partition("[")
    shown = file if file.startswith(PACKAGED) else _shown(path, audited.config)
    checkpoint = audited.labelled(label.rpartition("]")[0] if bracket else "")
    # xdist's own loadgroup appends a group to node ids.
    return AssertionResult(model=checkpoint, suite=shown, id=assertion.partition("@")[0])


_is_suite = functools.cache(is_suite)


def _waiver(line: AssertionResult) -> str:
    if line.waiver is None or line.counted != Outcome.WAIVED:
        return ""
    return f"{Outcome.WAIVED} until {line.waiver.until} ({line.waiver.reason}): "


def _expired(line: AssertionResult) -> str:
    if line.waiver is None or not line.expired:
        return ""
    return f"\n  waiver    EXPIRED on {line.waiver.until}: {line.waiver.reason}"


def _relative(text: str) -> str:
    """Problems name the file as the user would type it."""
    return text.replace(f"{Path.cwd()}{os.sep}", "")
