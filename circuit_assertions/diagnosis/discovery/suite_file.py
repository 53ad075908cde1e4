"""A suite for what a discovery found: one assertion for each bound that it proposes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from circuit_assertions.diagnosis.discovery.find_circuit import Discovery
from circuit_assertions.diagnosis.discovery.thresholds import Proposal
from circuit_assertions.diagnosis.discovery.yaml_text import yaml_text
from circuit_assertions.measures import MEASURES
from circuit_assertions.tasks import Task

__all__ = ["suite_file", "task_values"]

# As the packaged suites have them. A right answer less changes a rate by more than a tenth of an effect changes it.
_OF_EFFECTS, _OF_RATES, _OF_BASELINE = "75%", "90%", "80%"
_TIMES = 4  # as many prompts as the circuit was found on, where an assertion stays open

_HEADER = """\
# Written by `circuit-assertions init`; edit it as you like. Roles are bound by the circuit file of the model.
# `proposed: 75%` requires 75 % of the bound that this file proposes: what the model clears with its whole interval.
# `required`: the gate fails where an assertion is skipped, for instance because no circuit file fits the model.
"""
_OTHER_PROMPTS = "# The prompts are others (another seed) than those that the circuit and its bounds were found on.\n"


def suite_file(discovery: Discovery, task: Task, name: str, values: Mapping[str, Any]) -> str:
    """The text of the suite.

    Args:
        task: what the suite asks.
        name: what the suite calls it.
        values: the task's keys, as `task_values` gives them.
    """
    content = {
        "suite": f"{discovery.circuit}, as found on {discovery.checkpoint}",
        "circuit": discovery.circuit,
        "required": True,
        "tasks": {name: dict(values)},
    }
    header = _HEADER + (_OTHER_PROMPTS if "seed" in values else "")
    assertions = [yaml_text([one]).rstrip() for one in _assertions(discovery, task, name)]
    listed = "\n\n".join(_indented(text) for text in assertions)
    return f"{header}{yaml_text(content)}\nassertions:\n{listed}\n"


def task_values(task: Task, prompts: int, file: str | None = None) -> dict[str, Any]:
    """The keys that a suite has to write for a task: those that are not its kind's default.

    Args:
        prompts: how many the circuit was found on. A kind that draws its prompts is asked so many others first.
        file: where the file of its prompts is, as the suite must name it.
    """
    values = task.model_dump(by_alias=True, exclude_defaults=True)
    seed = getattr(task, "seed", None)
    if seed is not None and task.with_seed(seed + 1) is not None:
        values["seed"] = seed + 1
    if task.with_count(prompts) is not None:
        values["prompts"] = {"start": prompts, "budget": _TIMES * prompts}
    if file is not None:
        values.pop("pairs", None)
        values["file"] = file
    return {"kind": task.kind} | {key: _plain(value) for key, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    """A value of a task as YAML has it; an answer as words with their weights."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items() if part is not None}
    if not isinstance(value, (list, tuple)):
        return value
    if value and all(_is_weighted(part) for part in value):
        return dict(value)
    return [_plain(part) for part in value]


def _is_weighted(part: Any) -> bool:
    return isinstance(part, tuple) and len(part) == 2 and isinstance(part[0], str) and isinstance(part[1], float)


def _assertions(discovery: Discovery, task: Task, name: str) -> Iterator[dict[str, Any]]:
    taken: set[str] = set()
    for proposal in discovery.thresholds:
        spec = MEASURES[proposal.says["measure"]]
        if spec.lacking(task.offers):  # scores of repeated tokens, which discovery reads of a task of its own
            continue
        first = ("heads", "quantifier")
        said = {key: proposal.says[key] for key in first if key in proposal.says}
        said |= {key: value for key, value in proposal.says.items() if key not in ("measure", *first)}
        share = _OF_RATES if spec.hits else _OF_EFFECTS
        yield {
            "id": _unique(_id(proposal.says), taken),
            "why": _why(proposal, str(discovery.checkpoint)),
            "measure": spec.name,
            **said,
            "task": name,
            "expect": {proposal.bound.key: {"proposed": share}},
        }
    metric = discovery.metric.name
    yield {
        "id": _unique(f"{metric}-beside-the-baseline", taken),
        "why": f"less than {_OF_BASELINE} of the baseline's {discovery.metric.called} is left",
        "measure": metric,
        "task": name,
        "required": False,  # without --baseline it is skipped
        "expect": {"retains": _OF_BASELINE},
    }


def _why(proposal: Proposal, found_on: str) -> str:
    heads = proposal.says.get("heads")
    whose = "the model" if heads is None else "the circuit" if heads == "circuit" else f"the {heads} heads"
    side = "below" if proposal.bound.is_lower else "above"
    return f"{proposal.says['measure']} of {whose} is clearly {side} what {found_on} has ({proposal.reads:.3g})"


def _id(says: Mapping[str, Any]) -> str:
    """`name-mover-attention-end-to-indirect-object`."""
    whose, measure = str(says.get("heads", "")), str(says["measure"])
    words = [measure] if not whose or measure.startswith(f"{whose}-") else [whose, measure]
    if "query" in says and "key" in says:
        words += [says["query"], "to", says["key"]]
    receiver = says.get("receiver")
    if isinstance(receiver, Mapping):
        words += ["on", *(str(word) for key, whose in receiver.items() if key != "at" for word in (whose, key))]
    if "without" in says:
        words += ["without", str(says["without"])]
    return re.sub(r"[^A-Za-z0-9_.]+", "-", "-".join(words)).strip("-.") or "assertion"


def _unique(name: str, taken: set[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found)
    return found


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else line for line in text.splitlines())
