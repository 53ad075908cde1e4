"""`circuit-assertions compare`: what changed between records, prompt by prompt."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.cli.record_options import RUN_HELP, add_folder, record_named
from circuit_assertions.verdict_words import ComparisonVerdict

__all__ = ["add_compare"]


def add_compare(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("compare", help="compare a record with an earlier one; of more, show the trend")
    verb.add_argument("runs", metavar="RUN", nargs="+", help=f"the earlier record first; {RUN_HELP}")
    add_folder(verb)
    verb.add_argument(
        "--fail",
        metavar="EXPR",
        default="broken",
        help="what is a regression, with commas: broken (default), unresolved, lost, weaker, weaker:20%%, stronger, "
        "stronger:20%%, reversed, changed",
    )
    verb.add_argument("--json", action="store_true", help="print the result as JSON, and only that")
    verb.epilog = (
        "Exit code 0: nothing that --fail names. 1: a regression. 2: the records cannot be compared, for the printed "
        "reason. With more than two records, or one of a training run, the last checkpoint is compared with the first."
    )
    verb.set_defaults(run=_compare)


def _compare(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.records.comparing import compare
    from circuit_assertions.records.failing import conditions_of
    from circuit_assertions.records.trend import trend_over
    from circuit_assertions.report.compared import comparison_lines, trend_lines

    conditions_of(given.fail)  # a mistake in it is told before files are read
    records = [record_named(given, name).record for name in given.runs]
    if len(records) == 2:
        result = compare(records[0], records[1], given.fail)
        text = result.to_json() if given.json else printed(comparison_lines(result))
        return Outcome(text, ComparisonVerdict.of(result.verdict).exit.code)
    trend = trend_over(records, given.fail)
    text = trend.to_json() if given.json else printed(trend_lines(trend))
    return Outcome(text, ComparisonVerdict.of(trend.first_and_last.verdict).exit.code)
