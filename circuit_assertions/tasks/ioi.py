"""The `ioi` task: indirect object identification (Wang et al. 2022, arXiv 2211.00593, section 2 and appendix).

`Then, Mary and John went to the store. John gave a drink to` -> `Mary`. Half of the prompts name the indirect object
first (ABBA), half name it second (BABA). The counterfactual is the same sentence with three unrelated names in the
three name slots (the paper's p_ABC).

A template may repeat `{subject}`: `{first} and {second} met. {subject} had a ball. {subject} gave the ball to`.
`subject-1` is then still the subject in its `{first}` or `{second}` slot, `subject-2` the last `{subject}` before the
answer; those between have no label. The counterfactual puts one name into all of them.
"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator

from circuit_assertions.tasks.answers import Answers
from circuit_assertions.tasks.encoding import BosPolicy, Encoder, Marked
from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.kind import Choice, Option, SeededTask
from circuit_assertions.tasks.prompts import END, Prompt, PromptSet
from circuit_assertions.tasks.text import TextTask
from circuit_assertions.tasks.words import NAMES, OBJECTS, PLACES, TEMPLATES

__all__ = ["IoiTask"]

_INTRODUCE = ("first", "second")
_SLOTS = (*_INTRODUCE, "subject")
_FEWEST_NAMES = 5  # two for the prompt, three others for its counterfactual
_MOST_WORDS = 10_000


class IoiTask(SeededTask, TextTask):
    """Indirect object identification."""

    kind: Literal["ioi"]
    prompts: int = Field(256, ge=2, le=100_000, strict=True, description="how many prompts; half ABBA, half BABA")
    seed: int = Field(
        0, ge=0, strict=True, description="two audits with the same seed and tokenizer use the same prompts"
    )
    bos: BosPolicy = Field("tokenizer", description="whether prompts begin with a BOS token")
    names: tuple[str, ...] = Field(
        NAMES, min_length=_FEWEST_NAMES, max_length=_MOST_WORDS, description="people's names"
    )
    places: tuple[str, ...] = Field(PLACES, max_length=_MOST_WORDS, description="words for {place}")
    objects: tuple[str, ...] = Field(OBJECTS, max_length=_MOST_WORDS, description="words for {object}")
    templates: tuple[str, ...] = Field(
        TEMPLATES, min_length=1, max_length=_MOST_WORDS, description="sentences that stop before the answer"
    )

    help: ClassVar[str] = (
        "indirect object identification, half ABBA and half BABA; the counterfactual has three unrelated names"
    )
    positions: ClassVar[Mapping[str, str]] = {
        "subject-1": "the subject where it is introduced",
        "after-subject-1": "the token after it",
        "subject-2": "the subject where it is named again, the last time before the answer",
        "indirect-object": "the other person, who is the answer",
        END: "the last token, where the answer is read",
    }
    circuit: ClassVar[str] = "ioi"
    default: ClassVar[bool] = True
    shorter: ClassVar[str] = "shorter `templates:`"
    options: ClassVar[tuple[Option, ...]] = (
        *TextTask.options,
        Option("--names", "names", "people's names of an ioi task"),
        Option("--places", "places", "words for {place} of an ioi task"),
        Option("--objects", "objects", "words for {object} of an ioi task"),
        Option(
            "--template",
            "templates",
            "a sentence of an ioi task, with {first}, {second} and {subject}; repeatable",
            takes="texts",
        ),
    )
    offers: ClassVar[frozenset[str]] = frozenset({"answer", "wrong-answer", "positions", "counterfactual"})

    @field_validator("templates")
    @classmethod
    def _has_its_slots(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            parsed = [slot for _, *slot in string.Formatter().parse(template) if slot[0] is not None]
            fields = [name for name, _, _ in parsed]
            unknown = set(fields) - {*_SLOTS, "place", "object"}
            decorated = any(spec or conversion for _, spec, conversion in parsed)
            if unknown or decorated or any(fields.count(slot) != 1 for slot in _INTRODUCE) or "subject" not in fields:
                raise ValueError(
                    f"{template!r} must hold {{first}} and {{second}} once each and {{subject}} at least once, "
                    f"and besides them only {{place}} and {{object}}"
                )
            if fields.index("subject") < max(fields.index("first"), fields.index("second")):
                raise ValueError(f"{template!r} must name {{subject}} again after {{first}} and {{second}}")
            if template.rstrip() != template or template.endswith("{subject}"):
                raise ValueError(f"{template!r} must end with the word before the answer, without a space")
        return templates

    def make(self, tokenizer: Any) -> PromptSet:
        """Make the prompts for one tokenizer. Words that are not single tokens there are left out.

        Raises:
            TaskError: if fewer than five names, or no place or object that the templates need, are single tokens, or
                the tokenizer's chat template cannot be used.
        """
        before = self.before(tokenizer)
        encoder = Encoder(tokenizer, self.bos, before)
        names = self._names(encoder)
        words = {"place": self._usable("place", encoder), "object": self._usable("object", encoder)}
        rng = random.Random(self.seed)
        listed = list(names)
        drawn = [self._drawn(index, rng, listed, words) for index in range(self.prompts)]
        made = self._read(drawn, encoder, names)
        settings = self.model_dump(include={"kind", "prompts", "seed", "bos"}) | {
            "names": len(names),
            "places": len(words["place"]),
            "objects": len(words["object"]),
            "templates": len(self.templates),
        }
        return PromptSet(made, {**settings, **before.settings})

    def choices(self, tokenizer: Any) -> Mapping[str, Choice]:
        """A prompt is chosen by its order, template, words and people, and by a sentence of other people before it.

        Raises:
            TaskError: as `make`.
        """
        encoder = Encoder(tokenizer, self.bos, self.before(tokenizer))
        names = list(self._names(encoder))
        shortest = sorted(range(len(self.templates)), key=lambda number: (len(self.templates[number]), number))
        found = {
            "order": Choice(("ABBA", "BABA")),
            "template": Choice(shortest),
            "place": Choice(self._usable("place", encoder)),
            "object": Choice(self._usable("object", encoder)),
            "people": Choice(names, _FEWEST_NAMES),
        }
        if len(names) >= _FEWEST_NAMES + len(_INTRODUCE):
            found["people"] = Choice(names, _FEWEST_NAMES + len(_INTRODUCE))
            found["distractor"] = Choice((None, *shortest))
        return found

    def one(self, tokenizer: Any, chosen: Mapping[str, Any]) -> PromptSet:
        """A single prompt; of `people` the first two are in it, the next three in its counterfactual."""
        fill = {"place": chosen["place"], "object": chosen["object"]}
        right, wrong, *others = chosen["people"]
        task = self
        if chosen.get("distractor") is not None:
            first, second = others[_FEWEST_NAMES - len(_INTRODUCE) :]
            people = dict(zip(_SLOTS, (first, second, second), strict=True))
            sentence = _fill(self.templates[chosen["distractor"]], fill | people).text
            task = self.model_copy(update={"prefix": f"{self.prefix}{sentence} {first}. "})
        before = task.before(tokenizer)
        encoder = Encoder(tokenizer, self.bos, before)
        names = encoder.single_tokens((right, wrong))
        if len(names) < len(_INTRODUCE):
            raise TaskError(f"{right} and {wrong} are not both single tokens after {before.text!r}")
        drawn = task._spelled(chosen["order"], chosen["template"], fill, right, wrong, others[: len(_SLOTS)])
        return PromptSet(task._read([drawn], encoder, names), {"kind": self.kind, "bos": self.bos, **before.settings})

    def _read(self, drawn: Sequence[_Drawn], encoder: Encoder, names: Mapping[str, int]) -> tuple[Prompt, ...]:
        read = encoder.encode_all([text for one in drawn for text in (one.clean, one.twin)])
        return tuple(
            _prompt(one, encoder.before.text, names, *clean, twin)
            for one, clean, (twin, _) in zip(drawn, read[::2], read[1::2], strict=True)
        )

    def _names(self, encoder: Encoder) -> Mapping[str, int]:
        """The names that are single tokens, with these."""
        names = encoder.single_tokens(self.names)
        if len(names) < _FEWEST_NAMES:
            raise TaskError(
                f"task ioi needs {_FEWEST_NAMES} names that are single tokens, and only {len(names)} of "
                f"{len(self.names)} are for this tokenizer ({', '.join(names) or 'none'}): "
                f"give `names:` from the model's own vocabulary in the suite"
            )
        return names

    def _usable(self, slot: str, encoder: Encoder) -> list[str]:
        words = self.places if slot == "place" else self.objects
        usable = list(encoder.single_tokens(words))
        if not usable and any(f"{{{slot}}}" in template for template in self.templates):
            raise TaskError(
                f"no {slot} of task ioi is a single token for this tokenizer: give `{slot}s:` from the model's own "
                f"vocabulary, or templates without {{{slot}}}"
            )
        return usable or [""]

    def _drawn(self, index: int, rng: random.Random, listed: list[str], words: dict[str, list[str]]) -> _Drawn:
        order = "ABBA" if index % 2 == 0 else "BABA"
        number = (index // 2) % len(self.templates)
        fill = {slot: rng.choice(choices) for slot, choices in words.items()}
        chosen = rng.sample(range(len(listed)), 2)
        right, wrong = (listed[place] for place in chosen)
        others = [listed[_past(place, chosen)] for place in rng.sample(range(len(listed) - 2), 3)]
        return self._spelled(order, number, fill, right, wrong, others)

    def _spelled(
        self, order: str, number: int, fill: Mapping[str, str], right: str, wrong: str, others: Sequence[str]
    ) -> _Drawn:
        people = (right, wrong, wrong) if order == "ABBA" else (wrong, right, wrong)
        clean, twin = (
            _fill(self.templates[number], {**fill, **dict(zip(_SLOTS, named, strict=True))})
            for named in (people, others)
        )
        return _Drawn(order, number, right, wrong, clean, twin)


class _Drawn(NamedTuple):
    """A prompt before the tokenizer has read it: the names, and its sentence and the counterfactual's."""

    order: str
    number: int
    right: str
    wrong: str
    clean: Marked
    twin: Marked


def _prompt(
    drawn: _Drawn,
    before: str,
    names: Mapping[str, int],
    tokens: tuple[int, ...],
    at: Mapping[str, int],
    twin: tuple[int, ...],
) -> Prompt:
    right, wrong = names[drawn.right], names[drawn.wrong]
    io, subject = ("first", "second") if drawn.order == "ABBA" else ("second", "first")
    repeated = [place for label, place in at.items() if label.startswith("subject")]
    found = [tokens[at[io]], tokens[at[subject]], *(tokens[place] for place in repeated)]
    if found != [right, wrong, *(wrong for _ in repeated)] or len(tokens) != len(twin):
        raise TaskError(
            f"the names in {drawn.clean.text!r} are not single tokens there: put a space before each name slot "
            f"(at the beginning, `prefix` may end with it)"
        )
    positions = {
        "indirect-object": at[io],
        "subject-1": at[subject],
        "after-subject-1": at[subject] + 1,
        "subject-2": at["subject"],
        END: len(tokens) - 1,
    }
    return Prompt(
        tokens=tokens,
        text=drawn.clean.text,
        before=before,
        positions=positions,
        right=Answers.of(right),
        wrong=Answers.of(wrong),
        counterfactual=twin,
        template=f"{drawn.order}/{drawn.number}",
        targets=((len(tokens) - 1, right),),
    )


def _fill(template: str, words: dict[str, str]) -> Marked:
    """The sentence, its name slots labelled; of several `{subject}` the last is `subject`, the others are numbered."""
    marked = Marked()
    for literal, slot, _, _ in string.Formatter().parse(template):
        marked.add(literal)
        if slot is None:
            continue
        if slot in marked.spans:  # only a subject comes twice
            marked.spans[f"{slot} {len(marked.spans)}"] = marked.spans.pop(slot)
        marked.add(words[slot], slot if slot in _SLOTS else None)
    return marked


def _past(place: int, chosen: list[int]) -> int:
    """The place in a list of what stands at `place` once those at the chosen places are taken out."""
    for taken in sorted(chosen):
        place += taken <= place
    return place
