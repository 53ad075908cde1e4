"""`circuit-assertions policy`: the thresholds of all verdicts, what each decides, and where its number comes from."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from typing import Any

from circuit_assertions.cli.output import Outcome, printed

__all__ = ["add_policy_verb"]


def add_policy_verb(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("policy", help="list the thresholds of all verdicts: value, what each decides, origin")
    verb.add_argument(
        "policy",
        nargs="?",
        default="default",
        metavar="NAME|FILE",
        help="`default` (default), `strict`, `lenient`, or a YAML file",
    )
    verb.add_argument("--json", action="store_true", help="print the thresholds as JSON, and only that")
    verb.set_defaults(run=_policy)


def _policy(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.cli.options import policy_of
    from circuit_assertions.report.policies import policy_lines
    from circuit_assertions.results.policy import PolicyResult

    result = PolicyResult.of(policy_of(given))
    width = min(shutil.get_terminal_size().columns, 120)
    return Outcome(result.to_json() if given.json else printed(policy_lines(result, width)))
