"""The result of the `graft` verb: what was written, and which of its weights are from where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from circuit_assertions.results.base import Part, Result

if TYPE_CHECKING:
    from circuit_assertions.checkpoints.grafting import Grafted

__all__ = ["GraftResult", "GraftedFrom"]


class GraftedFrom(Part):
    """One of the two checkpoints that were read.

    Attributes:
        checkpoint: as it was named.
        fingerprint: of its weights.
    """

    checkpoint: str
    fingerprint: str


class GraftResult(Result):
    """A checkpoint that was written with some components' weights taken from another.

    Attributes:
        folder: where it was written, as it was named.
        fingerprint: of the weights that were written.
        components: those with the weights of `source`.
        same_already: those that were asked for, and had the same weights in both.
        model: the checkpoint that has all other weights, and `source`, the one that the components are from.
        merged: whether `model` is an adapter, and a full checkpoint was written.
        dequantized: whether `model` is a GGUF file, or an adapter of one, and its weights were written in float32.
        tokenizer: the folder or file that the tokenizer is from; None where neither checkpoint has one.
    """

    kind: Literal["graft"] = "graft"
    folder: str
    fingerprint: str
    components: tuple[str, ...]
    same_already: tuple[str, ...]
    model: GraftedFrom
    source: GraftedFrom
    merged: bool
    dequantized: bool = False
    tokenizer: str | None

    @classmethod
    def of(cls, grafted: Grafted) -> GraftResult:
        """The result of a graft that was written."""
        model, source = (
            GraftedFrom(checkpoint=str(checkpoint), fingerprint=fingerprint)
            for checkpoint, fingerprint in zip((grafted.model, grafted.source), grafted.fingerprints, strict=True)
        )
        return cls(
            folder=str(grafted.folder),
            fingerprint=grafted.fingerprint,
            components=tuple(map(str, grafted.parts)),
            same_already=tuple(map(str, grafted.same)),
            model=model,
            source=source,
            merged=grafted.merged,
            dequantized=grafted.dequantized,
            tokenizer=None if grafted.tokenizer is None else str(grafted.tokenizer),
        )
