"""What `circuit-assertions hunt` does with its options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.planned import NotApplicable, PlannedAssertion
from circuit_assertions.cli.options import in_one_go, one_checkpoint, open_audit
from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.cli.record_options import folder_of
from circuit_assertions.diagnosis.suites_given import suites_given
from circuit_assertions.places import shown_path, suite_path
from circuit_assertions.tasks.schema import closest
from circuit_assertions.verdict_words import Outcome as Verdict

if TYPE_CHECKING:
    from circuit_assertions.assertions.runner import SuiteRunner
    from circuit_assertions.checkpoints import Checkpoint
    from circuit_assertions.hunting.searching import Counterexample, Hunt
    from circuit_assertions.report import Progress
    from circuit_assertions.results import HuntResult
    from circuit_assertions.results.hunt import FailingPrompt

__all__ = ["run_hunt"]


def run_hunt(given: argparse.Namespace) -> Outcome:
    """Search a prompt on which an assertion fails.

    Args:
        given: what `add_hunt` has options for.

    Raises:
        CircuitAssertionsError: if the assertion or the model cannot be used.
    """
    from circuit_assertions.assertions.runner import SuiteRunner
    from circuit_assertions.cli.hunt_recording import HuntRecording
    from circuit_assertions.hunting.searching import DATABASE, hunt

    checkpoint = one_checkpoint(given.model)
    baseline = one_checkpoint(given.baseline) if given.baseline else None
    asked = _asked(given, checkpoint)
    runner = SuiteRunner(open_audit(given, baseline), baseline)
    recording = HuntRecording(runner, checkpoint)
    stage = ["on average"]
    with in_one_go(runner.audit, lambda what: f"{asked.assertion.id}, {stage[0]}") as progress:
        found = hunt(
            runner,
            asked,
            seed=given.seed,
            examples=given.examples,
            by=given.by,
            database=None if given.no_database else DATABASE,
            say=_saying(progress, stage, given.examples),
        )
    if isinstance(found, NotApplicable):
        raise CircuitAssertionsError(f"{given.assertion} does not apply to {given.model}: {found.reason}")
    result = _result(given, runner, asked, found)
    if given.save is not None:
        file = recording.save(folder_of(given), given.save, result, _options(given))
        result = result.model_copy(update={"record": str(file)})
    broken = result.found is not None or result.average.outcome == Verdict.BROKEN
    return Outcome(result.to_json() if given.json else _text(result), int(broken))


def _options(given: argparse.Namespace) -> tuple[str, ...]:
    """How the search was started, as arguments; what has its default is left out."""
    said = [("--baseline", given.baseline), ("--seed", given.seed or None), ("--by", given.by or None)]
    return (given.assertion, *(f"{name}={value}" for name, value in said if value is not None))


def _asked(given: argparse.Namespace, checkpoint: Checkpoint) -> PlannedAssertion:
    """The assertion that was named.

    Raises:
        CircuitAssertionsError: if there is none.
    """
    file, separator, name = given.assertion.rpartition("::")
    if not separator or not name:
        raise CircuitAssertionsError(f"{given.assertion!r} is not an assertion: write it as suites/mine.yaml::ID")
    ((suite, circuits),) = suites_given([suite_path(file)], given.circuit)
    known = {one.id: one for one in suite.suite.assertions}
    if name not in known:
        raise CircuitAssertionsError(f"{file} has no assertion {name!r}{closest(name, list(known))}")
    return PlannedAssertion(suite, known[name], checkpoint, circuits)


def _saying(progress: Progress, stage: list[str], examples: int) -> Callable[[int, bool], None]:
    def say(done: int, failed: bool) -> None:
        if failed:
            stage[0] = f"making a failing prompt simpler, {done} tried"
        else:
            stage[0] = f"prompt {done + 1} of {examples}"
            progress.of_run(done, examples, "prompts")

    return say


def _result(given: argparse.Namespace, runner: SuiteRunner, asked: PlannedAssertion, found: Hunt) -> HuntResult:
    from circuit_assertions.hunting.searching import DATABASE
    from circuit_assertions.results import CheckpointFacts, HuntResult
    from circuit_assertions.results.base import PolicyUsed
    from circuit_assertions.results.judged import judged, planned

    average = judged(planned(asked, shown_path(asked.suite.file)), asked.assertion, found.average)
    return HuntResult(
        policy=PolicyUsed.of(runner.audit.policy),
        model=CheckpointFacts.of(asked.checkpoint, runner.audit.opened(asked.checkpoint)),
        baseline=None if runner.baseline is None else str(runner.baseline),
        average=average.without_values(),
        failing=found.failing,
        asked=found.asked,
        seed=given.seed,
        examples=given.examples,
        by=given.by,
        tried=found.tried,
        simplified=found.simplified,
        kept=found.kept,
        database=None if given.no_database else str(DATABASE),
        found=None if found.found is None else _failing(runner, asked, found.found),
    )


def _failing(runner: SuiteRunner, asked: PlannedAssertion, found: Counterexample) -> FailingPrompt:
    from circuit_assertions.results.hunt import FailingPrompt, PromptValue

    tokenizer, prompt = runner.audit.model(asked.checkpoint).source.tokenizer, found.prompt

    def words(tokens: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(tokenizer.decode([token]).strip() for token in tokens)

    return FailingPrompt(
        text=prompt.before + prompt.text,
        tokens=prompt.tokens,
        right=words(prompt.right.tokens),
        wrong=words(prompt.wrong.tokens),
        template=prompt.template,
        chosen=dict(found.chosen),
        rows=tuple(
            PromptValue(name=one.name, value=one.value, missed=one.missed, baseline=one.baseline)
            for one in found.missed.rows
        ),
        missed=found.missed.by,
    )


def _text(result: HuntResult) -> str:
    from circuit_assertions.report.hunted import hunt_lines

    return printed(hunt_lines(result))
