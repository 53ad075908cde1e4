"""Templates with slots and the words for them: what a `templates` task declares, checked against itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from circuit_assertions.tasks.answer_words import AnswerWords
from circuit_assertions.tasks.encoding import Encoder
from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.prompts import END
from circuit_assertions.tasks.schema import Strict, closest

__all__ = ["Case", "Slot", "Texts", "pieces_of"]

_SLOT = re.compile(r"\{\{|\}\}|\{([^{}:]*)(?::(=?)([^{}]*))?\}|[{}]")
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_MOST_WORDS, _MOST_TEMPLATES = 10_000, 1_000
_BESIDE = "1"  # what stands before a slot that follows another without a space between them


class Slot(NamedTuple):
    """A place in a template.

    Attributes:
        label: the position that it is; empty where it has none.
        words: the name of the list that its word comes from; empty where it has the word of another slot.
        same_as: the label of that slot.
    """

    label: str
    words: str
    same_as: str = ""


def pieces_of(template: str) -> Iterator[str | Slot]:
    """The literal pieces and the slots of a template, in order.

    Raises:
        ValueError: if a brace is not part of a slot, or a name is no lower-case word.
    """
    last = 0
    for match in _SLOT.finditer(template):
        if match.start() > last:
            yield template[last : match.start()]
        last = match.end()
        if match[0] in ("{{", "}}"):
            yield match[0][0]
            continue
        label, copied, name = match[1], match[2], match[1] if match[3] is None else match[3]
        readable = label is not None and (not label or _NAME.fullmatch(label)) and _NAME.fullmatch(name)
        if not readable or (copied and not label):
            raise ValueError(
                f"{match[0]!r} in {template!r} is not a slot: write {{label:list}}, {{:list}}, {{label:=other}} or {{{{"
            )
        if label == END:
            raise ValueError(f"{match[0]!r} in {template!r}: `end` is always the last token")
        yield Slot(label, "", name) if copied else Slot(label, name)
    if last < len(template):
        yield template[last:]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


WordList = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1, max_length=_MOST_WORDS)]


class Case(Strict):
    """Words that go together, and what is right after them."""

    fill: dict[str, WordList] = Field(
        min_length=1, description="words for slots, by list: one, or several of which any"
    )
    right: AnswerWords = Field(description="the next word that is right; a list of words, or words with weights")
    wrong: AnswerWords | None = Field(
        None, description="the wrong next words, likewise; default what is right in the counterfactual's case"
    )

    def __hash__(self) -> int:
        """Tasks are keys of what was read on them, and a mapping has no hash of its own."""
        return hash((tuple(self.fill.items()), self.right, self.wrong))


class Texts(Strict):
    """Templates, the words for their slots, and what the counterfactual changes."""

    name: str | None = Field(None, pattern=_NAME.pattern, description="what kind of prompts they are, in reports")
    templates: tuple[str, ...] = Field(
        min_length=1, max_length=_MOST_TEMPLATES, description="texts with slots, up to the answer"
    )
    words: dict[str, WordList] = Field({}, description="lists of words for slots, by name")
    changed: str = Field(description="the label of the slot whose word the counterfactual changes")
    becomes: str | None = Field(
        None, description="the label of another slot whose word the counterfactual has there; needs `right` and `wrong`"
    )
    right: str | None = Field(None, description="the label of the slot whose word is right; needs `becomes`")
    wrong: str | None = Field(None, description="the label of the slot whose word is wrong")
    cases: tuple[Case, ...] = Field(
        (),
        max_length=_MOST_WORDS,
        description="words that go together with what is right after them; without cases the changed word is right",
    )
    instead: WordList | None = Field(
        None, description="what the counterfactual has in the changed slot; default a word of another case"
    )
    paired: bool = Field(
        False, strict=True, description="the counterfactual's word stands at the same place of its case's list"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Texts:
        for template in self.templates:
            slots = [piece for piece in pieces_of(template) if isinstance(piece, Slot)]
            for problem in self._wrong_slots(template, slots):
                raise ValueError(problem)
        for problem in self._wrong_cases():
            raise ValueError(problem)
        return self

    def _wrong_slots(self, template: str, slots: Sequence[Slot]) -> Iterator[str]:
        by_label = {slot.label: slot for slot in slots if slot.label}
        if len({slot for slot in slots if slot.label}) != len(by_label):
            yield f"{template!r}: a label that comes again has the same word again, and so the same list"
        for label in (self.changed, self.becomes, self.right, self.wrong, *(slot.same_as or None for slot in slots)):
            if label is not None and label not in by_label:
                yield f"{template!r} has no slot {label!r}{closest(label, list(by_label))}"
        known = {*self.words, *(words for case in self.cases[:1] for words in case.fill)}
        for slot in slots:
            if slot.words and slot.words not in known:
                yield f"{template!r}: there is no list {slot.words!r}{closest(slot.words, sorted(known))}"
            if slot.same_as in by_label and by_label[slot.same_as].same_as:
                yield f"{template!r}: {slot.same_as!r} has the word of another slot itself: name that one"
        if self.cases and by_label[self.changed].words not in self.cases[0].fill:
            yield f"the words of {self.changed!r} distinguish the cases: give them in `fill` of each case"
        if by_label[self.changed].same_as and self.becomes is None:
            yield f"{self.changed!r} has the word of another slot: give `becomes`, whose word the counterfactual has"

    def _wrong_cases(self) -> Iterator[str]:
        if len({self.becomes is None, self.right is None, self.wrong is None}) != 1:
            yield "`becomes`, `right` and `wrong` belong together: give all three, or none"
        if self.becomes is not None and (self.cases or self.instead):
            yield "`becomes` needs no `cases` and no `instead`: `right` and `wrong` name slots"
        if len(self.cases) == 1 and self.instead is None:
            yield "there is one case: the counterfactual needs another one, or `instead`"
        for case in self.cases[1:]:
            if case.fill.keys() != self.cases[0].fill.keys():
                yield f"the cases fill different slots: {', '.join(self.cases[0].fill)}; {', '.join(case.fill)}"
        if self.instead is not None and any(case.wrong is None for case in self.cases):
            yield "with `instead` each case must have `wrong` answers"
        if self.paired:
            counts = {
                len(case.fill[words]) for words in self._changed_lists() for case in self.cases if words in case.fill
            }
            if len(counts) != 1:
                yield "`paired` needs cases whose lists for the changed slot are equally long"

    def __hash__(self) -> int:
        """As of `Case`; the words tell these texts from others."""
        return hash((self.templates, tuple(self.words.items()), self.cases, self.changed))

    def _changed_lists(self) -> set[str]:
        slots = (slot for template in self.templates for slot in pieces_of(template) if isinstance(slot, Slot))
        return {slot.words for slot in slots if slot.label == self.changed}

    @property
    def positions(self) -> frozenset[str]:
        """The positions that every template labels."""
        return frozenset.intersection(*(frozenset(_labels(template)) for template in self.templates))

    @property
    def word_count(self) -> int:
        """How many words there are in all lists and cases."""
        lists = (*self.words.values(), *(words for case in self.cases for words in case.fill.values()))
        return sum(map(len, lists))

    def usable(self, encoder: Encoder, prefix: str = "") -> Texts:
        """The same with those words of each list that have as many tokens as most of them, in all of its cases.

        Args:
            prefix: what stands in front of every text.

        Raises:
            TaskError: if a list has no word that the tokenizer knows.
        """
        counts = self._counts(encoder, prefix)
        words = {
            name: _those_with(words, self._usual(name, counts), counts[name]) for name, words in self.words.items()
        }
        cases = self.cases
        for name in self.cases[0].fill if self.cases else ():
            usual = self._usual(name, counts)
            cases = tuple(self._narrowed(case, name, usual, counts[name]) for case in cases)
        return self.model_copy(update={"words": words, "cases": cases})

    def _narrowed(self, case: Case, name: str, usual: int, counts: Mapping[str, int]) -> Case:
        paired = self.paired and name in self._changed_lists()
        places = [
            place
            for place in range(len(case.fill[name]))
            if all(counts.get(one.fill[name][place]) == usual for one in (self.cases if paired else (case,)))
        ]
        if not places:
            raise TaskError(
                f"no words of {name!r} are pairs of {usual} tokens each: leave `paired` out, or give others"
            )
        kept = tuple(case.fill[name][place] for place in places)
        return case.model_copy(update={"fill": {**case.fill, name: kept}})

    def _usual(self, name: str, counts: Mapping[str, Mapping[str, int]]) -> int:
        """The number of tokens that most words of a list have, in the case that has the fewest such words."""
        lists = [case.fill[name] for case in self.cases if name in case.fill] or [self.words[name]]
        having = [Counter(counts[name][word] for word in words if word in counts[name]) for words in lists]
        shared = set.intersection(*map(set, having))
        if not shared:
            raise TaskError(
                f"the words of the list {name!r} ({', '.join(lists[0][:5])} ...) have no number of tokens in common "
                f"for this tokenizer, or it does not know them: give words from the model's own vocabulary"
            )
        return max(sorted(shared), key=lambda tokens: min(one[tokens] for one in having))

    def _counts(self, encoder: Encoder, prefix: str) -> dict[str, dict[str, int]]:
        """For each list, how many tokens its words have where they stand; the most, where these differ."""
        counts: dict[str, dict[str, int]] = {
            name: {} for name in (*self.words, *(self.cases[0].fill if self.cases else ()))
        }
        for name, after in sorted(self._places(prefix)):
            for word, count in encoder.lengths(self._every_word(name), after).items():
                counts[name][word] = max(count, counts[name].get(word, 0))
        for name in counts.keys() - {name for name, _ in self._places(prefix)}:
            counts[name] = dict.fromkeys(self._every_word(name), 1)  # no template uses it
        return counts

    def _every_word(self, name: str) -> list[str]:
        lists = (self.words.get(name, ()), *(case.fill.get(name, ()) for case in self.cases))
        return list(dict.fromkeys(word for words in lists for word in words))

    def _places(self, prefix: str) -> set[tuple[str, str]]:
        """For each list, what its words stand behind."""
        found = set()
        for template in self.templates:
            behind: str = prefix
            for piece in pieces_of(template):
                if isinstance(piece, Slot) and piece.words:
                    found.add((piece.words, behind))
                behind = _BESIDE if isinstance(piece, Slot) else piece
        return found


def _those_with(words: Iterable[str], count: int, counts: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(word for word in words if counts.get(word) == count)


def _labels(template: str) -> list[str]:
    """The positions of a template: each label, numbered from its second place on."""
    seen: dict[str, int] = {}
    found = []
    for piece in pieces_of(template):
        if isinstance(piece, Slot) and piece.label:
            seen[piece.label] = seen.get(piece.label, 0) + 1
            found.append(numbered(piece.label, seen[piece.label]))
    return found


def numbered(label: str, place: int) -> str:
    """The position of a label's place: `name`, then `name-2`, `name-3`."""
    return label if place == 1 else f"{label}-{place}"
