"""From marked text to token ids with labelled positions, for whatever tokenizer the model brings.

BOS policy: `tokenizer` does what the model's tokenizer does by itself (GPT-2: none, Llama: one), which is how the model
was trained; `always` and `never` override it. End-of-text tokens are never added.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from circuit_assertions.tasks.errors import TaskError

__all__ = ["BosPolicy", "Encoder", "Marked"]

BosPolicy = Literal["tokenizer", "always", "never"]


class Marked:
    """Text that is put together piece by piece, with the spans of its labelled pieces in characters."""

    def __init__(self) -> None:
        self.text = ""
        self.spans: dict[str, tuple[int, int]] = {}

    def add(self, piece: str, label: str | None = None) -> Marked:
        """Append `piece`; where it has a label, remember its span."""
        start = len(self.text)
        self.text += piece
        if label is not None:
            self.spans[label] = (start, len(self.text))
        return self


class Encoder:
    """A tokenizer with a BOS policy. `tokenizer` is a fast Hugging Face tokenizer.

    Raises:
        TaskError: if the tokenizer cannot say which characters a token came from, or has no BOS where one is asked for.
    """

    def __init__(self, tokenizer: Any, bos: BosPolicy) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise TaskError(
                f"the tokenizer {type(tokenizer).__name__} does not report offsets, so positions cannot be found: "
                f"give its fast version (a folder with tokenizer.json) with --tokenizer=path/"
            )
        self._tokenizer = tokenizer
        self._bos = bos
        self._unknown: int | None = tokenizer.unk_token_id
        self.prefix = self._prefix()

    def encode(self, marked: Marked) -> tuple[tuple[int, ...], dict[str, int]]:
        """Token ids, and for each label the index of its last token. The prefix (BOS) is counted in.

        Raises:
            TaskError: if a label has no token, or the tokenizer does not know some of the text.
        """
        encoding = self._tokenizer(marked.text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = encoding["input_ids"]
        offsets: list[tuple[int, int]] = encoding["offset_mapping"]
        strange = [marked.text[slice(*offsets[at])] for at, token in enumerate(ids) if token == self._unknown]
        # GPT-2's token for the unknown is also its `<|endoftext|>`, which a text may well hold.
        unknown = [text for text in strange if text.strip() != self._tokenizer.unk_token]
        if unknown:
            raise TaskError(
                f"the tokenizer does not know {', '.join(map(repr, dict.fromkeys(unknown)))} in {marked.text!r}, so "
                f"the model would get a different prompt: use words that it knows, or give the right tokenizer with "
                f"--tokenizer=path/"
            )
        positions = {}
        for label, (start, stop) in marked.spans.items():
            inside = [index for index, (first, last) in enumerate(offsets) if first < stop and last > start]
            if not inside:
                raise TaskError(f"no token covers {marked.text[start:stop]!r} in {marked.text!r}")
            positions[label] = len(self.prefix) + inside[-1]
        return (*self.prefix, *ids), positions

    def single_token(self, word: str) -> int | None:
        """The id of `word` after a space, if it is exactly one token there and is known to the vocabulary."""
        if not word.strip():
            return None
        carrier = self._ids("the")
        with_word = self._ids(f"the {word}")
        if len(with_word) != len(carrier) + 1 or with_word[:-1] != carrier:
            return None
        return None if with_word[-1] == self._unknown else with_word[-1]

    def single_tokens(self, words: Iterable[str]) -> dict[str, int]:
        """Those of `words` that are single tokens, with their ids, in the order given; of two alike the first."""
        found: dict[int, str] = {}
        for word in words:
            token = self.single_token(word)
            if token is not None:
                found.setdefault(token, word)  # an uncased vocabulary reads `Mary` and `mary` as one
        return {word: token for token, word in found.items()}

    def next_token(self, text: str, answer: str) -> int | None:
        """The id of `answer` as the next token after `text`; a space is put between them unless one is there."""
        glue = "" if answer[:1].isspace() or text[-1:].isspace() else " "
        before, after = self._ids(text), self._ids(text + glue + answer)
        one_more = len(after) == len(before) + 1 and after[:-1] == before
        return after[-1] if one_more and after[-1] != self._unknown else None

    def ordinary_tokens(self) -> list[int]:
        """Every id of the vocabulary that is not special, in order."""
        special = set(self._tokenizer.all_special_ids)
        return sorted(token for token in set(self._tokenizer.get_vocab().values()) if token not in special)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _prefix(self) -> tuple[int, ...]:
        bos = self._tokenizer.bos_token_id
        if self._bos == "never":
            return ()
        if self._bos == "always":
            if bos is None:
                raise TaskError("the task asks for `bos: always`, but the tokenizer has no BOS token: use `bos: never`")
            return (bos,)
        plain: list[int] = self._tokenizer("a")["input_ids"]
        return (bos,) if bos is not None and plain[:1] == [bos] and self._ids("a")[:1] != [bos] else ()
