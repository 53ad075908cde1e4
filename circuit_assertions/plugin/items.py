"""Suites as pytest sees them: a file that collects, and one test function for each assertion and checkpoint."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from circuit_assertions.assertions import Judgement, SuiteError, Verdict, load_circuits, load_suite
from circuit_assertions.assertions.packaged import packaged_suites
from circuit_assertions.assertions.running import Asked
from circuit_assertions.plugin.telling import LINE, record
from circuit_assertions.plugin.workers import group_of
from circuit_assertions.report import AuditLine, explain

if TYPE_CHECKING:
    from circuit_assertions.plugin.auditing import AuditPlugin

__all__ = ["AssertionItem", "NotHeldError", "SuiteFile", "is_suite"]

_SUITE_KEY = re.compile(r"^suite\s*:", re.MULTILINE)


class NotHeldError(AssertionError):
    """A judgement that is not HELD; what is raised when an assertion breaks."""

    def __init__(self, text: str, judgement: Judgement) -> None:
        super().__init__(text)
        self.judgement = judgement


def is_suite(path: Path) -> bool:
    """Whether a YAML file says that it is a suite (`suite:` at its top level)."""
    try:
        return bool(_SUITE_KEY.search(path.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return False


class SuiteFile(pytest.File):
    """A suite file. Collects one item for each assertion and checkpoint."""

    plugin: AuditPlugin

    def collect(self) -> Iterable[AssertionItem]:
        """Validate the whole suite, then make its items.

        Raises:
            pytest.Collector.CollectError: with one line for each problem of the suite.
        """
        folders = dict.fromkeys((self.path.parent / "circuits", packaged_suites() / "circuits"))
        try:
            found = [circuit for folder in folders for circuit in load_circuits(folder)]
            circuits = tuple(circuit for index, circuit in enumerate(found) if circuit not in found[:index])
            loaded = load_suite(self.path, circuits)
        except SuiteError as error:
            raise self.CollectError(_relative(str(error), self.path)) from error
        for checkpoint in self.plugin.checkpoints:
            for index, assertion in enumerate(loaded.suite.assertions):
                label = self.plugin.label(checkpoint)
                asked = Asked(loaded, assertion, checkpoint, circuits)
                name = f"{assertion.id}[{label}]" if label else assertion.id
                item = AssertionItem.from_parent(self, name=name, callobj=_assertion)
                item.place(asked, loaded.line(index))
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
        options = self.plugin.options
        given = [f"--model={self.asked.checkpoint}"]
        given += [f"--baseline={options.baseline}"] if options.baseline else []
        given += [f"--tokenizer={options.tokenizer}"] if options.tokenizer else []
        return f"pytest {' '.join(given)} {self.shown_suite}::{self.asked.assertion.id}"

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


def _relative(text: str, suite: Path) -> str:
    """Problems name the file as the user would type it."""
    folder = f"{Path.cwd()}{os.sep}"
    return text.replace(folder, "")
