"""From marked text to token ids with labelled positions, for whatever tokenizer the model brings.

BOS policy: `tokenizer` does what the model's tokenizer does by itself (GPT-2: none, Llama: one), which is how the model
was trained; `always` and `never` override it. End-of-text tokens are never added.

In front of a conversation `tokenizer` adds none, as transformers does: chat templates write their own. `always` adds
one only where the template has not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from circuit_assertions.tasks.errors import TaskError

__all__ = ["Before", "BosPolicy", "Encoder", "Marked"]

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


@dataclass(frozen=True)
class Before:
    """What stands in front of every prompt of a task, clean and counterfactual.

    Attributes:
        text: a conversation, then a prefix; each may be missing.
        in_chat: whether there is a conversation, whose template decides on a BOS.
        settings: what the prompts record of it.
    """

    text: str = ""
    in_chat: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


class Encoder:
    """A tokenizer with a BOS policy. `tokenizer` is a fast Hugging Face tokenizer.

    Args:
        before: what stands in front of everything that is encoded.

    Raises:
        TaskError: if the tokenizer cannot say which characters a token came from, has no BOS where one is asked for, or
            a conversation has one where none is wanted.
    """

    def __init__(self, tokenizer: Any, bos: BosPolicy, before: Before = Before()) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise TaskError(
                f"the tokenizer {type(tokenizer).__name__} does not report offsets, so positions cannot be found: "
                f"give its fast version (a folder with tokenizer.json) with --tokenizer=path/"
            )
        self._tokenizer = tokenizer
        self._bos = bos
        self._unknown: int | None = tokenizer.unk_token_id
        self.before = before
        self.prefix = self._prefix()

    def encode(self, marked: Marked) -> tuple[tuple[int, ...], dict[str, int]]:
        """Token ids, and for each label the index of its last token. The prefix (BOS) is counted in.

        Raises:
            TaskError: if a label has no token, or the tokenizer does not know some of the text.
        """
        return self.encode_all([marked])[0]

    def encode_all(self, texts: Sequence[Marked]) -> list[tuple[tuple[int, ...], dict[str, int]]]:
        """As `encode`, of several texts in one call of the tokenizer, which is many times faster than one call each."""
        if not texts:
            return []
        whole = [self.before.text + marked.text for marked in texts]
        told = self._tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        read = zip(texts, told["input_ids"], told["offset_mapping"], strict=True)
        return [self._placed(marked, ids, offsets) for marked, ids, offsets in read]

    def single_tokens(self, words: Iterable[str]) -> dict[str, int]:
        """Those of `words` that are exactly one known token each after a space, with their ids, in the order given.

        Of two that are the same token the first is taken.
        """
        worded = [word for word in words if word.strip()]
        (carrier, *read) = self._ids("the", *(f"the {word}" for word in worded))
        found: dict[int, str] = {}
        for word, ids in zip(worded, read, strict=True):
            if len(ids) == len(carrier) + 1 and ids[:-1] == carrier and ids[-1] != self._unknown:
                found.setdefault(ids[-1], word)  # an uncased vocabulary reads `Mary` and `mary` as one
        return {word: token for token, word in found.items()}

    def next_token(self, text: str, answer: str, *, joined: bool = False) -> int | None:
        """The id of `answer` as the next token after `text`; a space is put between them unless one is there.

        Args:
            joined: whether the answer follows without a space, as a digit of a number does.
        """
        glue = "" if joined or answer[:1].isspace() or text[-1:].isspace() else " "
        whole = self.before.text + text
        before, after = self._ids(whole, whole + glue + answer)
        one_more = len(after) == len(before) + 1 and after[:-1] == before
        return after[-1] if one_more and after[-1] != self._unknown else None

    def lengths(self, words: Iterable[str], after: str) -> dict[str, int]:
        """How many tokens each word adds to a text; those that the tokenizer does not know are left out."""
        listed = list(words)
        # A space is a part of the word behind it.
        carrier, *read = self._ids(after.removesuffix(" "), *(after + word for word in listed))
        return {
            word: len(ids) - len(carrier)
            for word, ids in zip(listed, read, strict=True)
            if self._unknown not in ids[len(carrier) :] and len(ids) > len(carrier)
        }

    def ordinary_tokens(self) -> list[int]:
        """Every id of the vocabulary that is not special, in order."""
        special = set(self._tokenizer.all_special_ids)
        return sorted(token for token in set(self._tokenizer.get_vocab().values()) if token not in special)

    def _placed(
        self, marked: Marked, ids: list[int], offsets: list[tuple[int, int]]
    ) -> tuple[tuple[int, ...], dict[str, int]]:
        """The token ids of a text with the prefix, and the positions of its labels."""
        start = len(self.before.text)
        whole = self.before.text + marked.text
        strange = [whole[slice(*offsets[at])] for at, token in enumerate(ids) if token == self._unknown]
        # GPT-2's token for the unknown is also its `<|endoftext|>`, which a text may well hold.
        unknown = [text for text in strange if text.strip() != self._tokenizer.unk_token]
        if unknown:
            raise TaskError(
                f"the tokenizer does not know {', '.join(map(repr, dict.fromkeys(unknown)))} in {whole!r}, so "
                f"the model would get a different prompt: use words that it knows, or give the right tokenizer with "
                f"--tokenizer=path/"
            )
        positions = {}
        for label, span in marked.spans.items():
            begins, ends = (start + place for place in span)
            inside = [index for index, (first, last) in enumerate(offsets) if first < ends and last > begins]
            if not inside:
                raise TaskError(f"no token covers {whole[begins:ends]!r} in {marked.text!r}")
            positions[label] = len(self.prefix) + inside[-1]
        return (*self.prefix, *ids), positions

    def _ids(self, *texts: str) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids

    def _prefix(self) -> tuple[int, ...]:
        bos = self._tokenizer.bos_token_id
        if self._bos == "always" and bos is None:
            raise TaskError("the task asks for `bos: always`, but the tokenizer has no BOS token: use `bos: never`")
        written = bos is not None and self._ids(self.before.text)[0][:1] == [bos]
        if self._bos == "never" and written and self.before.in_chat:
            raise TaskError(
                f"the task asks for `bos: never`, but the tokenizer's chat template begins with the BOS token "
                f"{self._tokenizer.bos_token!r}: leave `bos` out"
            )
        if self._bos == "never" or written:
            return ()
        if self._bos == "always":
            return (bos,)
        if self.before.in_chat:
            return ()
        plain: list[int] = self._tokenizer("a")["input_ids"]
        return (bos,) if bos is not None and plain[:1] == [bos] and self._ids("a")[0][:1] != [bos] else ()
