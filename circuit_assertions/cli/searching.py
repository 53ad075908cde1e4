"""What the verbs that look for a circuit have in common: options, the search with its progress, the file's name."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from circuit_assertions.cli.options import VerbParser, add_lender, add_opening, add_policy, in_one_go
from circuit_assertions.cli.task_options import add_keys_of_kinds, keys_of_kinds
from circuit_assertions.places import CIRCUITS

if TYPE_CHECKING:
    from circuit_assertions.audit import Audit
    from circuit_assertions.checkpoints import Checkpoint
    from circuit_assertions.diagnosis.discovery import Discovery
    from circuit_assertions.diagnosis.errors import NoCircuitError
    from circuit_assertions.results import DiscoveryResult
    from circuit_assertions.tasks import Task

__all__ = [
    "add_search",
    "circuit_name",
    "circuit_place",
    "discovery_text",
    "not_found",
    "search",
    "share",
    "task_searched",
    "write_circuit",
]

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%?")


def add_search(verb: VerbParser) -> None:
    """Add the options that say how a circuit is looked for, and what its file is called."""
    verb.add_argument("--name", help="the name in the default file name; default the checkpoint's folder")
    verb.add_argument("--circuit", help="what suites call the circuit; default the chain's name, or the task's")
    verb.add_argument(
        "--chain", metavar="NAME|FILE", help="the chain that is followed; default that of the task, or of its kind"
    )
    verb.add_argument("--prompts", type=int, metavar="N", help="how many prompts; default the task's own number")
    verb.add_argument("--seed", type=int, metavar="N", help="which prompts; default the task's own seed")
    verb.add_late = add_keys_of_kinds
    verb.add_argument(
        "--least-effect",
        type=share,
        metavar="SHARE",
        help="the smallest effect that counts, as a share of the logit difference (default that of the policy: 2%%)",
    )
    add_policy(verb)
    add_lender(verb)
    add_opening(verb)


def share(text: str) -> float:
    """A share as an option takes it, `2%` or `0.02`: above 0 and below 1.

    Raises:
        argparse.ArgumentTypeError: if it is no share.
    """
    match = _PERCENT.fullmatch(text.strip())
    found = float(match[1]) / (100 if text.strip().endswith("%") else 1) if match else -1.0
    if not 0 < found < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share: write it as 2%, or as 0.02")
    return found


def task_searched(given: argparse.Namespace) -> tuple[str, Task]:
    """The task that the options name, with what they change in it, and its short name.

    Raises:
        SuiteError: if there is no such task, or it is not valid.
    """
    from circuit_assertions.assertions.task_lookup import find_task

    return find_task(given.task, {"prompts": given.prompts, "seed": given.seed} | keys_of_kinds(given))


def circuit_name(given: argparse.Namespace, task: Task, name: str) -> str:
    """What suites will call the circuit.

    Args:
        name: the task's.
    """
    from circuit_assertions.assertions.chains import chain_for

    return str(given.circuit or chain_for(task, name, given.chain).name)


def circuit_place(given: argparse.Namespace, checkpoint: Checkpoint, circuit: str) -> Path:
    """Where the circuit file goes if nothing else is said: `suites/circuits/<name>.<circuit>.yaml`."""
    model = str(given.name or _short_name(checkpoint))
    return Path("suites", CIRCUITS, f"{model.replace('/', '-')}.{circuit}.yaml")


def _short_name(checkpoint: Checkpoint) -> str:
    """What stands last in a hub id, or the folder's name, however it was reached; a GGUF file's without its suffix."""
    place = Path(checkpoint.given)
    name = place.resolve().name if place.is_dir() else place.name
    return name[: -len(".gguf")] if name.lower().endswith(".gguf") else name


def search(given: argparse.Namespace, audit: Audit, checkpoint: Checkpoint, name: str, task: Task) -> Discovery:
    """Look for the circuit, with progress on stderr.

    Raises:
        NoCircuitError: if the model does not do the task, or no head carries it.
        CircuitAssertionsError: if the model or the task does not allow it.
    """
    from circuit_assertions.diagnosis.discovery import discover

    stage = [name]

    def say(text: str) -> None:
        stage[0] = f"{name}, {text}"

    with in_one_go(audit, lambda what: stage[0]):
        return discover(
            audit,
            checkpoint,
            task,
            least=given.least_effect,
            name=name,
            circuit=given.circuit,
            chain=given.chain,
            stage=say,
        )


def not_found(audit: Audit, checkpoint: Checkpoint, error: NoCircuitError) -> DiscoveryResult:
    """The result of a search that found no circuit."""
    from circuit_assertions.diagnosis.errors import UndecidedError
    from circuit_assertions.results import DiscoveryResult, PolicyUsed

    undecided = isinstance(error, UndecidedError)
    used = PolicyUsed.of(audit.policy)
    return DiscoveryResult(policy=used, checkpoint=str(checkpoint), undecided=undecided, reason=str(error))


def write_circuit(found: Discovery, result: DiscoveryResult, output: Path, notes: str | None = None) -> None:
    """Write a circuit file with its head map beside it, and the folder if there is none.

    Args:
        notes: what people wrote into the file that stood there.

    Raises:
        NotWrittenError, OSError: if it cannot be written.
    """
    from circuit_assertions.diagnosis.discovery import circuit_file
    from circuit_assertions.files import write_whole
    from circuit_assertions.report.discovered import map_of
    from circuit_assertions.report.headmap import map_picture

    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, circuit_file(found, notes))
    write_whole(output.with_suffix(".svg"), map_picture(map_of(result)))


def discovery_text(result: DiscoveryResult, as_json: bool = False) -> str:
    """What is printed of a search."""
    if as_json:
        return result.to_json()
    from circuit_assertions.report.colours import colours_of
    from circuit_assertions.report.discovered import discovery_lines

    return "\n".join(discovery_lines(result, colours_of(sys.stdout)))
