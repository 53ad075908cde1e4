"""The outcome of a Python test that uses `audit.expect(...)`, and the report lines of its expectations."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field

import pytest

from circuit_assertions.assertions import Judgement, Verdict
from circuit_assertions.assertions.runner import NotApplicable, PlannedAssertion, SuiteRunner
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.plugin.items import NotHeldError
from circuit_assertions.plugin.options import Options
from circuit_assertions.plugin.reported import note
from circuit_assertions.report import explain
from circuit_assertions.results import AssertionResult
from circuit_assertions.results.facts import audited_model
from circuit_assertions.results.judged import judged, planned
from circuit_assertions.verdict_words import Outcome

__all__ = ["Expecting", "outcome_of_expectations"]

_PENDING = pytest.StashKey["Expecting"]()


@dataclass
class Expecting:
    """The expectations of one test, as they are judged.

    Attributes:
        label: the checkpoint's part of the test's name; empty if there is only one checkpoint.
    """

    item: pytest.Item
    runner: SuiteRunner
    options: Options
    checkpoint: Checkpoint
    label: str
    _lines: list[AssertionResult] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)
    _not_asked: list[str] = field(default_factory=list)

    def conclude(self, asked: PlannedAssertion, judgement: Judgement | NotApplicable) -> None:
        """Note a verdict.

        Raises:
            NotHeldError: where the test fails by it.
        """
        __tracebackhide__ = True
        self.item.stash[_PENDING] = self
        result = judged(planned(asked, self._file, name=self._name(asked)), asked.assertion, judgement)
        self._add(result)
        if isinstance(judgement, NotApplicable):
            self._not_asked.append(judgement.reason)
            return
        text = explain(result.model_copy(update={"command": self._again(asked)}))
        if judgement.verdict is Verdict.UNRESOLVED and self.options.unresolved != "fail":
            self._open.append(text)
        elif judgement.verdict is not Verdict.HELD:
            raise NotHeldError(text)

    def finish(self) -> None:
        """Give a finished test the outcome of its expectations."""
        if self._open:
            pytest.skip(f"{Outcome.UNRESOLVED}: {self._open[0]}")
        if self._not_asked and len(self._not_asked) == len(self._lines):
            pytest.skip(self._not_asked[0])

    def _add(self, line: AssertionResult) -> None:
        self._lines.append(line)
        model = audited_model(self.runner, self.checkpoint)
        note(self.item, of_suite=False, model=model, assertions=tuple(self._lines))

    def _name(self, asked: PlannedAssertion) -> str:
        """The test, and what it expects where it expects several things."""
        name = self._without_label(self.item.name)
        number = len(self._lines) + 1
        return f"{name}: {asked.assertion.id}" if number == 1 else f"{name}: {asked.assertion.id} ({number})"

    @property
    def _file(self) -> str:
        return os.path.relpath(self.item.path, self.item.config.invocation_params.dir)

    def _again(self, asked: PlannedAssertion) -> str:
        """The command that reproduces the test for this checkpoint."""
        command = [f"{self.options.spelled('--model')}={asked.checkpoint}", *self.options.spelled_out]
        command.append(f"{self._file}::{self._without_label(self.item.nodeid.partition('::')[2])}")
        return f"pytest {shlex.join(command)}"

    def _without_label(self, name: str) -> str:
        """The name that the test has where there is one checkpoint alone."""
        if not self.label:
            return name
        for inside, rest in ((f"[{self.label}]", ""), (f"[{self.label}-", "["), (f"-{self.label}]", "]")):
            name = name.replace(inside, rest)
        return name


def outcome_of_expectations(item: pytest.Item) -> None:
    """Skip a test whose expectations are UNRESOLVED or were skipped. It has not failed."""
    expecting = item.stash.get(_PENDING, None)
    if expecting is not None:
        expecting.finish()
