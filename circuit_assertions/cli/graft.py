"""`circuit-assertions graft`: fix a localized fault by weights, in a new checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from circuit_assertions.cli.options import add_permissions, one_checkpoint, permissions_of
from circuit_assertions.cli.output import Outcome

__all__ = ["add_graft"]


def add_graft(verbs: Any) -> None:
    """Add the verb to the parser's."""
    graft = verbs.add_parser("graft", help="write a checkpoint with some components' weights taken from another")
    graft.add_argument(
        "--model", required=True, help="the checkpoint to fix: a folder, a GGUF file, a PEFT adapter, or a hub id"
    )
    graft.add_argument("--from", required=True, dest="source", help="the checkpoint that the weights are taken from")
    graft.add_argument(
        "--components",
        required=True,
        metavar="A,B,...",
        help="what is taken: heads L2H0, MLPs MLP4, norms NORM3 (of a layer, with the bias of its attention's output), "
        "EMBED, UNEMBED",
    )
    graft.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="a new folder")
    add_permissions(graft)
    graft.add_argument("--json", action="store_true", help="print what was written as JSON, and only that")
    graft.epilog = "Neither checkpoint is changed. All other weights stay bit for bit as they are, in their own dtype."
    graft.set_defaults(run=_graft)


def _graft(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.components import parse_part

    parts = tuple(dict.fromkeys(parse_part(name) for name in given.components.split(",")))
    model, source = one_checkpoint(given.model), one_checkpoint(given.source)

    from circuit_assertions.checkpoints.grafting import graft
    from circuit_assertions.report.grafted import graft_lines
    from circuit_assertions.results import GraftResult

    done = graft(
        model,
        source,
        parts,
        given.output,
        permissions_of(given),
        record=lambda done: GraftResult.of(done).to_json() + "\n",
    )
    result = GraftResult.of(done)
    return Outcome(result.to_json() if given.json else "\n".join(graft_lines(result)))
