"""`circuit-assertions`: the few verbs that are not a test run."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from circuit_assertions import CircuitAssertionsError, __version__
from circuit_assertions.cli.audit import add_audit
from circuit_assertions.cli.cache import add_cache
from circuit_assertions.cli.calibrate import add_calibrate
from circuit_assertions.cli.compare import add_compare
from circuit_assertions.cli.diagnose import add_diagnose
from circuit_assertions.cli.discover import add_discover
from circuit_assertions.cli.edges import add_edges
from circuit_assertions.cli.graft import add_graft
from circuit_assertions.cli.hunt import add_hunt
from circuit_assertions.cli.init import add_init
from circuit_assertions.cli.list_records import add_list
from circuit_assertions.cli.masks import add_masks
from circuit_assertions.cli.mutate import add_mutate
from circuit_assertions.cli.options import VerbParser, add_lender, add_permissions, lender_of, permissions_of
from circuit_assertions.cli.output import CUT_OFF, Outcome, hush, open_streams, say
from circuit_assertions.cli.plan import add_plan
from circuit_assertions.cli.policy import add_policy_verb
from circuit_assertions.cli.show_record import add_show
from circuit_assertions.cli.sweep import add_sweep
from circuit_assertions.cli.task_options import add_keys_of_kinds, keys_of_kinds
from circuit_assertions.cli.traces import add_traces
from circuit_assertions.cli.track import add_track
from circuit_assertions.cli.trajectory import add_trajectory
from circuit_assertions.cli.wrapped import add_wrapped
from circuit_assertions.places import CHAINS, CIRCUITS, shown_path, suite_path
from circuit_assertions.printable import printable
from circuit_assertions.unexpected import tell_unexpected

__all__ = ["main"]

_INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended: 128 + SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb.

    Returns 0 when it did its job, 1 when what it checked is not valid, 2 when it could not be done; 130 after Ctrl-C
    (`audit`, being pytest, 2), and 141 where a closed pipe ended it before its verdict was known, as shells say.
    """
    # Threads that wait by spinning are ten times slower where anything else uses a core; to be said before torch comes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        open_streams()
        given, rest = _read(arguments)
        return say(_run(given, rest))
    except BrokenPipeError:
        hush(sys.stdout, sys.stderr)  # whichever of them it was
        return CUT_OFF
    except KeyboardInterrupt:
        # Behind the ^C that a terminal shows.
        print("\n" * sys.stderr.isatty() + "circuit-assertions: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except CircuitAssertionsError as error:
        print(f"circuit-assertions: {error}", file=sys.stderr)
        return 2


def _run(given: argparse.Namespace, rest: list[str]) -> Outcome:
    asked = f" of {given.model}" if getattr(given, "model", None) else ""
    with tell_unexpected(f"`{given.verb}`{asked} failed"):
        return cast(Outcome, given.run(given, rest))


def _read(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = _parser()
    given, rest = parser.parse_known_args(arguments)
    if rest and given.verb != "audit":
        parser.error(printable(f"unknown arguments: {' '.join(rest)}"))
    if given.verb == "audit" and _follows_an_option(given.model, sys.argv[1:] if arguments is None else arguments):
        # pytest's options are not known here, so what follows one may be its value.
        parser.error(f"audit: give the model first, then pytest's options (is {given.model!r} the model?)")
    return given, rest


def _follows_an_option(model: str, arguments: Sequence[str]) -> bool:
    return arguments[list(arguments).index("audit") + 1] != model


# The keys of `results.RESULTS`, which is imported once one is asked for.
_RESULTS = (
    *("audit", "calibration", "comparison", "diagnosis", "discovery", "edges", "graft", "hunt", "masks"),
    *("mutation", "plan", "policy", "sweep", "traces", "trajectory", "trend", "wrapped"),
)
_FORMATS = ("suite", "chain", "record")


_VERBS = (
    add_init,
    add_cache,
    add_calibrate,
    add_compare,
    add_diagnose,
    add_discover,
    add_edges,
    add_graft,
    add_list,
    add_masks,
    add_hunt,
    add_mutate,
    add_track,
    add_show,
    add_plan,
    add_sweep,
    add_traces,
    add_trajectory,
    add_wrapped,
    add_policy_verb,
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="circuit-assertions", description="Regression tests for the mechanisms inside language models."
    )
    parser.add_argument("--version", action="version", version=f"circuit-assertions {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=VerbParser)

    add_audit(verbs)

    show = verbs.add_parser("show-task", help="print the prompts of a task, as this model reads them")
    show.add_argument(
        "task",
        help="a kind of task, a task file, suite.yaml::name, or a suite for its first task: as in discover",
    )
    show.add_argument("name", nargs="?", help="the task's name, where a suite is given")
    show.add_argument("--model", required=True, help="the checkpoint whose tokenizer is used")
    show.add_argument("--tokenizer", help="take the tokenizer from here instead")
    add_lender(show)
    add_permissions(show)
    show.add_argument("--most", type=_count, default=4, help="how many prompts to print (default 4)")
    show.add_late = add_keys_of_kinds
    show.set_defaults(run=_show_task)

    for add in _VERBS:
        add(verbs)

    _add_listings(verbs)

    validate = verbs.add_parser("validate", help="check suites, circuit and chain files without opening a model")
    validate.add_argument("paths", nargs="+", type=suite_path, help="suite files, or folders of them")
    validate.set_defaults(run=_validate)

    schema = verbs.add_parser(
        "schema", help="print the JSON Schema of the suite, chain or record format, or of a result"
    )
    schema.add_argument(
        "format", nargs="?", choices=("suite", "chain", "record"), default="suite", help="default suite"
    )
    schema.add_argument(
        "--result",
        choices=_RESULTS,
        help="the kind of result whose schema is printed, instead of a format",
    )
    schema.set_defaults(run=_schema)
    return parser


def _add_listings(verbs: Any) -> None:
    measures = verbs.add_parser("measures", help="list what can be measured: operands, unit, source")
    measures.set_defaults(run=_measures)

    tasks = verbs.add_parser("tasks", help="list the kinds of tasks: keys, positions, circuit")
    tasks.set_defaults(run=_tasks)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of prompts")
    return int(text)


def _show_task(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.assertions.task_lookup import find_task
    from circuit_assertions.checkpoints import Opening, find_checkpoints
    from circuit_assertions.report import prompts_listing

    said = given.task if given.name is None else f"{given.task}::{given.name}"
    _, task = find_task(said, keys_of_kinds(given))
    checkpoint = find_checkpoints(given.model)[-1]

    from circuit_assertions.checkpoints.opening import open_tokenizer

    opening = Opening(tokenizer=given.tokenizer, base=lender_of(given), permissions=permissions_of(given))
    tokenizer = open_tokenizer(checkpoint, opening)
    prompts = task.build(tokenizer)
    listing = prompts_listing(prompts, lambda ids: tokenizer.convert_ids_to_tokens(list(ids)), given.most)
    return Outcome("\n".join(listing))


def _measures(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.report import measures_listing

    return Outcome("\n".join(measures_listing(min(shutil.get_terminal_size().columns, 120))))


def _tasks(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.report import tasks_listing

    return Outcome("\n".join(tasks_listing(min(shutil.get_terminal_size().columns, 120))))


def _validate(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.assertions import SuiteError

    missing = [str(path) for path in given.paths if not path.exists()]
    if missing:
        raise CircuitAssertionsError(f"no such path: {', '.join(missing)}; give suite files, or folders of them")
    lines, wrong = [], 0
    files = [file for path in given.paths for file in (sorted(path.rglob("*.y*ml")) if path.is_dir() else [path])]
    if not files:
        raise CircuitAssertionsError(f"no YAML file in {', '.join(str(path) for path in given.paths)}")
    for file in files:
        try:
            lines.append(printable(f"{shown_path(file)}: valid{_doubt(file)}"))
        except SuiteError as error:
            lines.append(str(error))
            wrong += 1
    return Outcome("\n".join(lines), 1 if wrong else 0)


def _doubt(file: Path) -> str:
    """What a person should know of a file that is valid: waivers that have expired; mostly nothing.

    Raises:
        SuiteError: if it is not valid.
    """
    from circuit_assertions.assertions import load_circuit, load_suite
    from circuit_assertions.assertions.chains import load_chain
    from circuit_assertions.assertions.packaged import circuits_beside

    if file.parent.name == CIRCUITS:
        load_circuit(file)
        return ""
    if file.parent.name == CHAINS:
        load_chain(file)
        return ""
    assertions = load_suite(file, circuits_beside(file)).suite.assertions
    over = [f"{one.id} ({one.waive.until})" for one in assertions if one.waive is not None and one.waive.expired()]
    return f", but waivers have expired: {', '.join(over)}" if over else ""


def _schema(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    if given.result is not None:
        from circuit_assertions.results import RESULTS

        return Outcome(json.dumps(RESULTS[given.result].model_json_schema(mode="serialization"), indent=2))
    if given.format == "record":
        from circuit_assertions.records.record import Record

        return Outcome(json.dumps(Record.model_json_schema(mode="serialization"), indent=2))
    from pydantic import BaseModel

    from circuit_assertions.assertions import Suite
    from circuit_assertions.assertions.chains import Chain

    formats: dict[str, type[BaseModel]] = {"suite": Suite, "chain": Chain}
    return Outcome(json.dumps(formats[given.format].model_json_schema(by_alias=True), indent=2))
