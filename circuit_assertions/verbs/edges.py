"""`circuit-assertions edges`: the strongest edges between components, approximately."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from circuit_assertions import CircuitAssertionsError

__all__ = ["add_edges"]


def add_edges(verbs: Any) -> None:
    """Add the verb to the parser's."""
    edges = verbs.add_parser("edges", help="list the strongest edges between components, approximately: for triage")
    edges.add_argument("--model", required=True, help="a checkpoint folder, a PEFT adapter, or a hub id")
    edges.add_argument("--task", default="ioi", help="ioi (default), repeated-tokens, a task file, or suite.yaml::task")
    edges.add_argument("--prompts", type=_count, metavar="N", help="how many prompts; default the task's own number")
    edges.add_argument(
        "--steps", type=_count, default=5, metavar="N", help="points to average gradients over; 1 is EAP (default 5)"
    )
    edges.add_argument("--top", type=_count, default=20, metavar="N", help="how many edges to list (default 20)")
    edges.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    edges.add_argument("--dtype", default="float32", choices=("float32", "float64", "bfloat16", "float16"))
    edges.add_argument("--tokenizer", help="take the tokenizer from here instead of from the checkpoint")
    edges.add_argument("--allow-pickle", action="store_true", help="read pickled weights")
    edges.add_argument("--trust-remote-code", action="store_true", help="run the Python code that a checkpoint ships")
    edges.add_argument("--json", action="store_true", help="print the edges as JSON, and only that")
    edges.set_defaults(run=_edges)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _edges(given: argparse.Namespace, rest: Sequence[str]) -> int:
    from circuit_assertions.assertions.asking import find_task
    from circuit_assertions.checkpoints import Opening, Permissions, find_checkpoints

    name, task = find_task(given.task, {"prompts": given.prompts})
    checkpoints = find_checkpoints(given.model)
    if len(checkpoints) > 1:
        raise CircuitAssertionsError(f"{given.model} is a training run: name one of its checkpoints")

    from circuit_assertions.report.edges import report_edges
    from circuit_assertions.report.progress import Progress

    permissions = Permissions(given.allow_pickle, given.trust_remote_code)
    opening = Opening(given.device, given.dtype, given.tokenizer, None, permissions)
    progress = Progress(sys.stderr, live=sys.stderr.isatty())
    report = report_edges(checkpoints[0], opening, name, task, given.steps, progress)
    print(json.dumps(report.as_json(given.top), indent=2) if given.json else "\n".join(report.lines(given.top)))
    return 0
