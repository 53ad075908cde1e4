"""Answers as suites write them: one word, a list of words of which any will do, or words with their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainValidator

from circuit_assertions.tasks.answers import Answers
from circuit_assertions.tasks.encoding import Encoder
from circuit_assertions.tasks.errors import TaskError

__all__ = ["AnswerWords", "Words", "answers_after"]

_MOST_WORDS = 10_000  # of one answer

Words = tuple[tuple[str, float], ...]


def _answer_words(value: Any) -> Words:
    """An answer as words with their weights, however it was written."""
    if isinstance(value, str):
        return ((value, 1.0),)
    if isinstance(value, Mapping):
        pairs = tuple(value.items())
    elif isinstance(value, tuple) and all(isinstance(one, tuple) for one in value):
        pairs = value
    elif isinstance(value, (list, tuple)):
        pairs = tuple((word, 1.0) for word in value)
    else:
        raise ValueError(f"{value!r} is not a word, a list of words, or words with their weights (quote numbers)")
    return tuple((_word(word), _weight(word, weight)) for word, weight in _counted(pairs))


def _counted(pairs: tuple[Any, ...]) -> tuple[Any, ...]:
    if not 1 <= len(pairs) <= _MOST_WORDS:
        raise ValueError(f"an answer has 1 to {_MOST_WORDS} words, and {len(pairs)} are given")
    return pairs


def _word(word: Any) -> str:
    if not isinstance(word, str):
        raise ValueError(f"{word!r} is not a word: quote it")
    return word


def _weight(word: str, weight: Any) -> float:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight <= 1:
        raise ValueError(f"the weight of {word!r} is {weight!r}: give a number above 0 and at most 1")
    return float(weight)


AnswerWords = Annotated[Words, PlainValidator(_answer_words, json_schema_input_type=str | list[str] | dict[str, float])]


def answers_after(encoder: Encoder, text: str, words: Words, called: str, *, joined: bool = False) -> Answers:
    """The tokens that words are after a text.

    Args:
        called: what errors call the prompt.
        joined: whether they follow without a space.

    Raises:
        TaskError: if a word is not a single token there, or two are the same one.
    """
    found: dict[int, tuple[str, float]] = {}
    for word, weight in words:
        token = encoder.next_token(text, word, joined=joined)
        if token is None:
            raise TaskError(f"{called}: {word!r} is not a single token after {text!r} for this tokenizer")
        if token in found:
            raise TaskError(f"{called}: {found[token][0]!r} and {word!r} are one token here: leave one out")
        found[token] = word, weight
    return Answers(tuple(found), tuple(weight for _, weight in found.values()))
