"""What the verbs that test suites on one model print first: the model, the suites and the circuits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from circuit_assertions.results.values import CheckpointFacts

__all__ = ["facts_of_suites", "labelled"]


def facts_of_suites(
    model: CheckpointFacts, suites: Sequence[str], circuits: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Rows of (label, text): the checkpoint with its shape and fingerprint, the suites, the circuits."""
    yield "model", model.checkpoint
    shape = f"{model.architecture} of {model.layers} layers x {model.heads} heads, d_model {model.d_model}"
    yield "", f"{shape}, fingerprint {model.fingerprint[:12]}, {model.dtype} on {model.device}"
    yield from chain(labelled("suite", suites), labelled("circuit", circuits))


def labelled(label: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The texts with the label in front of the first one."""
    yield from ((label if not number else "", text) for number, text in enumerate(texts))
