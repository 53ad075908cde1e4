"""`circuit-assertions traces`: what a fine-tuning left in activations on unrelated text."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuit_assertions.cli.options import add_opening, add_policy, in_one_go, one_checkpoint, open_audit, whole
from circuit_assertions.cli.output import Outcome, printed
from circuit_assertions.cli.wrapped import text_of
from circuit_assertions.verdict_words import TraceVerdict

__all__ = ["add_traces"]


def add_traces(verbs: Any) -> None:
    """Add the verb to the parser's."""
    verb = verbs.add_parser("traces", help="does a checkpoint show on unrelated text what it was fine-tuned on?")
    verb.add_argument("--model", required=True, help="the fine-tuned checkpoint")
    verb.add_argument("--baseline", required=True, help="the checkpoint before")
    verb.add_argument("--text", type=Path, metavar="FILE", help="unrelated text; default text that the baseline writes")
    verb.add_argument(
        "--domain",
        type=Path,
        metavar="FILE",
        help="text of what it may have been fine-tuned on: its words are marked among the tokens",
    )
    verb.add_argument(
        "--causal",
        action="store_true",
        help="also what the loss gains, on the domain and on unrelated text, when the mean difference is projected out",
    )
    verb.add_argument("--layer", type=whole, metavar="N", help="the block after which is read; default the middle one")
    add_policy(verb)
    add_opening(verb)
    verb.add_argument("--json", action="store_true", help="print what was found as JSON, and only that")
    verb.epilog = f"Exit code 0: {TraceVerdict.NO_TRACE}. 1: {TraceVerdict.TRACE}. 2: it could not be done."
    verb.set_defaults(run=_traces)


def _traces(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    model, baseline = one_checkpoint(given.model), one_checkpoint(given.baseline)
    text, domain = text_of(given.text), text_of(given.domain)

    from circuit_assertions.report.traces import traces_lines
    from circuit_assertions.results.from_traces import traces_result
    from circuit_assertions.tuning.tracing import Asked, trace

    audit = open_audit(given, baseline)
    with in_one_go(audit, lambda what: what) as progress:
        found = trace(audit, Asked(model, baseline, text, domain, given.causal, given.layer, tell=progress))
    result = traces_result(found)
    return Outcome(result.to_json() if given.json else printed(traces_lines(result)), found.verdict.exit.code)
