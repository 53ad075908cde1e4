"""Lists that the command line prints: the measures there are, and the prompts of a task."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence

from circuit_assertions.components import KINDS
from circuit_assertions.measures import MEASURES
from circuit_assertions.measures.operands import spoken_of
from circuit_assertions.printable import printable
from circuit_assertions.tasks import Answers, PromptSet, TaskKind, kinds

__all__ = ["measures_listing", "prompts_listing", "tasks_listing"]


def measures_listing(width: int) -> list[str]:
    """The catalogue of measures: what each reads, of what, in which unit, with which keys, and where it comes from."""
    lines = []
    for spec in MEASURES.values():
        whole = "a set of heads" if spec.joint else "the model"
        of = ", ".join(KINDS[kind] for kind in spec.components) if spec.by_head else whole
        lines += [f"{spec.name}  (of {of}; {spec.unit})"]
        listed = ((key, spoken_of(field).listed) for key, field in spec.operands.by_key().items())
        keys = [f"{key}: {told}" for key, told in listed if told]
        notes = [("", spec.help), ("keys     ", "; ".join(keys)), ("needs    ", ", ".join(sorted(spec.needs)))]
        for label, text in [*notes, ("source   ", spec.source)]:
            if text:
                indent = " " * (4 + len(label))
                lines += textwrap.wrap(text, width, initial_indent=f"    {label}", subsequent_indent=indent)
        lines.append("")
    lines += [line for refusal in MEASURES.refused.values() for line in (*textwrap.wrap(refusal, width), "")]
    return lines[:-1]


def tasks_listing(width: int) -> list[str]:
    """The kinds of tasks: what their prompts are, their keys, positions, and circuit, and what measures can ask."""
    lines: list[str] = []
    for name, kind in kinds().items():
        lines += [name]
        notes = [("", kind.help)]
        notes += [("key      ", f"{key}: {about}") for key, about in _keys(kind)]
        notes += [("position ", f"{label}: {about}") for label, about in kind.positions.items()]
        notes += [("circuit  ", kind.circuit)] if kind.circuit else []
        for label, text in notes:
            indent = " " * (4 + len(label))
            lines += textwrap.wrap(text, width, initial_indent=f"    {label}", subsequent_indent=indent)
        lines.append("")
    return list(map(printable, lines[:-1]))


def _keys(kind: type[TaskKind]) -> Iterator[tuple[str, str]]:
    for name, field in kind.model_fields.items():
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
    lines += [", ".join(f"{key} {value}" for key, value in prompts.settings.items())]
    for number, prompt in enumerate(prompts.prompts[:most], start=1):
        lines += ["", f"{number:>4}  {prompt.template}  {prompt.text}"]
        lines.append(f"      tokens          {' '.join(spell(prompt.tokens))}")
        if prompt.counterfactual is not None:
            lines.append(f"      counterfactual  {' '.join(spell(prompt.counterfactual))}")
        places = sorted(prompt.positions.items(), key=lambda item: item[1])
        lines.append(f"      positions       {', '.join(f'{label} {place}' for label, place in places)}")
        if prompt.right:
            answers = [_answers(one, spell) for one in (prompt.right, prompt.wrong) if one]
            lines.append(f"      right / wrong   {' / '.join(answers)}")
    if len(prompts) > most:
        lines += ["", f"      and {len(prompts) - most} more (--most N shows N)"]
    return list(map(printable, lines))
