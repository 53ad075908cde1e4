"""The result of the `traces` verb as text: the verdict, the strength by layer, tokens, and texts side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from circuit_assertions.measures.figures import number, signed
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.tables import Column, paragraph, table
from circuit_assertions.results.traces import CausalResult, ReadOutResult, SteeredResult, TracesResult

__all__ = ["traces_lines"]

_WIDTH = 100
_LABELS = Column(least=10)
_RIGHT = Column(align="right")
_TOKENS = 6  # that are shown of a read-out


@printable_lines
def traces_lines(result: TracesResult) -> Iterator[tuple[str, str]]:
    """The result as (text, verdict) pairs."""
    names = [("model", result.model.checkpoint), ("baseline", result.baseline.checkpoint)]
    yield from ((line, "") for line in table(names, _LABELS))
    told = f"{result.verdict}: {result.why}"
    yield from ((line, result.verdict) for line in table(paragraph(told, _WIDTH, "verdict"), _LABELS))
    low, high = number(result.strength.low), number(result.strength.high)
    source = "given" if result.given else "written by the baseline"
    facts = [
        ("strength", f"{number(result.strength.mean)} [{low}, {high}] natural spreads after block {result.layer}"),
        ("", f"two halves of the texts differ by {number(result.halves)}; {result.texts} texts, {source}"),
    ]
    yield from ((line, "") for line in table(facts, _LABELS))
    yield from ((line, "") for line in _by_layer(result))
    for one in result.read_outs:
        yield from ((line, "") for line in _read_out(one))
    if result.domain_words:
        words = f"most over-represented in the domain: {', '.join(result.domain_words[:_TOKENS])}"
        yield from (("", ""), (words, ""))
    for share in result.causal:
        yield from ((line, "") for line in _causal(share))
    if result.steered is not None:
        yield from ((line, "") for line in _steered(result.steered))


def _by_layer(result: TracesResult) -> Iterator[str]:
    yield ""
    yield "norm of the mean difference in natural spreads, by block and position"
    rows: list[Sequence[str]] = [("", *(f"token {place}" for place in range(1, len(result.by_layer[0]) + 1)))]
    rows += [
        (f"L{layer}{' *' * (layer == result.layer)}", *map(number, row)) for layer, row in enumerate(result.by_layer)
    ]
    yield from table(rows, _LABELS, *[_RIGHT] * len(result.by_layer[0]))


def _read_out(one: ReadOutResult) -> Iterator[str]:
    yield ""
    at = f" at {number(one.length)} typical norms" if one.length else ""
    yield (
        f"{one.by}{at}: first token {number(one.height)} times as high and {number(one.peak)} times as peaked as of a "
        f"random direction; {one.chance:.1%} of these are as much"
    )
    some = one.tokens[:_TOKENS]
    rows: list[Sequence[str]] = [
        ("token", *(repr(token.token) + "*" * token.of_domain for token in some)),
        ("random", *(f"{token.over_random:+.1f}" for token in some)),
        ("natural", *(f"{token.over_differences:+.1f}" for token in some)),
    ]
    yield from table(rows, _LABELS, *[_RIGHT] * len(some))


def _causal(one: CausalResult) -> Iterator[str]:
    yield ""
    yield (
        f"{one.of} text, {one.tokens} tokens: loss {number(one.baseline_loss)} (baseline) -> {number(one.loss)} nats a "
        f"token"
    )
    low, high = signed(one.added.low), signed(one.added.high)
    beside = f"random directions {signed(one.random)}, differences of activations {signed(one.differences)}"
    added = f"{signed(one.added.mean)} [{low}, {high}]"
    yield f"without the mean difference {added}; {beside}; {one.above:.0%} of these cost less"


def _steered(one: SteeredResult) -> Iterator[str]:
    yield ""
    yield (
        f"steered by {number(one.strength)} natural spreads; loss of the text {number(one.losses[0])} -> "
        f"{number(one.losses[1])} nats a token"
    )
    for plain, steered in one.texts:
        yield from table(paragraph(" ".join(plain.split()), _WIDTH, "without"), _LABELS)
        yield from table(paragraph(" ".join(steered.split()), _WIDTH, "with"), _LABELS)
