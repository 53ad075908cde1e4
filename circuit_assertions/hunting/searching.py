"""The search: hypothesis draws prompts of the task, and makes the one that fails as simple as it can.

A prompt is drawn choice by choice (`TaskKind.choices`), whose options stand in order, the simplest first. The failing
prompt is kept in hypothesis's example database under the assertion, so that the next run tries it first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuit_assertions.assertions.planned import NotApplicable, PlannedAssertion
from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.assertions.verdicts import Judgement, Verdict
from circuit_assertions.hunting.errors import HuntError
from circuit_assertions.hunting.single_prompts import Missed, check_single, missed_by
from circuit_assertions.tasks import Choice, ChosenPrompt, Prompt, Task, TaskError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from circuit_assertions.assertions.expectation import Expectation
    from circuit_assertions.request import Request

__all__ = ["DATABASE", "Counterexample", "Hunt", "hunt"]

DATABASE = Path(".hypothesis", "examples")


@dataclass(frozen=True)
class Counterexample:
    """A prompt on which the assertion fails.

    Attributes:
        chosen: by what it was chosen.
    """

    prompt: Prompt
    chosen: Mapping[str, Any]
    missed: Missed


@dataclass(frozen=True)
class Hunt:
    """What was searched, and what was found.

    Attributes:
        expected: the expectation with all its numbers.
        average: the judgement on the task's own prompts.
        failing: how many of these fail alone, and `asked`, of how many.
        tried: how many prompts were drawn until one failed, and `simplified`, how many to make it simpler.
        found: None where no prompt failed, or none was searched because the assertion is broken on average.
        kept: whether the first prompt that failed was kept by an earlier run.
    """

    expected: Expectation
    average: Judgement
    failing: int
    asked: int
    tried: int
    simplified: int
    found: Counterexample | None
    kept: bool = False


@dataclass
class _Trying:
    """Puts single prompts to a model.

    Attributes:
        by: how much a prompt must miss the assertion by, to count as failing.
    """

    runner: SuiteRunner
    asked: PlannedAssertion
    request: Request
    expect: Expectation
    by: float
    say: Callable[[int, bool], None]
    tried: int = 0
    simplified: int = 0
    failed: dict[str, Counterexample] = field(default_factory=dict)
    known: dict[str, Missed | None] = field(default_factory=dict)

    def fails(self, chosen: Mapping[str, Any]) -> bool:
        """Whether the assertion fails on a prompt; one that the tokenizer does not allow does not fail."""
        key = repr(sorted(chosen.items()))
        if key not in self.known:
            self.known[key] = self._put(chosen)
            if self.failed:
                self.simplified += 1
            else:
                self.tried += 1
            if self._counts(self.known[key]):
                self.failed[key] = self._counterexample(chosen)
            self.say(self.tried + self.simplified, bool(self.failed))
        return self._counts(self.known[key])

    def _counts(self, missed: Missed | None) -> bool:
        return missed is not None and missed.by > self.by

    def _put(self, chosen: Mapping[str, Any]) -> Missed | None:
        try:
            reading, before = self._read(ChosenPrompt.from_task(self.asked.task, chosen))
        except TaskError:
            return None
        (missed,) = missed_by(reading, self.expect, self.asked.assertion.needed, before)
        return missed

    def _read(self, task: Task) -> tuple[Any, Any]:
        request, audit, baseline = replace(self.request, task=task), self.runner.audit, self.runner.baseline
        before = None if baseline is None else audit.read(request, baseline)
        return audit.read(request, self.asked.checkpoint), before

    def _counterexample(self, chosen: Mapping[str, Any]) -> Counterexample:
        task = ChosenPrompt.from_task(self.asked.task, chosen)
        (prompt,) = self.runner.audit.prompts(task, self.asked.checkpoint).prompts
        missed = self.known[repr(sorted(chosen.items()))]
        assert missed is not None
        return Counterexample(prompt, dict(chosen), missed)


def hunt(
    runner: SuiteRunner,
    asked: PlannedAssertion,
    *,
    seed: int = 0,
    examples: int = 200,
    by: float = 0.0,
    database: Path | None = DATABASE,
    say: Callable[[int, bool], None] = lambda done, failed: None,
) -> Hunt | NotApplicable:
    """Search the simplest prompt on which an assertion fails.

    The same seed gives the same prompt, as long as nothing is kept in the database.

    Args:
        seed: of the prompts that are drawn.
        examples: how many are drawn at most, until one fails.
        by: how much a prompt must miss the assertion by, in the unit of the measure.
        database: the folder of hypothesis's examples; None for none.
        say: told how many prompts were put to the model, and whether one of them failed.

    Raises:
        HuntError: if no single prompt can fail the assertion.
        CircuitAssertionsError: if the model, the task or the measure does not allow it.
    """
    check_single(asked.assertion)
    runner.announce([asked])
    average = runner.judge(asked)
    if isinstance(average, NotApplicable):
        return average
    requests = runner.requesting.requests(asked)
    if isinstance(requests, NotApplicable):
        return requests
    expected = runner.expected(asked, requests)
    if isinstance(expected, NotApplicable):
        return expected
    expect = expected[0] if runner.baseline is not None else expected[0].without_baseline()[0]
    own = missed_by(average.reading, expect, asked.assertion.needed, _baseline_of(runner, asked, requests[0], average))
    failing = sum(one.by > by for one in own)
    if average.verdict is Verdict.BROKEN:  # no single prompt is a surprise
        return Hunt(expect, average, failing, len(own), 0, 0, None)
    trying = _Trying(runner, asked, requests[0], expect, by, say)
    found = _simplest(trying, asked, seed, examples, database)
    first = next(iter(trying.failed.values()), None)
    return Hunt(
        expected=expect,
        average=average,
        failing=failing,
        asked=len(own),
        tried=trying.tried,
        simplified=trying.simplified,
        found=None if found is None else trying.failed[repr(sorted(found.items()))],
        kept=first is not None and trying.tried == 1 and database is not None and found == first.chosen,
    )


def _baseline_of(runner: SuiteRunner, asked: PlannedAssertion, request: Request, average: Judgement) -> Any:
    """The baseline's reading of the prompts that the judgement rests on."""
    if runner.baseline is None:
        return None
    look = next(one for one in asked.looks if one.task.count == average.reading.prompts)
    return runner.audit.read(replace(request, task=look.task), runner.baseline)


def _simplest(
    trying: _Trying, asked: PlannedAssertion, seed: int, examples: int, database: Path | None
) -> Mapping[str, Any] | None:
    """The simplest choices that hypothesis finds; None where no prompt failed."""
    from circuit_assertions.hunting.kept_prompts import simplest

    baseline = trying.runner.baseline or asked.checkpoint
    choices = asked.task.choices(trying.runner.audit.model(baseline).source.tokenizer)
    if not all(choice.options for choice in choices.values()):
        raise HuntError(f"{asked.assertion.id}: the task has nothing to choose prompts by")
    found: Mapping[str, Any] | None = simplest(
        _strategy(choices), trying.fails, number=seed, examples=examples, database=database, key=_key(asked)
    )
    return found


def _strategy(choices: Mapping[str, Choice]) -> SearchStrategy[dict[str, Any]]:
    from hypothesis import strategies as st

    def drawn(choice: Choice) -> SearchStrategy[Any]:
        one = st.sampled_from(choice.options)
        if not choice.several:
            return one
        return st.lists(one, min_size=choice.several, max_size=choice.several, unique=True).map(tuple)

    return st.fixed_dictionaries({name: drawn(choice) for name, choice in choices.items()})


def _key(asked: PlannedAssertion) -> bytes:
    """What a kept prompt belongs to: the assertion and its task, whichever the model and the seed."""
    assertion = asked.assertion.model_dump(mode="json", include={"id", "measure", "heads", "expect", "quantifier"})
    task = asked.task.model_dump(mode="json", exclude={"prompts", "seed"})
    text = json.dumps([assertion, task], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).digest()
