"""`circuit-assertions plan`: what an audit would cost, from the shape of the model and without its weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from circuit_assertions.cli.options import add_circuit_of_model, add_opening, add_policy
from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.places import suite_path

__all__ = ["add_plan"]


def add_plan(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("plan", help="what an audit would cost: passes, memory, disk and time, without weights")
    verb.add_argument(
        "suites", nargs="*", type=suite_path, metavar="SUITE", help="default suites/, else the packaged suites"
    )
    verb.add_argument(
        "--model",
        required=True,
        help="as for an audit; a folder with config.json and a tokenizer is enough, and a training run is planned "
        "whole",
    )
    verb.add_argument("--baseline", help="the checkpoint that the model would be compared with")
    verb.add_argument("--corrupted", help="a known-bad checkpoint")
    add_circuit_of_model(verb)
    add_opening(verb)
    add_policy(verb)
    verb.add_argument("--json", action="store_true", help="print the plan as JSON, and only that")
    verb.epilog = "Exit code 0: the audit would fit into memory. 1: it would not. 2: it could not be planned."
    verb.set_defaults(run=_plan)


def _plan(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    import time

    began = time.perf_counter()
    from circuit_assertions.cli.options import opening_of, policy_of
    from circuit_assertions.cli.suites_named import suites_named
    from circuit_assertions.diagnosis.suites_given import suites_given
    from circuit_assertions.planning.plan_audit import plan_audit
    from circuit_assertions.planning.shape_model import find_shape
    from circuit_assertions.report.planned import plan_lines

    suites = suites_given(suites_named(given.suites or None), given.circuit)
    models = find_shape(given.model)
    baseline, corrupted = (find_shape(one)[-1] if one else None for one in (given.baseline, given.corrupted))
    plan = plan_audit(
        models,
        suites,
        opening_of(given, baseline),
        policy_of(given),
        baseline=baseline,
        corrupted=corrupted,
        began=began,
    )
    return Outcome(plan.to_json() if given.json else printed(plan_lines(plan)), int(not plan.memory.fits))
