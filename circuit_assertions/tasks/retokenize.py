"""Two checkpoints can only be compared on the same token ids: check that a second tokenizer reads a task alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.prompts import Prompt, PromptSet

__all__ = ["check_same_tokens"]


def check_same_tokens(prompts: PromptSet, made_by: Any, other: Any, *, model: str, whose: str) -> None:
    """Check that `other` spells every token of `prompts` as `made_by` does, and splits their texts alike.

    Extra tokens in either vocabulary do no harm; other ids for the tokens that are asked do.

    Args:
        model: what the error calls the owner of `made_by`.
        whose: what it calls the owner of `other`.

    Raises:
        TaskError: naming the first token, or the first text, that the two tokenizers read differently.
    """
    used = sorted({token for prompt in prompts.prompts for token in _tokens(prompt)})
    pairs = zip(made_by.convert_ids_to_tokens(used), other.convert_ids_to_tokens(used), strict=True)
    for token, (here, there) in zip(used, pairs, strict=True):
        if here != there:
            raise TaskError(
                f"{whose} has another tokenizer than {model}: token {token} is {there!r} there and {here!r} here, "
                f"so their readings cannot be compared; audit checkpoints of one lineage together"
            )
    texts = [prompt.before + prompt.text for prompt in prompts.prompts if prompt.text]
    for text, here, there in zip(texts, _ids(made_by, texts), _ids(other, texts), strict=True):
        if here != there:
            raise TaskError(
                f"{whose} has another tokenizer than {model}: it splits {text!r} differently, "
                f"so their readings cannot be compared; audit checkpoints of one lineage together"
            )


def _tokens(prompt: Prompt) -> Iterator[int]:
    """Every token that is read or asked for."""
    yield from prompt.tokens
    yield from prompt.counterfactual or ()
    yield from (token for _, token in prompt.targets)
    yield from (*prompt.right.tokens, *prompt.wrong.tokens)


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids
