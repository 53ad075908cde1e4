"""`circuit-assertions track`: log the figures of audits to MLflow or Weights & Biases, step by step."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli.output import Outcome

if TYPE_CHECKING:
    from circuit_assertions.results import AuditResult

__all__ = ["add_track"]

_MOST_BYTES = 512_000_000


def add_track(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("track", help="log the figures of audits to MLflow or Weights & Biases, step by step")
    verb.add_argument("audits", nargs="+", type=Path, metavar="FILE", help="what --circuit-json wrote")
    verb.add_argument("--to", required=True, metavar="TRACKER", help="mlflow or wandb, each an extra")
    verb.add_argument(
        "--where",
        metavar="URI|FOLDER",
        help="the tracking URI of MLflow (default $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db), or the folder of "
        "Weights & Biases (default the working directory)",
    )
    verb.add_argument(
        "--project", default="circuit-assertions", help="the experiment, or the project (default %(default)s)"
    )
    verb.add_argument(
        "--run", dest="named", metavar="NAME", help="the run's name; default the training run, or the checkpoint"
    )
    verb.add_argument(
        "--step", type=int, metavar="N", help="the step of a checkpoint that is not called checkpoint-N (default 0)"
    )
    verb.epilog = (
        "Checkpoints of one training run, `run/checkpoint-N`, become one run with N as the step. Exit code 0: logged. "
        "2: it could not be done."
    )
    verb.set_defaults(run=_track)


def _track(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.trackers import figures_of, open_tracker, run_and_step

    runs: dict[str, dict[int, dict[str, float]]] = {}
    for file in given.audits:
        result = _read(file)
        for model in dict.fromkeys(line.model for line in result.assertions):
            figures = figures_of(line for line in result.assertions if line.model == model)
            run, step = run_and_step(model, given.step)
            runs.setdefault(run, {}).setdefault(step, {}).update(figures)
    if not runs:
        raise CircuitAssertionsError("no assertion was judged in these audits: there is nothing to log")
    lines = []
    for run, steps in runs.items():
        name = given.named or run
        tracker = open_tracker(given.to, name, where=given.where, project=given.project)
        try:
            for step, figures in sorted(steps.items()):
                tracker.log(figures, step)
        except BaseException:
            tracker.end(failed=True)
            raise
        tracker.end()
        count = sum(map(len, steps.values()))
        shown = ", ".join(map(str, sorted(steps)))
        lines.append(f"logged    {count} figures of {run} to {given.to}, run {name!r}, steps {shown}")
    return Outcome("\n".join(lines))


def _read(file: Path) -> AuditResult:
    """The result of an audit.

    Raises:
        CircuitAssertionsError: if the file is none.
    """
    from pydantic import ValidationError

    from circuit_assertions.bounded import UnreadableError, read_bounded
    from circuit_assertions.results import AuditResult

    try:
        return AuditResult.model_validate_json(read_bounded(file, _MOST_BYTES))
    except UnreadableError as error:
        raise CircuitAssertionsError(f"{file} {error}") from error
    except ValidationError as error:
        raise CircuitAssertionsError(
            f"{file} is not the result of an audit: give a file that pytest --circuit-json=FILE wrote"
        ) from error
