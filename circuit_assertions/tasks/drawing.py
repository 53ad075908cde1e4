"""Draw the prompts of a `templates` task: which words fill the slots, and what the counterfactual has instead."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from circuit_assertions.tasks.answer_words import Words
from circuit_assertions.tasks.encoding import Marked
from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.slots import Case, Slot, Texts, numbered, pieces_of

__all__ = ["Drawn", "draw"]

_UNLABELLED = "#"  # no label begins with it


@dataclass(frozen=True)
class Drawn:
    """A prompt before the tokenizer has read it, and its counterfactual.

    Attributes:
        template: the group that balance is counted in, `days/3`.
    """

    clean: Marked
    twin: Marked
    right: Words
    wrong: Words
    template: str


def draw(texts: Sequence[Texts], prompts: int, drawn: random.Random) -> list[Drawn]:
    """Prompts in turn from all texts, and within each from all templates and all cases.

    Raises:
        TaskError: if a list has too few words for the slots of a template.
    """
    decks: dict[tuple[int, int], list[int]] = {}
    made = []
    for index in range(prompts):
        number, turn = index % len(texts), index // len(texts)
        one, place = texts[number], turn % len(texts[number].templates)
        deck = decks.setdefault((number, place), [])
        if not deck:  # in a random order, so that no half of the prompts has one case only
            deck.extend(drawn.sample(range(len(one.cases)), len(one.cases)))
        case = one.cases[deck.pop()] if deck else None
        called = f"{one.name or f'text-{number + 1}'}/{place}"
        made.append(_drawn(one, one.templates[place], case, called, drawn))
    return made


def _drawn(texts: Texts, template: str, case: Case | None, called: str, drawn: random.Random) -> Drawn:
    pieces = _labelled(template)
    slots = [piece for piece in pieces if isinstance(piece, Slot)]
    fill = _fill(texts, slots, case, drawn)
    if texts.becomes is None:
        word, right, wrong = _change(texts, slots, fill, case, drawn)
    else:
        assert texts.right is not None  # the task was checked
        assert texts.wrong is not None
        word, right, wrong = fill[texts.becomes], _word(fill[texts.right]), _word(fill[texts.wrong])
    other = {**fill, texts.changed: word}
    return Drawn(_marked(pieces, fill), _marked(pieces, other), right, wrong, called)


def _fill(texts: Texts, slots: Sequence[Slot], case: Case | None, drawn: random.Random) -> dict[str, str]:
    """A word for each label; labels of one list get different words."""
    by_list: dict[str, list[str]] = {}
    for slot in dict.fromkeys(slot for slot in slots if slot.words):
        by_list.setdefault(slot.words, []).append(slot.label)
    fill: dict[str, str] = {}
    for name, labels in by_list.items():
        words = case.fill[name] if case is not None and name in case.fill else texts.words[name]
        if len(words) < len(labels):
            raise TaskError(
                f"the list {name!r} has {len(words)} words that can be used with this tokenizer, and a template needs "
                f"{len(labels)}: give more words"
            )
        fill |= zip(labels, drawn.sample(words, len(labels)), strict=True)
    return fill | {slot.label: fill[slot.same_as] for slot in slots if slot.same_as}


def _change(
    texts: Texts, slots: Sequence[Slot], fill: Mapping[str, str], case: Case | None, drawn: random.Random
) -> tuple[str, Words, Words]:
    """The counterfactual's word, and what is right and wrong after the clean text."""
    label = texts.changed
    name, own = next(slot.words for slot in slots if slot.label == label), fill[label]
    taken = set(fill.values())
    if case is None:
        word = _another(texts.instead or texts.words[name], taken, name, drawn)
        return word, _word(own), _word(word)
    if texts.instead is not None:
        assert case.wrong is not None  # the task was checked
        return _another(texts.instead, {own}, name, drawn), case.right, case.wrong
    taken |= {word for word, _ in case.right}
    others = [one for one in texts.cases if not {word for word, _ in one.right} & taken]
    if texts.paired:
        choices = [(one, one.fill[name][case.fill[name].index(own)]) for one in others]
    else:
        choices = [(one, word) for one in others for word in [_free(one.fill[name], taken, drawn)] if word]
    if not choices:
        raise TaskError(
            f"no case has a word for the counterfactual of {own!r} with other right answers: give more cases"
        )
    other, word = drawn.choice(choices)
    return word, case.right, other.right if case.wrong is None else case.wrong


def _another(words: Sequence[str], taken: Collection[str], name: str, drawn: random.Random) -> str:
    """A word that the clean text does not have."""
    word = _free(words, taken, drawn)
    if not word:
        raise TaskError(f"the list {name!r} has no word left for the counterfactual: give more words")
    return word


def _free(words: Sequence[str], taken: Collection[str], drawn: random.Random) -> str:
    """One of the words that are not taken; empty if all are."""
    free = [word for word in words if word not in taken]
    return drawn.choice(free) if free else ""


def _word(word: str) -> Words:
    return ((word, 1.0),)


def _labelled(template: str) -> list[str | Slot]:
    """The pieces of a template; slots without a label are numbered, so that each has a word of its own."""
    return [
        Slot(f"{_UNLABELLED}{place}", piece.words) if isinstance(piece, Slot) and not piece.label else piece
        for place, piece in enumerate(pieces_of(template))
    ]


def _marked(pieces: Sequence[str | Slot], fill: Mapping[str, str]) -> Marked:
    """The text with its positions."""
    marked, seen = Marked(), dict[str, int]()
    for piece in pieces:
        if not isinstance(piece, Slot):
            marked.add(piece)
        elif piece.label.startswith(_UNLABELLED):
            marked.add(fill[piece.label])
        else:
            seen[piece.label] = seen.get(piece.label, 0) + 1
            marked.add(fill[piece.label], numbered(piece.label, seen[piece.label]))
    return marked
