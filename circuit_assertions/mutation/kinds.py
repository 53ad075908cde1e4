"""The kinds of mutants, and which mutants a model has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from circuit_assertions.components import Mlp
from circuit_assertions.heads import Head

__all__ = ["KINDS", "STRENGTH", "Kind", "Mutant", "mutants_of"]

# Standard deviation of noise, in that of the weights. At 2, four fifths of the variance of the weights are noise, which
# clearly outweighs what the component does; at 1 it would be half.
STRENGTH = 2.0

Component = Head | Mlp
Of = Literal["head", "pair", "mlp", "group", "model"]


@dataclass(frozen=True)
class Kind:
    """One kind of mutant.

    Attributes:
        damage: whether a suite must notice it; otherwise it is a harmless control, which a suite must not notice.
        of: what it changes: a head, a pair of heads, an MLP, a group of heads that share keys and values, the model.
        help: what it does, in one line.
        draws: how many there are of it for each thing that it changes.
        exact: whether it leaves the function of the model as it is, by construction.
    """

    name: str
    damage: bool
    of: Of
    help: str
    draws: int = 1
    exact: bool = False


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("negate", True, "head", "a head's output weights are negated"),
        Kind("zero", True, "head", "a head's output weights are set to zero"),
        Kind("noise", True, "head", "noise is added to a head's output weights"),
        Kind(
            "noise-query-key",
            True,
            "head",
            "noise is added to a head's query weights, and to its key weights unless other heads share them",
        ),
        Kind("swap", True, "pair", "two heads write with each other's output weights"),
        Kind("zero-mlp", True, "mlp", "an MLP's output weights are set to zero"),
        Kind("noise-mlp", True, "mlp", "noise is added to an MLP's output weights"),
        Kind("round", False, "model", "every weight is rounded to bfloat16"),
        Kind("nudge", False, "model", "every weight is changed by up to a millionth of itself", draws=3),
        Kind(
            "rescale",
            False,
            "group",
            "the values of heads are doubled, and their output weights halved",
            exact=True,
        ),
    )
}


@dataclass(frozen=True)
class Mutant:
    """A model with one change.

    Attributes:
        components: the heads or the MLP that it changes; none where it changes the whole model.
        draw: which of several of the same kind, from 1; 0 where there is one.
    """

    kind: Kind
    components: tuple[Component, ...] = ()
    draw: int = 0

    def __str__(self) -> str:
        changed = ",".join(map(str, self.components)) or (str(self.draw) if self.draw else "")
        return f"{self.kind.name} {changed}".strip()


def mutants_of(
    heads: Collection[Head],
    layers: int,
    share: Callable[[int], int],
    only: Iterable[str] = KINDS,
) -> tuple[Mutant, ...]:
    """The mutants of a model, in the order of the kinds and of the model.

    Args:
        heads: those that are damaged.
        layers: how many blocks the model has; the MLP of each is damaged.
        share: how many heads share keys and values in a block, by its number.
        only: the names of the kinds that are made.
    """
    wanted = set(only)
    ordered = sorted(set(heads))
    things: dict[Of, list[tuple[Component, ...]]] = {
        "head": [(head,) for head in ordered],
        "pair": list(_pairs(ordered)),
        "mlp": [(Mlp(layer),) for layer in range(layers)],
        "group": list(dict.fromkeys(_group(head, share(head.layer)) for head in ordered)),
        "model": [()],
    }
    return tuple(
        Mutant(kind, components, draw if kind.draws > 1 else 0)
        for kind in KINDS.values()
        if kind.name in wanted
        for components in things[kind.of]
        for draw in range(1, kind.draws + 1)
    )


def _pairs(heads: Sequence[Head]) -> Iterator[tuple[Head, Head]]:
    """Pairs to swap, each head in one: neighbours within a layer; the only head of a layer with the nearest other."""
    found = set[tuple[Head, Head]]()
    for layer, members in groupby(heads, key=lambda head: head.layer):
        own = list(members)
        if len(own) == 1:
            others = [head for head in heads if head.layer != layer]
            own += sorted(others, key=lambda head: (abs(head.layer - layer), head))[:1]
        ring = list(zip(own, [*own[1:], own[0]], strict=True)) if len(own) > 1 else []
        found.update((min(pair), max(pair)) for pair in ring)
    yield from sorted(found)


def _group(head: Head, share: int) -> tuple[Head, ...]:
    first = head.head // share * share
    return tuple(Head(head.layer, first + number) for number in range(share))
