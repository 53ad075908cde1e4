"""`circuit-assertions discover`: find which heads have which role in a checkpoint, and write a circuit file."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli.options import (
    add_lender,
    add_model_and_task,
    add_opening,
    add_policy,
    in_one_go,
    lender_of,
    one_checkpoint,
    opening_of,
    policy_of,
)
from circuit_assertions.cli.output import Outcome
from circuit_assertions.cli.task_options import add_keys_of_kinds, keys_of_kinds
from circuit_assertions.cli.writable import check_writable
from circuit_assertions.files import NotWrittenError, write_whole
from circuit_assertions.places import CIRCUITS

if TYPE_CHECKING:
    from circuit_assertions.checkpoints import Checkpoint
    from circuit_assertions.diagnosis.discovery import Discovery
    from circuit_assertions.results import DiscoveryResult

__all__ = ["add_discover"]

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%?")


def add_discover(verbs: Any) -> None:
    """Add the verb to the parser's."""
    discover = verbs.add_parser("discover", help="find which heads have which role, and write a circuit file")
    add_model_and_task(discover)
    discover.add_argument("-o", "--output", type=Path, metavar="FILE", help="default suites/circuits/<name>.yaml")
    discover.add_argument("--name", help="the name in the default file name; default the checkpoint's folder")
    discover.add_argument("--circuit", help="what suites call the circuit; default the chain's name, or the task's")
    discover.add_argument(
        "--chain", metavar="NAME|FILE", help="the chain that is followed; default that of the task, or of its kind"
    )
    discover.add_argument("--prompts", type=int, metavar="N", help="how many prompts; default the task's own number")
    discover.add_argument("--seed", type=int, metavar="N", help="which prompts; default the task's own seed")
    discover.add_late = add_keys_of_kinds
    discover.add_argument(
        "--least-effect",
        type=_share,
        metavar="SHARE",
        help="the smallest effect that counts, as a share of the logit difference (default that of the policy: 2%%)",
    )
    add_policy(discover)
    add_lender(discover)
    add_opening(discover)
    discover.add_argument("--json", action="store_true", help="print the result as JSON, and only that")
    discover.set_defaults(run=_discover)


def _share(text: str) -> float:
    match = _PERCENT.fullmatch(text.strip())
    share = float(match[1]) / (100 if text.strip().endswith("%") else 1) if match else -1.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share: write it as 2%, or as 0.02")
    return share


def _discover(given: argparse.Namespace, rest: Sequence[str]) -> Outcome:
    from circuit_assertions.assertions.chains import chain_for
    from circuit_assertions.assertions.task_lookup import find_task
    from circuit_assertions.diagnosis.errors import NoCircuitError, UndecidedError

    name, task = find_task(given.task, {"prompts": given.prompts, "seed": given.seed} | keys_of_kinds(given))
    checkpoint, opening = one_checkpoint(given.model), opening_of(given, lender_of(given))
    policy = policy_of(given)
    output = given.output or _default_file(
        given.name or _short_name(checkpoint), given.circuit or chain_for(task, name, given.chain).name
    )
    _check_place(output)
    notes = _notes_in(output)

    from circuit_assertions.audit import Audit
    from circuit_assertions.diagnosis.discovery import discover
    from circuit_assertions.results import DiscoveryResult, PolicyUsed

    audit, stage = Audit(opening, policy=policy), [name]

    def say(text: str) -> None:
        stage[0] = f"{name}, {text}"

    try:
        with in_one_go(audit, lambda what: stage[0]):
            found = discover(
                audit,
                checkpoint,
                task,
                least=given.least_effect,
                name=name,
                circuit=given.circuit,
                chain=given.chain,
                stage=say,
            )
    except NoCircuitError as error:
        undecided = isinstance(error, UndecidedError)
        used = PolicyUsed.of(audit.policy)
        result = DiscoveryResult(policy=used, checkpoint=str(checkpoint), undecided=undecided, reason=str(error))
        return Outcome(_shown(result, given.json), 1)
    result = DiscoveryResult.of(found, str(output))
    _write(found, result, output, notes)
    return Outcome(_shown(result, given.json))


def _default_file(model: str, circuit: str) -> Path:
    return Path("suites", CIRCUITS, f"{model.replace('/', '-')}.{circuit}.yaml")


def _short_name(checkpoint: Checkpoint) -> str:
    """What stands last in a hub id, or the folder's name, however it was reached; a GGUF file's without its suffix."""
    place = Path(checkpoint.given)
    name = place.resolve().name if place.is_dir() else place.name
    return name[: -len(".gguf")] if name.lower().endswith(".gguf") else name


def _check_place(output: Path) -> None:
    """Check the circuit file's name, and that the file and its head map can be written."""
    check_writable(output, "model.circuit.yaml")
    if output.suffix not in (".yaml", ".yml"):
        raise CircuitAssertionsError(f"{output} is not a name for a circuit file: it must end in .yaml")
    check_writable(output.with_suffix(".svg"))


def _notes_in(output: Path) -> str | None:
    """What people wrote into the circuit file that will be written anew. Nothing else is overwritten."""
    from circuit_assertions.assertions import SuiteError, load_circuit

    if not output.exists():
        return None
    try:
        return load_circuit(output).notes
    except SuiteError as error:
        raise CircuitAssertionsError(
            f"{output} exists and is not a valid circuit file, so it is not overwritten: give another -o FILE",
            *error.args,
        ) from error


def _write(found: Discovery, result: DiscoveryResult, output: Path, notes: str | None) -> None:
    from circuit_assertions.diagnosis.discovery import circuit_file
    from circuit_assertions.report.discovered import map_of
    from circuit_assertions.report.headmap import map_picture

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, circuit_file(found, notes))
        write_whole(output.with_suffix(".svg"), map_picture(map_of(result)))
    except NotWrittenError as error:
        raise NotWrittenError(f"{error}; give -o FILE") from error
    except OSError as error:
        raise CircuitAssertionsError(f"{output} cannot be written: {error.strerror}; give -o FILE") from error


def _shown(result: DiscoveryResult, as_json: bool) -> str:
    if as_json:
        return result.to_json()
    from circuit_assertions.report.colours import colours_of
    from circuit_assertions.report.discovered import discovery_lines

    return "\n".join(discovery_lines(result, colours_of(sys.stdout)))
