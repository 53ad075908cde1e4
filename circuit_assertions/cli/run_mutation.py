"""What `circuit-assertions mutate` does with its options."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuit_assertions.cli.options import in_one_go, lender_of, one_checkpoint, opening_of, policy_of
from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.cli.writable import check_writable
from circuit_assertions.diagnosis.suite_verdicts import Suites, named
from circuit_assertions.diagnosis.suites_given import suites_given
from circuit_assertions.mutation.errors import MutationError
from circuit_assertions.mutation.kinds import Mutant, mutants_of
from circuit_assertions.places import shown_path

if TYPE_CHECKING:
    from circuit_assertions.audit import Audit
    from circuit_assertions.heads import Head
    from circuit_assertions.mutation.testing import MutantTest, Undamaged
    from circuit_assertions.mutation.work import Done
    from circuit_assertions.report import Progress
    from circuit_assertions.results import MutationResult

__all__ = ["run_mutation"]


def run_mutation(given: argparse.Namespace) -> Outcome:
    """Test suites with mutants of a model.

    Args:
        given: what `add_mutate` has options for.

    Raises:
        CircuitAssertionsError: if the suites or the model cannot be used, or an earlier run cannot be continued.
    """
    if given.resume is not None:
        check_writable(given.resume, "mutants.jsonl")
    suites = suites_given(given.suites, given.circuit)
    base, lender = one_checkpoint(given.model), lender_of(given)

    from circuit_assertions.audit import Audit
    from circuit_assertions.mutation.settings import bindings_of, heads_of, settings_of
    from circuit_assertions.mutation.testing import judge_undamaged
    from circuit_assertions.mutation.work import Work

    audit = Audit(opening_of(given, lender), base, policy_of(given))
    doing, stopped = ["the undamaged model"], [""]
    with _kept(stopped), in_one_go(audit, lambda what: f"{doing[0]}, {what}") as progress:
        bindings = bindings_of(audit, suites)
        heads, heads_from = _damaged(given, audit, heads_of(audit, suites, bindings))
        layout = audit.model(base).layout
        mutants = mutants_of(heads, layout.layers, lambda layer: layout.heads // layout.groups(layer), only=given.only)
        settings = settings_of(audit, suites, bindings, given.seed, given.strength)
        work = Work.opened(_file(given, settings), settings)
        undamaged = judge_undamaged(audit, named(suites))
        left = [mutant for mutant in mutants if str(mutant) not in work.done]
        tell = _telling(progress, doing, len(left), len(mutants))
        for one in _tester(given, audit, undamaged).run(left, tell) if left else ():
            work.add(one)
            if work.file is not None:
                stopped[0] = f"{len(work.done)} mutants are kept in {work.file}: the same command continues"
    done = [work.done[str(mutant)] for mutant in mutants]
    result = _result(given, audit, suites, [str(one) for one in bindings], (heads, heads_from), undamaged, done)
    if given.resume is None and work.file is not None:
        work.file.unlink(missing_ok=True)
    return Outcome(result.to_json() if given.json else _text(result), _code(result, given.fail_under))


def _damaged(given: argparse.Namespace, audit: Audit, own: Sequence[Head]) -> tuple[tuple[Head, ...], str]:
    """The heads that are damaged, and why these.

    Raises:
        MutationError: if the model has no such head.
    """
    assert audit.baseline is not None
    model = audit.model(audit.baseline)
    if given.heads == "all":
        return tuple(model.layout.all_heads()), "all heads of the model"
    if given.heads is None:
        if not own:
            return (
                (),
                "no circuit file fits, and no assertion names a head: give --heads=L2H0,... or --heads=all",
            )
        return tuple(own), "of the circuit, and named by assertions"
    for head in given.heads:
        if not model.shape.has(head):
            raise MutationError(f"{audit.baseline} has no head {head}: it has {model.shape.extent}")
    return tuple(sorted(set(given.heads))), "of --heads"


def _file(given: argparse.Namespace, settings: Mapping[str, Any]) -> Path | None:
    """Where the work is kept: without --resume in a file whose name follows from the settings."""
    if given.resume is not None:
        return Path(given.resume)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return Path(f"mutate-{digest[:12]}.jsonl") if os.access(Path.cwd(), os.W_OK) else None


def _telling(progress: Progress, doing: list[str], left: int, total: int) -> Callable[[Mutant, int], None]:
    """What shows which mutant is tested, and how long the others may take."""
    began = time.monotonic()

    def tell(mutant: Mutant, done: int) -> None:
        passed = time.monotonic() - began
        # A bar shows the time that is left by itself.
        remaining = f", about {passed / done * (left - done):.0f} s left" if done and not progress.live else ""
        doing[0] = f"{mutant} ({total - left + done + 1} of {total} mutants{remaining})"
        progress.of_run(done, left, "mutants")

    return tell


def _tester(given: argparse.Namespace, audit: Audit, undamaged: Undamaged) -> MutantTest:
    """What damages a second copy of the model."""
    from circuit_assertions.checkpoints.opening import open_checkpoint
    from circuit_assertions.engine import Model
    from circuit_assertions.mutation.testing import MutantTest

    copy = Model.of(open_checkpoint(undamaged.checkpoint, audit.opening))
    return MutantTest(audit, undamaged, copy, given.seed, given.strength)


@contextlib.contextmanager
def _kept(stopped: Sequence[str]) -> Iterator[None]:
    """State what is kept of a run that Ctrl-C or an error has stopped."""
    try:
        yield
    except BaseException:
        if stopped[0]:
            print(f"circuit-assertions: {stopped[0]}", file=sys.stderr)
        raise


def _result(
    given: argparse.Namespace,
    audit: Audit,
    suites: Suites,
    circuits: Sequence[str],
    heads: tuple[Sequence[Head], str],
    undamaged: Undamaged,
    done: Sequence[Done],
) -> MutationResult:
    from circuit_assertions.mutation.scoring import scored
    from circuit_assertions.results import CheckpointFacts, MutationResult
    from circuit_assertions.results.base import PolicyUsed

    negligible = audit.policy.negligible_effect
    return MutationResult.model_validate(
        {
            "model": CheckpointFacts.of(undamaged.checkpoint, audit.opened(undamaged.checkpoint)),
            "suites": tuple(shown_path(suite.file) for suite, _ in suites),
            "circuits": tuple(circuits),
            "heads": tuple(map(str, heads[0])),
            "heads_from": heads[1],
            "seed": given.seed,
            "strength": given.strength,
            "negligible": negligible,
            "policy": PolicyUsed.of(audit.policy),
            "left_out": undamaged.left_out,
            **scored(done, undamaged.assertions, negligible),
        }
    )


def _text(result: MutationResult) -> str:
    from circuit_assertions.report.mutated import mutation_lines

    return printed(mutation_lines(result))


def _code(result: MutationResult, least: float | None) -> int:
    if least is None:
        return 0
    share = result.score.share
    return int(share is None or 100 * share.mean < least)
