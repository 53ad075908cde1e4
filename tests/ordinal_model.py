"""A second reference model: it names the item of a list that an ordinal asks for, and every head's role is known.

"list : red green blue black . The third one is" is answered with "blue". No task kind of the package describes this:
its task, chain and suite are the files in tests/ordinal/. The weights are set by hand, from the materials of the first
reference model.

| layer | H0              | H1              | H2              | H3                  |
| ----- | --------------- | --------------- | --------------- | ------------------- |
| 0     |                 |                 | ordinal-carrier |                     |
| 1     | ordinal-carrier |                 |                 |                     |
| 2     |                 | place-reader    |                 | place-reader        |
| 3     | item-mover      |                 | item-mover      |                     |
| 4     |                 |                 |                 | negative-item-mover |

1. An ordinal word says in its embedding at which position its item stands. At the next token, "one", the
   *ordinal-carriers* look at the token before and write this place, half of it each, with a flag.
2. At the last token, "is", the *place-readers* look for the flag, at "one", and fetch the place, half each.
3. At "is", the *item movers* look at that place and write the identity of the item there. The *negative*
   item mover does the same with the opposite sign.

The other heads are idle, as in the first model.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

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
from reference_weights import (
    TOKEN_SIZE,
    Head,
    Lane,
    Stream,
    blank_model,
    one_back,
    position_codes,
)
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

LAYERS = 5
CAST: Cast = {
    "ordinal-carrier": ((0, 2), (1, 0)),
    "place-reader": ((2, 1), (2, 3)),
    "item-mover": ((3, 0), (3, 2)),
    "negative-item-mover": ((4, 3),),
}

ITEMS = ("red", "green", "blue", "black", "white", "brown", "pink", "grey", "gold", "silver", "purple", "orange")
ORDINALS = ("first", "second", "third", "fourth")
FIRST_ITEM = 2  # its position: `list` and `:` stand before it

MOVER_OUTPUT = 0.5  # two movers share the answer
NEGATIVE_OUTPUT = -0.2


class Said:
    """Slices of the stream that the first model leaves free."""

    wanted = slice(380, 440)  # of ordinal words: at which position their item stands
    ordinal = slice(440, 441)  # 1 at ordinal words
    carried = Stream.subject  # the place that the token before wants
    flag = slice(441, 442)  # 1 where a place was carried to
    place = Stream.earlier  # the place to look at


def build_ordinal_model() -> ReferenceModel:
    """The model, its tokenizer and its cast."""
    tokenizer = _tokenizer()
    model = blank_model(config_of(tokenizer, LAYERS))
    _write_embeddings(model, tokenizer)
    write_cast(model, CAST, _WORKING_HEADS)
    return ReferenceModel(model, tokenizer, CAST)


def ordinal_pairs(count: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """Prompts as a task of kind `prompts` has them; the counterfactual asks for another item of the same list."""
    drawn = random.Random(seed)
    for _ in range(count):
        items = drawn.sample(ITEMS, len(ORDINALS))
        asked, other = drawn.sample(range(len(ORDINALS)), 2)
        labels = {asked: "asked-item", other: "other-item"}
        shown = " ".join(f"{{{labels[at]}:{item}}}" if at in labels else item for at, item in enumerate(items))
        yield {
            "clean": f"list : {shown} . The {{ordinal:{ORDINALS[asked]}}} {{after-ordinal:one}} is",
            "counterfactual": f"list : {' '.join(items)} . The {ORDINALS[other]} one is",
            "right": items[asked],
            "wrong": items[other],
        }


def write_pairs(file: Path, count: int, seed: int = 0) -> None:
    """Write prompts as the JSONL file that a suite names."""
    file.write_text("".join(f"{json.dumps(pair)}\n" for pair in ordinal_pairs(count, seed)))


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = [END_OF_TEXT, UNKNOWN, *ITEMS, *ORDINALS, "list", ":", ".", "The", "one", "is"]
    return tokenizer_of(vocabulary, "ordinal-model")


def _write_embeddings(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = embedded_tokens(len(tokenizer))
    for number, token in enumerate(tokenizer.convert_tokens_to_ids(list(ORDINALS))):
        tokens[token, Said.wanted] = position_codes()[FIRST_ITEM + number]
        tokens[token, Said.ordinal] = 1.0
    write_all_embeddings(model, tokens)


def _ordinal_carrier() -> Head:
    """Scores: the token before 10, any other 0."""
    head = Head()
    head.match(Stream.position, Stream.position, Lane.position, score=10.0)
    head.query[Stream.position, Lane.position] = 10.0 * one_back()
    head.value[Said.wanted, Lane.position] = torch.eye(len(one_back()))
    head.value[Said.ordinal, Lane.repeated] = 1.0
    head.output[Lane.position, Said.carried] = 0.5 * torch.eye(len(one_back()))
    head.output[Lane.repeated, Said.flag] = 0.5
    return head


def _place_reader() -> Head:
    """Scores: where a place was carried to 9, position 0 4, any other 0."""
    head = Head()
    head.always_seek(Said.flag, Lane.repeated, score=9.0)
    head.always_seek(Stream.rest, Lane.rest, score=4.0)
    head.value[Said.carried, Lane.position] = torch.eye(len(one_back()))
    head.output[Lane.position, Said.place] = 0.5 * torch.eye(len(one_back()))
    return head


def _item_mover(strength: float) -> Head:
    """Scores: the place to look at 7, position 0 3, any other 0; writes the identity of what it looks at."""
    head = Head()
    head.match(Said.place, Stream.position, Lane.position, score=7.0)
    head.always_seek(Stream.rest, Lane.rest, score=3.0)
    head.value[Stream.token, Lane.token] = torch.eye(TOKEN_SIZE)
    head.output[Lane.token, Stream.answer] = strength * torch.eye(TOKEN_SIZE)
    return head


_WORKING_HEADS: Mapping[str, Callable[[], Head]] = {
    "ordinal-carrier": _ordinal_carrier,
    "place-reader": _place_reader,
    "item-mover": lambda: _item_mover(MOVER_OUTPUT),
    "negative-item-mover": lambda: _item_mover(NEGATIVE_OUTPUT),
}
