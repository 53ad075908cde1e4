"""Two models that track what is in which box, by different mechanisms; every head's role is known.

"The apple is in Box F, the bell is in Box A. Box F contains the" is answered with "apple". The weights are set by hand,
from the materials of the reference model.

*By position* (`build_by_position`), as the paper describes it (Prakash et al. 2024, arXiv 2402.14811, section 4):

| layer | H0                | H1                   | H2            | H3                   |
| ----- | ----------------- | -------------------- | ------------- | -------------------- |
| 0     |                   | position-detector    |               |                      |
| 1     | position-detector |                      |               |                      |
| 2     |                   | position-transmitter |               | position-transmitter |
| 3     | value-fetcher     |                      | value-fetcher |                      |

1. At the label in the question the *position-detectors* look at the same label where its box is described, and write
   the position of the object four tokens before it, half of it each.
2. At the last token the *position-transmitters* look at the label in the question and fetch that position, half each.
3. The *value-fetchers* look at that position and write the identity of the object.

There is no structure reader: what stands four tokens before a label is the same in every prompt, so that no patch from
another prompt could show a head that reads it.

*By label* (`build_by_label`): a *binder* writes at every label which object stands four tokens before it; *label
transmitters* bring the identity of the queried label to the last token; and *fetchers* look there for the earlier label
of this identity, and write the object that is bound to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from reference_model import (
    END_OF_TEXT,
    UNKNOWN,
    Cast,
    ReferenceModel,
    config_of,
    embedded_tokens,
    tokenizer_of,
    write_all_embeddings,
    write_cast,
)
from reference_weights import TOKEN_SIZE, Head, Lane, Stream, blank_model, one_back
from transformers import PreTrainedTokenizerFast

from circuit_assertions.tasks.entity_tracking import EntityTrackingTask

LAYERS = 5
BY_POSITION: Cast = {
    "position-detector": ((0, 1), (1, 0)),
    "position-transmitter": ((2, 1), (2, 3)),
    "value-fetcher": ((3, 0), (3, 2)),
}
BY_LABEL: Cast = {
    "binder": ((0, 1),),
    "label-transmitter": ((1, 0), (2, 1)),
    "fetcher": ((3, 0), (3, 2)),
}
TO_OBJECT, TO_LABEL = 4, 2  # tokens back from a label to its object, and from the last token to the queried label
HALF = 0.5

_TASK = EntityTrackingTask.model_validate({"kind": "entity-tracking"})


class Said:
    """A slice of the stream that the first model leaves free."""

    asked = slice(380, 444)  # at the last token: which label is asked for


def build_by_position() -> ReferenceModel:
    """The model that fetches by position, its tokenizer and its cast."""
    return _build(BY_POSITION, _BY_POSITION)


def build_by_label() -> ReferenceModel:
    """The model that fetches by label, its tokenizer and its cast."""
    return _build(BY_LABEL, _BY_LABEL)


def boxes_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, for the task as it is."""
    words = ["The", "the", "is", "in", "Box", ",", ".", "contains"]
    return tokenizer_of([END_OF_TEXT, UNKNOWN, *_TASK.objects, *_TASK.box_labels, *words], "boxes-model")


def _build(cast: Cast, heads: Mapping[str, Callable[[], Head]]) -> ReferenceModel:
    tokenizer = boxes_tokenizer()
    model = blank_model(config_of(tokenizer, LAYERS))
    write_all_embeddings(model, embedded_tokens(len(tokenizer)))
    write_cast(model, cast, heads)
    return ReferenceModel(model, tokenizer, cast)


def _back(tokens: int) -> torch.Tensor:
    turned: torch.Tensor = torch.linalg.matrix_power(one_back(), tokens)
    return turned


def _looking_back(tokens: int, score: float) -> Head:
    """A head that looks so many tokens back, wherever it is."""
    head = Head()
    head.match(Stream.position, Stream.position, Lane.position, score=score)
    head.query[Stream.position, Lane.position] = score * _back(tokens)
    return head


def _position_detector() -> Head:
    """Scores: an earlier occurrence of the token 30, position 0 22, the token itself 15, any other token 4 or less."""
    head = Head()
    head.match(Stream.token, Stream.token, Lane.token, score=30.0)
    head.match(Stream.position, Stream.position, Lane.position, score=-15.0)
    head.always_seek(Stream.rest, Lane.rest, score=22.0)
    head.value[Stream.position, Lane.position] = _back(TO_OBJECT)
    head.output[Lane.position, Stream.earlier] = HALF * torch.eye(len(one_back()))
    return head


def _position_transmitter() -> Head:
    head = _looking_back(TO_LABEL, score=10.0)
    head.value[Stream.earlier, Lane.position] = torch.eye(len(one_back()))
    head.output[Lane.position, Stream.subject] = HALF * torch.eye(len(one_back()))
    return head


def _value_fetcher() -> Head:
    """Scores: the position that was brought 10, half of it where one transmitter fails; position 0 4, others 0."""
    head = Head()
    head.match(Stream.subject, Stream.position, Lane.position, score=10.0)
    head.always_seek(Stream.rest, Lane.rest, score=4.0)
    head.value[Stream.token, Lane.token] = torch.eye(TOKEN_SIZE)
    head.output[Lane.token, Stream.answer] = HALF * torch.eye(TOKEN_SIZE)
    return head


def _binder() -> Head:
    head = _looking_back(TO_OBJECT, score=10.0)
    head.value[Stream.token, Lane.token] = torch.eye(TOKEN_SIZE)
    head.output[Lane.token, Stream.previous] = torch.eye(TOKEN_SIZE)
    return head


def _label_transmitter() -> Head:
    head = _looking_back(TO_LABEL, score=10.0)
    head.value[Stream.token, Lane.token] = torch.eye(TOKEN_SIZE)
    head.output[Lane.token, Said.asked] = HALF * torch.eye(TOKEN_SIZE)
    return head


def _fetcher() -> Head:
    """Scores: the earlier label 20, the one in the question 5, position 0 8, any other token 3 or less."""
    head = Head()
    head.match(Said.asked, Stream.token, Lane.token, score=20.0)
    head.match(Stream.position, Stream.position, Lane.position, score=-15.0)
    head.query[Stream.position, Lane.position] = -15.0 * _back(TO_LABEL)
    head.always_seek(Stream.rest, Lane.rest, score=8.0)
    head.value[Stream.previous, Lane.token] = torch.eye(TOKEN_SIZE)
    head.output[Lane.token, Stream.answer] = HALF * torch.eye(TOKEN_SIZE)
    return head


_BY_POSITION = {
    "position-detector": _position_detector,
    "position-transmitter": _position_transmitter,
    "value-fetcher": _value_fetcher,
}
_BY_LABEL = {"binder": _binder, "label-transmitter": _label_transmitter, "fetcher": _fetcher}
