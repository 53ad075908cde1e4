"""The end of a report: the words that it uses, and the settings that it was made with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from circuit_assertions.measures import MEASURES
from circuit_assertions.policy import DEFAULT
from circuit_assertions.results import AuditedModel, AuditResult
from circuit_assertions.shape import Shape
from circuit_assertions.verdict_words import FAMILIES, GateResult

__all__ = ["ModelFacts", "Settings", "glossary_of", "settings_of"]

_TERMS = {
    "baseline": "the healthy checkpoint that the model is compared with",
    "circuit": "the heads that together produce a behaviour, each with a role",
    "corrupted": "a known-bad checkpoint between the baseline and the model, from which recovery is measured",
    "head": "an attention head; L9H10 is head 10 of layer 9, both counted from 0",
    "interval": "a confidence interval over prompts, written [low, high] behind the mean",
    "path effect": "what the answer loses if a head's output is replaced by its output on the counterfactual prompt, "
    "while attention elsewhere stays as it was; positive favours the right answer",
    "role": "what a head does in a circuit",
    "waiver": "an excuse of the suite for an assertion that is known not to hold, until a date",
}


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a checkpoint: label and text."""

    name: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Settings:
    """What the audit was made with.

    Attributes:
        policy: its name; `thresholds` those that differ from the default: name, value, default.
        tasks: the settings of each task that was read, in words.
    """

    models: tuple[ModelFacts, ...]
    policy: str
    thresholds: tuple[tuple[str, str, str], ...]
    tasks: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]


def glossary_of(result: AuditResult) -> list[tuple[str, str]]:
    """Terms, the verdicts that occur, and the measures that were read, in alphabetical order."""
    said = {line.counted for line in result.assertions} | {line.outcome for line in result.assertions}
    said |= {GateResult.PASS if result.gate.passed else GateResult.FAIL}
    for one in result.diagnoses:
        said |= {one.verdict, one.origin or ""} | ({one.recovery.how} if one.recovery is not None else set())
    found = dict(_TERMS)
    found |= {word: word.meaning for family in FAMILIES for word in family if word in said}
    for name in sorted({line.measure for line in result.assertions}):
        if name in MEASURES:
            found[name] = f"{MEASURES[name].help} (in {MEASURES[name].unit}; {MEASURES[name].source})"
    return sorted(found.items(), key=lambda entry: entry[0].lower())


def settings_of(result: AuditResult) -> Settings:
    """What the audit was made with."""
    policy = result.policy
    usual = DEFAULT.values
    changed = [(name, value) for name, value in policy.values.items() if value != usual.get(name)]
    return Settings(
        models=tuple(ModelFacts(model.model, tuple(_facts(model))) for model in result.models),
        policy=policy.name,
        thresholds=tuple((name, f"{value:g}", f"{usual[name]:g}") for name, value in changed if name in usual),
        tasks=tuple(_tasks(result)),
        versions=(*result.versions.items(), *_cached(result)),
    )


def _cached(result: AuditResult) -> Iterator[tuple[str, str]]:
    if result.readings.cached:
        yield "readings from the cache", f"{result.readings.cached} of {result.readings.all}"


def _facts(model: AuditedModel) -> Iterator[tuple[str, str]]:
    facts, baseline = model.facts, model.baseline
    if facts is not None:
        shape = Shape(facts.architecture, facts.layers, facts.heads, facts.d_model)
        yield "model", f"{shape.architecture}, {shape.size}, {facts.dtype} on {facts.device}"
        yield "weights", facts.fingerprint
        yield from (("note", note) for note in facts.notes)
    if baseline is not None:
        yield "baseline", f"{baseline.checkpoint}, weights {baseline.fingerprint}"
        yield from (("baseline note", note) for note in baseline.notes if baseline.checkpoint != model.model)
    if model.corrupted:
        yield "corrupted", f"{model.corrupted}: {model.unfit}" if model.unfit else model.corrupted
    yield from (("differs", setting) for setting in model.settings)
    yield from (("circuit file", circuit) for circuit in model.circuits)
    yield from (("limit", f"{limit.name}: {limit.reason}") for limit in model.limits)
    yield from (("test refused", f"{one.test}: {one.limit.measure}, {one.limit.name}") for one in model.refused)
    yield from (("warning", warning) for warning in model.warnings)


def _tasks(result: AuditResult) -> Iterator[tuple[str, str]]:
    """Each task once, with the largest number of prompts that it was read by."""
    found: dict[tuple[str, str], int] = {}
    for line in result.assertions:
        if line.reading is not None and line.reading.task:
            settings = {name: value for name, value in line.reading.task.items() if name not in ("kind", "prompts")}
            key = (str(line.reading.task.get("kind", "task")), _words(settings.items()))
            found[key] = max(found.get(key, 0), line.reading.prompts)
    yield from ((kind, f"{most} prompts, {said}") for (kind, said), most in found.items())


def _words(settings: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings)
