"""What `circuit-assertions init` does with its options."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli.ci_file import ci_file
from circuit_assertions.cli.options import in_one_go, lender_of, one_checkpoint, opening_of, policy_of
from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.cli.searching import (
    circuit_name,
    circuit_place,
    discovery_text,
    not_found,
    search,
    task_searched,
    write_circuit,
)
from circuit_assertions.cli.writable import check_writable
from circuit_assertions.diagnosis.suites_given import suites_given
from circuit_assertions.files import write_whole
from circuit_assertions.places import suite_path
from circuit_assertions.verdict_words import Outcome as Verdict

if TYPE_CHECKING:
    from circuit_assertions.audit import Audit
    from circuit_assertions.checkpoints import Checkpoint
    from circuit_assertions.diagnosis.discovery import Discovery
    from circuit_assertions.results import AssertionResult, AuditedModel
    from circuit_assertions.tasks import Task

__all__ = ["run_init"]


@dataclass(frozen=True)
class Places:
    """The files that are written, none of which may exist.

    Attributes:
        ci: None where no workflow is wanted.
    """

    circuit: Path
    suite: Path
    ci: Path | None

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file, the head map of the circuit among them."""
        return (self.suite, self.circuit, self.circuit.with_suffix(".svg"), *((self.ci,) if self.ci else ()))

    def check(self) -> None:
        """Check that none of them exists, and that all can be written.

        Raises:
            CircuitAssertionsError: naming all that exist, and the way out.
        """
        for place, option in ((self.circuit, "-o"), (self.suite, "--suite")):
            if place.suffix not in (".yaml", ".yml"):
                raise CircuitAssertionsError(f"{place} must end in .yaml: give another {option} FILE")
        if there := [str(place) for place in self.all if os.path.lexists(place)]:
            raise CircuitAssertionsError(
                f"{', '.join(there)} exist{'s' * (len(there) == 1)}, and init changes no existing file: move or remove "
                "what you do not need, or give other places with --suite FILE, -o FILE (the circuit file and its "
                "head map) and --ci FILE or --no-ci"
            )
        for place in self.all:
            check_writable(place)


def run_init(given: argparse.Namespace) -> Outcome:
    """Find a base model's circuit, write the files, and check that the base passes.

    Args:
        given: what `add_init` has options for.

    Raises:
        CircuitAssertionsError: if the model or the task cannot be used, or a file exists or cannot be written.
    """
    from circuit_assertions.diagnosis.errors import NoCircuitError

    name, task = task_searched(given)
    checkpoint, opening = one_checkpoint(given.model), opening_of(given, lender_of(given))
    policy, circuit = policy_of(given), circuit_name(given, task, name)
    places = Places(
        given.output or circuit_place(given, checkpoint, circuit),
        given.suite or Path("suites", f"{circuit}.yaml"),
        given.ci,
    )
    places.check()

    from circuit_assertions.audit import Audit

    audit = Audit(opening, policy=policy)
    try:
        found = search(given, audit, checkpoint, name, task)
    except NoCircuitError as error:
        said = discovery_text(not_found(audit, checkpoint, error))
        return Outcome(f"{said}\nnothing is written: a suite would have no circuit to test", 1)
    places.check()  # the search may have taken an hour
    summary = _write(given, found, places, name, task)
    audited, lines = _judged(audit, checkpoint, places.suite)
    return Outcome(f"{summary}\n{printed(_lines(given, places, audited, lines))}", int(bool(_failing(lines))))


def _write(given: argparse.Namespace, found: Discovery, places: Places, name: str, task: Task) -> str:
    """Write all files, or none of them. Returns the summary of the search."""
    from circuit_assertions.diagnosis.discovery.suite_file import suite_file, task_values
    from circuit_assertions.results import DiscoveryResult

    result = DiscoveryResult.of(found, str(places.circuit))
    prompts = found.task.get("prompts", task.count)
    values = task_values(task, prompts, _file_of_prompts(given, task, places.suite))
    texts: Mapping[Path, str] = {places.suite: suite_file(found, task, name, values)}
    if places.ci is not None:
        texts = {**texts, places.ci: ci_file(places.suite.as_posix(), given.model, given.candidate)}
    try:
        write_circuit(found, result, places.circuit)
        for place, text in texts.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, text)
    except (CircuitAssertionsError, OSError) as error:
        for place in places.all:
            place.unlink(missing_ok=True)
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise CircuitAssertionsError(f"the files cannot be written, and none is left: {said}") from error
    return discovery_text(result)


def _file_of_prompts(given: argparse.Namespace, task: Task, suite: Path) -> str | None:
    """The file of the task's prompts, from the suite's folder; None where they are drawn or written inline."""
    file = getattr(task, "file", None)
    named = suite_path(str(given.task).partition("::")[0]).parent / file if file else None
    if named is None or not named.is_file():  # what the command line changed stands inline
        return None
    return os.path.relpath(named, suite.parent)


def _judged(audit: Audit, checkpoint: Checkpoint, suite: Path) -> tuple[AuditedModel, list[AssertionResult]]:
    """The suite's verdicts on the base itself, without a baseline."""
    from circuit_assertions.assertions.runner import SuiteRunner
    from circuit_assertions.results.facts import audited_model
    from circuit_assertions.results.of_suites import results_of

    runner = SuiteRunner(audit)
    with in_one_go(audit, lambda what: f"{suite}: {what}"):
        lines = results_of(runner, checkpoint, suites_given([suite]))
    return audited_model(runner, checkpoint), lines


def _failing(lines: list[AssertionResult]) -> list[AssertionResult]:
    """What keeps the base from passing: all that does not hold, but for what needs a baseline."""
    fine = (Verdict.HELD, Verdict.SKIPPED)
    return [line for line in lines if line.outcome not in fine or (line.outcome == Verdict.SKIPPED and line.required)]


def _lines(
    given: argparse.Namespace, places: Places, audited: AuditedModel, lines: list[AssertionResult]
) -> Iterator[tuple[str, str]]:
    """What was written, the verdicts, and what to do next."""
    from circuit_assertions.report import summary_lines
    from circuit_assertions.report.tables import Column, table

    others = [str(places.suite), *([str(places.ci)] if places.ci else [])]
    yield from ((line, "") for line in table([("", other) for other in others], Column(least=12)))
    yield "", ""
    yield from summary_lines([audited], lines)
    yield "", ""
    failing, held = _failing(lines), sum(line.outcome == Verdict.HELD for line in lines)
    options = [f"--model={given.candidate}", f"--baseline={given.model}"]
    if failing:
        worst = failing[0].outcome
        yield f"check     {given.model} does not pass its own suite: {', '.join(line.id for line in failing)}", worst
        yield "next      give more --prompts, or ask less in the suite; then run", ""
        options = [f"--model={given.model}"]
    else:
        yield f"check     {given.model} passes its own suite: {held} of {held} assertions hold", Verdict.HELD
        yield "next      test a fine-tuned checkpoint:", ""
    yield f"          pytest {shlex.join([*options, str(places.suite)])}", ""
    if places.ci is not None:
        yield f"          in CI, {places.ci} does this: set CANDIDATE and BASELINE in it, and commit the files", ""
