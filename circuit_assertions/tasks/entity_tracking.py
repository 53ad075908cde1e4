"""The `entity-tracking` task: what is in which box (Prakash et al. 2024, arXiv 2402.14811, section 3).

`The apple is in Box F, the bell is in Box A, ... . Box F contains the` -> `apple`. The queried box takes turns over all
places, so that it is uniform. Objects and labels are single tokens.

The counterfactual changes one thing, and each tells what a group of heads carries (section 5, desiderata):

- `object`: other objects in all boxes. Heads that carry the object bring the counterfactual's object.
- `label`: the queried label and that of another box change places, and the same place is asked for. Heads that carry
  the label bring what the clean prompt has in the box of that label.
- `position`: the queried box and another one change places, and the same label is asked for. Heads that carry the
  position bring what the clean prompt has at that place.
- `all`: other objects, other labels as far as there are enough, and another place. It is how the circuit is found.

The wrong answer is the one that the counterfactual brings; for `all` the wrong answers are the objects of all other
boxes, and the metric is the margin over the strongest of them, so that the answer rate has a chance of 1 in `boxes`.
"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from circuit_assertions.tasks.answers import Answers
from circuit_assertions.tasks.encoding import BosPolicy, Encoder, Marked
from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.kind import Option, SeededTask
from circuit_assertions.tasks.metrics import LOGIT_DIFFERENCE, LOGIT_MARGIN, AnswerMetric
from circuit_assertions.tasks.prompts import END, Prompt, PromptSet
from circuit_assertions.tasks.text import TextTask

__all__ = ["EntityTrackingTask"]

Changed = Literal["all", "object", "label", "position"]

_OBJECTS = (
    "apple", "bell", "book", "boot", "bread", "brick", "camera", "card", "clock", "coat", "coin", "computer", "cup",
    "disk", "document", "dress", "drink", "engine", "fan", "file", "flower", "game", "gift", "glass", "guitar", "hat",
    "key", "lamp", "leaf", "letter", "magazine", "map", "medicine", "milk", "mirror", "note", "painting", "paper",
    "phone", "picture", "plane", "plant", "plate", "pot", "radio", "ring", "rock", "rose", "shirt", "string", "suit",
    "tea", "television", "ticket", "tool", "train", "watch",
)  # fmt: skip
_LABELS = tuple(string.ascii_uppercase)
_MOST_WORDS = 10_000


class EntityTrackingTask(SeededTask, TextTask):
    """What is in which box."""

    kind: Literal["entity-tracking"]
    prompts: int = Field(256, ge=2, le=100_000, strict=True, description="how many prompts; all boxes take turns")
    seed: int = Field(
        0, ge=0, strict=True, description="two audits with the same seed and tokenizer use the same prompts"
    )
    bos: BosPolicy = Field("tokenizer", description="whether prompts begin with a BOS token")
    boxes: int = Field(7, ge=2, le=100, strict=True, description="how many boxes a prompt has")
    counterfactual: Changed = Field("all", description="what the counterfactual changes")
    objects: tuple[str, ...] = Field(_OBJECTS, max_length=_MOST_WORDS, description="words for {object}")
    box_labels: tuple[str, ...] = Field(_LABELS, max_length=_MOST_WORDS, description="names of boxes, for {label}")
    statement: str = Field("the {object} is in Box {label}", description="one box and what is in it")
    question: str = Field("Box {label} contains the", description="the beginning of a sentence that the answer ends")

    help: ClassVar[str] = (
        "which object is in which of several boxes; the counterfactual changes objects, labels or positions, or all"
    )
    positions: ClassVar[Mapping[str, str]] = {
        "query-label": "the label in the question",
        "previous-query-label": "the same label where its box is described",
        "correct-object": "the object in that box, which is the answer",
        "label": "the label of another box: the one that the counterfactual is about",
        "object": "the object in that other box",
        END: "the last token, where the answer is read",
    }
    circuit: ClassVar[str] = "entity-tracking"
    shorter: ClassVar[str] = "fewer `boxes:`"
    options: ClassVar[tuple[Option, ...]] = (*TextTask.options,)
    changes: ClassVar[tuple[str, ...]] = ("object", "label", "position")

    @field_validator("statement", "question")
    @classmethod
    def _has_its_slots(cls, text: str, info: Any) -> str:
        wanted = ["label"] if info.field_name == "question" else ["label", "object"]
        parsed = [(slot, spec, conversion) for _, slot, spec, conversion in string.Formatter().parse(text)]
        slots = [slot for slot, _, _ in parsed if slot is not None]
        if sorted(slots) != wanted or any(spec or conversion for _, spec, conversion in parsed):
            raise ValueError(
                f"{text!r} must hold {' and '.join(f'{{{name}}}' for name in wanted)} once and nothing else"
            )
        if text.strip() != text or (info.field_name == "question" and text.endswith("}")):
            raise ValueError(f"{text!r} must begin and end with a word, a question with the word before the answer")
        return text

    @model_validator(mode="after")
    def _fills_its_boxes(self) -> EntityTrackingTask:
        for name, words in (("objects", self.objects), ("box-labels", self.box_labels)):
            if len(words) < self.boxes:
                raise ValueError(f"{self.boxes} boxes need as many {name}, and there are {len(words)}")
        return self

    @property
    def offers(self) -> frozenset[str]:
        """`moved-answer` where the counterfactual changes one thing."""
        moved = frozenset() if self.counterfactual == "all" else frozenset({"moved-answer"})
        return moved | {"answer", "wrong-answer", "positions", "counterfactual"}

    @property
    def answer_metric(self) -> AnswerMetric:
        """The margin over all other boxes, or the difference to the answer that the counterfactual brings."""
        return LOGIT_MARGIN if self.counterfactual == "all" else LOGIT_DIFFERENCE

    def changing(self, what: str) -> Self | None:
        """The same prompts, with another counterfactual."""
        return self.model_copy(update={"counterfactual": what}) if what in self.changes else None

    def make(self, tokenizer: Any) -> PromptSet:
        """Make the prompts for one tokenizer. Words that are not single tokens there are left out.

        Raises:
            TaskError: if fewer objects or labels than are needed are single tokens, or the tokenizer's chat template
                cannot be used.
        """
        before = self.before(tokenizer)
        encoder = Encoder(tokenizer, self.bos, before)
        others = self.counterfactual in ("all", "object")
        objects = self._usable("objects", encoder, self.boxes * (2 if others else 1))
        labels = self._usable("box-labels", encoder, self.boxes)
        # Two generators: the clean prompts are the same, whatever the counterfactual changes.
        rng, further = random.Random(self.seed), random.Random(f"counterfactuals of {self.seed}")
        drawn = [self._drawn(index, rng, further, list(objects), list(labels)) for index in range(self.prompts)]
        texts = [text for one in drawn for text in (self._text(one.clean), self._text(one.twin))]
        read = encoder.encode_all(texts)
        made = tuple(
            self._prompt(one, texts[2 * at].text, before.text, objects, *read[2 * at], read[2 * at + 1][0])
            for at, one in enumerate(drawn)
        )
        settings = self.model_dump(include={"kind", "prompts", "seed", "bos", "boxes", "counterfactual"}) | {
            "objects": len(objects),
            "labels": len(labels),
            "chance": 1 / self.boxes if self.counterfactual == "all" else 1 / 2,
        }
        return PromptSet(made, {**settings, **before.settings})

    def _usable(self, name: Literal["objects", "box-labels"], encoder: Encoder, needed: int) -> dict[str, int]:
        words = self.objects if name == "objects" else self.box_labels
        usable = encoder.single_tokens(words)
        if len(usable) < needed:
            why = f"{self.boxes} boxes" + (" and their counterfactual" if needed > self.boxes else "")
            raise TaskError(
                f"task {self.kind} needs {needed} {name} that are single tokens, for {why}, and only {len(usable)} of "
                f"{len(words)} are for this tokenizer ({', '.join(usable) or 'none'}): give `{name}:` from the model's "
                f"own vocabulary, or fewer `boxes:`"
            )
        return usable

    def _drawn(
        self, index: int, rng: random.Random, further: random.Random, objects: list[str], labels: list[str]
    ) -> _Drawn:
        count, asked = self.boxes, index % self.boxes
        contents, names = rng.sample(objects, count), rng.sample(labels, count)
        other = rng.choice([place for place in range(count) if place != asked])
        clean = _Boxes(contents, names, asked, other)
        if self.counterfactual == "label":
            return _Drawn(clean, clean._replace(labels=_swapped(names, asked, other)), brings=contents[other])
        if self.counterfactual == "position":
            twin = _Boxes(_swapped(contents, asked, other), _swapped(names, asked, other), other, asked)
            return _Drawn(clean, twin, brings=contents[other])
        new_contents = further.sample([word for word in objects if word not in contents], count)
        if self.counterfactual == "object":
            return _Drawn(clean, clean._replace(objects=new_contents), brings=new_contents[asked])
        unused = [label for label in labels if label not in names]
        new_names = further.sample(unused if len(unused) >= count else labels, count)
        return _Drawn(clean, _Boxes(new_contents, new_names, other, asked), brings=None)

    def _text(self, boxes: _Boxes) -> Marked:
        """The prompt's text; the labels of its pieces are those of the positions."""
        marked = Marked()
        of_asked = {"label": "previous-query-label", "object": "correct-object"}
        for place, words in enumerate(zip(boxes.objects, boxes.labels, strict=True)):
            marked.add(", " if place else "")
            spans = {boxes.asked: of_asked, boxes.other: {"label": "label", "object": "object"}}.get(place, {})
            self._fill(marked, self.statement, dict(zip(("object", "label"), words, strict=True)), spans, not place)
        marked.add(". ")
        self._fill(marked, self.question, {"label": boxes.labels[boxes.asked]}, {"label": "query-label"}, False)
        return marked

    @staticmethod
    def _fill(marked: Marked, text: str, words: Mapping[str, str], spans: Mapping[str, str], first: bool) -> None:
        for number, (literal, slot, _, _) in enumerate(string.Formatter().parse(text)):
            marked.add(literal[:1].upper() + literal[1:] if first and not number else literal)
            if slot is not None:
                marked.add(words[slot], spans.get(slot))

    def _prompt(
        self,
        drawn: _Drawn,
        text: str,
        before: str,
        objects: Mapping[str, int],
        tokens: tuple[int, ...],
        at: Mapping[str, int],
        twin: tuple[int, ...],
    ) -> Prompt:
        clean = drawn.clean
        right = objects[clean.objects[clean.asked]]
        others = [objects[word] for place, word in enumerate(clean.objects) if place != clean.asked]
        found = tokens[at["correct-object"]], tokens[at["query-label"]]
        if found != (right, tokens[at["previous-query-label"]]) or len(tokens) != len(twin):
            raise TaskError(
                f"the words in {text!r} are not single tokens there: put a space before {{object}} and {{label}}"
            )
        wrong = Answers.of(*others) if drawn.brings is None else Answers.of(objects[drawn.brings])
        return Prompt(
            tokens=tokens,
            text=text,
            before=before,
            positions={**at, END: len(tokens) - 1},
            right=Answers.of(right),
            wrong=wrong,
            counterfactual=twin,
            template=f"box {clean.asked + 1} of {self.boxes}",
            targets=((len(tokens) - 1, right),),
        )


class _Boxes(NamedTuple):
    """What one prompt says: objects and labels by place, the place that is asked for, and another one."""

    objects: list[str]
    labels: list[str]
    asked: int
    other: int


class _Drawn(NamedTuple):
    """A prompt and its counterfactual, and the object that this brings; None where it changes everything."""

    clean: _Boxes
    twin: _Boxes
    brings: str | None


def _swapped(words: Sequence[str], first: int, second: int) -> list[str]:
    changed = list(words)
    changed[first], changed[second] = changed[second], changed[first]
    return changed
