"""Lists that the command line prints: the measures there are, and the prompts of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from circuit_assertions.components import KINDS
from circuit_assertions.measures import MEASURES
from circuit_assertions.measures.operands import spoken_of
from circuit_assertions.printable import printable
from circuit_assertions.report.tables import Column, paragraph, table
from circuit_assertions.tasks import Answers, Prompt, PromptSet, TaskKind, TextTask, kinds

__all__ = ["measures_listing", "prompts_listing", "tasks_listing"]

_INDENT, _LABEL = 4, 9


def measures_listing(width: int) -> list[str]:
    """The catalogue of measures: what each reads, of what, in which unit, with which keys, and where it comes from."""
    lines = []
    for spec in MEASURES.values():
        whole = "a set of heads" if spec.joint else "the model"
        of = ", ".join(KINDS[kind] for kind in spec.components) if spec.by_head else whole
        lines += [f"{spec.name}  (of {of}; {spec.unit})"]
        listed = ((key, spoken_of(field).listed) for key, field in spec.operands.by_key().items())
        keys = [f"{key}: {told}" for key, told in listed if told]
        notes = [("keys", "; ".join(keys)), ("needs", ", ".join(sorted(spec.needs))), ("source", spec.source)]
        lines += _entry(spec.help, notes, width)
    lines += [line for refusal in MEASURES.refused.values() for line in (*table(paragraph(refusal, width)), "")]
    return lines[:-1]


def tasks_listing(width: int) -> list[str]:
    """The kinds of tasks: what their prompts are, their keys, positions, and circuit, and what measures can ask."""
    lines: list[str] = []
    for name, kind in kinds().items():
        lines += [name]
        notes = [("key", f"{key}: {about}") for key, about in _keys(kind)]
        notes += [("position", f"{label}: {about}") for label, about in kind.positions.items()]
        notes += [("circuit", kind.circuit)]
        lines += _entry(kind.help, notes, width)
    return list(map(printable, lines[:-1]))


def _entry(about: str, notes: Sequence[tuple[str, str]], width: int) -> list[str]:
    """What stands under a name: a description, and the notes that have a text, each behind its label."""
    told = table(paragraph(about, width - _INDENT), indent=_INDENT) if about else []
    rows = [row for label, text in notes if text for row in paragraph(text, width - _INDENT - _LABEL, label)]
    return [*told, *table(rows, Column(least=_LABEL, gap=0), indent=_INDENT), ""]


def _keys(kind: type[TaskKind]) -> Iterator[tuple[str, str]]:
    common = TextTask.model_fields if issubclass(kind, TextTask) else {}
    for name, field in sorted(kind.model_fields.items(), key=lambda item: item[0] in common):  # its own keys first
        if name != "kind":
            yield field.alias or name, field.description or "required" * field.is_required()


def _answers(answers: Answers, spell: Callable[[Sequence[int]], Sequence[str]]) -> str:
    """`51`, or `51, 52 (0.5)`: the tokens of an answer, with weights that are not 1."""
    words = zip(spell(answers.tokens), answers.weights, strict=True)
    return ", ".join(word if weight == 1 else f"{word} ({weight:g})" for word, weight in words)


def prompts_listing(prompts: PromptSet, spell: Callable[[Sequence[int]], Sequence[str]], most: int) -> list[str]:
    """The prompts of a task as text: tokens with their positions, labels, answers and counterfactuals.

    Args:
        spell: token ids -> the tokens as the vocabulary spells them.
    """
    lines = [f"{len(prompts)} prompts of up to {prompts.longest} tokens, token ids {prompts.token_hash[:16]}"]
    lines += [", ".join(_settings(prompts.settings))]
    if before := next((prompt.before for prompt in prompts.prompts), ""):
        lines += [f"before every prompt: {before}"]
    for number, prompt in enumerate(prompts.prompts[:most], start=1):
        heading = (str(number), prompt.template, prompt.text)
        lines += ["", *table([heading], Column(least=4, align="right"))]
        lines += table(list(_facts_of(prompt, spell)), Column(least=14), indent=6)
    if len(prompts) > most:
        lines += ["", f"      and {len(prompts) - most} more (--most N shows N)"]
    return list(map(printable, lines))


def _settings(settings: Mapping[str, Any], under: str = "") -> Iterator[str]:
    """The settings of a task in words; what stands under a key with the key in front."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{under}{key} ")
        else:
            yield f"{under}{key} {value}"


def _facts_of(prompt: Prompt, spell: Callable[[Sequence[int]], Sequence[str]]) -> Iterator[tuple[str, str]]:
    yield "tokens", " ".join(spell(prompt.tokens))
    if prompt.counterfactual is not None:
        yield "counterfactual", " ".join(spell(prompt.counterfactual))
    places = sorted(prompt.positions.items(), key=lambda item: item[1])
    yield "positions", ", ".join(f"{label} {place}" for label, place in places)
    if prompt.right:
        yield "right / wrong", " / ".join(_answers(one, spell) for one in (prompt.right, prompt.wrong) if one)
