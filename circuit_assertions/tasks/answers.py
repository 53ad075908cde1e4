"""Answers: the tokens that count as one answer, each with its weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["NO_ANSWER", "Answers"]


@dataclass(frozen=True)
class Answers:
    """A weighted set of tokens, any of which is the answer. An empty set says that the task has no such answer.

    Attributes:
        tokens: token ids, each once.
        weights: one for each token, above 0 and at most 1.

    Raises:
        ValueError: if a token comes twice, or the weights are not one for each token and within their range.
    """

    tokens: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check tokens and weights."""
        if len(set(self.tokens)) != len(self.tokens) or len(self.weights) != len(self.tokens):
            raise ValueError(f"{self.tokens} with weights {self.weights}: each token once, with a weight of its own")
        if not all(0 < weight <= 1 for weight in self.weights):
            raise ValueError(f"weights {self.weights} are not all above 0 and at most 1")

    @classmethod
    def of(cls, *tokens: int) -> Answers:
        """These tokens, all with weight 1."""
        return cls(tokens, (1.0,) * len(tokens))

    def __bool__(self) -> bool:
        return bool(self.tokens)

    @property
    def token(self) -> int:
        """The one token of the set.

        Raises:
            ValueError: if there are several, or none.
        """
        if len(self.tokens) != 1:
            raise ValueError(f"{len(self.tokens)} tokens are an answer together, and one is asked for")
        return self.tokens[0]

    @property
    def plain(self) -> int | Sequence[object] | None:
        """The set as token hashes hold it: None, a token of weight 1, or tokens and weights."""
        if not self:
            return None
        return self.tokens[0] if self.weights == (1.0,) else (self.tokens, self.weights)


NO_ANSWER = Answers()
