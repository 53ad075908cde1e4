"""Suites as pytest sees them: a file that collects, and one test function for each assertion and checkpoint."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from circuit_assertions.assertions import Judgement, SuiteError, Verdict, load_suite
from circuit_assertions.assertions.running import Asked
from circuit_assertions.assertions.source import MOST_BYTES
from circuit_assertions.plugin.telling import LINE, record
from circuit_assertions.plugin.workers import group_of
from circuit_assertions.report import AuditLine, explain

if TYPE_CHECKING:
    from circuit_assertions.plugin.auditing import AuditPlugin

__all__ = ["AssertionItem", "NotHeldError", "SuiteFile", "is_suite"]

_SUITE_KEY = re.compile(r"""^(suite|"suite"|'suite')\s*:""", re.MULTILINE)


class NotHeldError(AssertionError):
    """A judgement that is not HELD; what is raised when an assertion breaks."""

    def __init__(self, text: str, judgement: Judgement) -> None:
        super().__init__(text)
        self.judgement = judgement


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

    plugin: AuditPlugin

    def collect(self) -> Iterable[AssertionItem]:
        """Validate the whole suite, then make its items.

        Raises:
            pytest.Collector.CollectError: with one line for each problem of the suite.
        """
        try:
            circuits = self.plugin.circuits_of(self.path)
            loaded = load_suite(self.path, circuits)
        except SuiteError as error:
            raise self.CollectError(_relative(str(error))) from error
        for checkpoint in self.plugin.checkpoints:
            for index, assertion in enumerate(loaded.suite.assertions):
                label = self.plugin.label(checkpoint)
                asked = Asked(loaded, assertion, checkpoint, circuits)
                name = f"{assertion.id}[{label}]" if label else assertion.id
                item = AssertionItem.from_parent(self, name=name, callobj=_assertion)
                try:
                    item.place(asked, loaded.line(index))
                except pytest.PytestUnknownMarkWarning as warning:  # where the project makes errors of warnings
                    raise self.CollectError(f"{item.shown_suite}:{loaded.line(index)}: {warning}") from warning
                yield item


def _assertion(circuit_judgement: Judgement, request: pytest.FixtureRequest) -> None:
    """What every assertion item runs: its judgement was made in set-up, where trouble is an error and not a failure."""
    item = request.node
    assert isinstance(item, AssertionItem)
    item.conclude(circuit_judgement)


class AssertionItem(pytest.Function):
    """One assertion put to one checkpoint."""

    asked: Asked
    line: int

    def place(self, asked: Asked, line: int) -> None:
        """Tell the item what it asks, and where that is written."""
        self.asked = asked
        self.line = line
        for mark in asked.assertion.marks:
            self.add_marker(mark)
        if self.config.pluginmanager.hasplugin("xdist"):  # without it, nobody has registered the mark
            self.add_marker(pytest.mark.xdist_group(group_of(str(asked.checkpoint), asked.assertion.task)))
        record(self, LINE, AuditLine(str(asked.checkpoint), self.shown_suite, asked.assertion.id, "").plain())

    def conclude(self, judgement: Judgement) -> None:
        """Fail, report or pass."""
        text = explain(judgement, self.asked.assertion, self.again())
        if judgement.verdict is Verdict.BROKEN:
            raise NotHeldError(text, judgement)
        if judgement.verdict is Verdict.UNRESOLVED:
            if self.plugin.options.unresolved == "fail":
                raise NotHeldError(text, judgement)
            pytest.skip(f"UNRESOLVED: {text}")

    @property
    def plugin(self) -> AuditPlugin:
        """The audit that this item belongs to."""
        assert isinstance(self.parent, SuiteFile)
        return self.parent.plugin

    def again(self) -> str:
        """The command that reproduces this item alone."""
        checkpoint, command = self.asked.checkpoint, [f"--model={self.asked.checkpoint}"]
        command += self.plugin.options.spelled_out
        # The last checkpoint of a training run is not reached by a path of its own, but by its label.
        alone = str(checkpoint) != checkpoint.given or not checkpoint.label
        command.append(f"{self.shown_suite}::{self.asked.assertion.id if alone else self.name}")
        return f"pytest {shlex.join(command)}"

    @property
    def shown_suite(self) -> str:
        """The suite's path as the user would type it."""
        return os.path.relpath(self.path, self.config.invocation_params.dir)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Point at the assertion in the suite, not at the function that judges it."""
        return self.path, self.line - 1, self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """Explain in the terms of the suite; a traceback of the judging code would tell nobody anything."""
        if isinstance(excinfo.value, NotHeldError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **kwargs)


def _relative(text: str) -> str:
    """Problems name the file as the user would type it."""
    return text.replace(f"{Path.cwd()}{os.sep}", "")
