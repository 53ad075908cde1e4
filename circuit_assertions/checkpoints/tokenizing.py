"""Whether a tokenizer reads text as its own tokenizer.json does: a wrong class or configuration changes that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["TEXTS", "other_readings"]

# Plain sentences, names, several spaces, capitals, digits, punctuation, a line break, letters that are not English.
TEXTS = (
    "When Mary and John went to the store, John gave a drink to",
    "Mary",
    " Mary",
    "The DOG barked  twice; it's 3.14 o'clock.",
    "Café, naïve\nnew line",
    "x = [1, 2, 300]",
)
_MOST_TOKENS = 8


def other_readings(tokenizer: Any, folder: Path) -> list[str]:
    """What is said where AutoTokenizer reads a text differently from tokenizer.json: the text and both token lists."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return []
    from tokenizers import Tokenizer

    plain = Tokenizer.from_file(str(file))
    plain.no_truncation()
    plain.no_padding()
    for text in TEXTS:
        expected = plain.encode(text, add_special_tokens=False)
        got = tokenizer(text, add_special_tokens=False)["input_ids"]
        if list(got) != expected.ids:
            tokens = tokenizer.convert_ids_to_tokens(got)
            return [
                f"{type(tokenizer).__name__} reads {text!r} as {_few(tokens)}, and tokenizer.json as "
                f"{_few(expected.tokens)}: check tokenizer_class in tokenizer_config.json"
            ]
    return []


def _few(tokens: list[str]) -> str:
    said = ", ".join(repr(token) for token in tokens[:_MOST_TOKENS])
    return f"[{said}{', ...' if len(tokens) > _MOST_TOKENS else ''}]"
