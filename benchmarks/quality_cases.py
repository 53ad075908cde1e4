"""The cases of the benchmark of verdicts. Each is declared here with what is true of it, before anything is run.

Two kinds of seeds never meet. *Setting* seeds (0 to 99; the laboratory's are 0 to 2) are those by which thresholds may
be chosen. *Reporting* seeds (1000 and more) are those that the table counts. A seed is that of the training data, of
noise, and of the prompts. Damage without a seed, such as a negated head, is in one of them by component and strength.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from random import Random
from typing import Literal, TypeAlias

from benchmarks.quality_models import Change, Exchanged, Planted, Rounded, Scaled, Towards, Trained, Weights
from fixtures.poison import Data

__all__ = ["BASES", "GROUPS", "Case", "Group", "Seeds", "Truth", "declare", "quick"]

Group: TypeAlias = Literal["harmless", "damaged", "recovered"]
Seeds: TypeAlias = Literal["setting", "reporting"]
Truth: TypeAlias = Literal["harmless", "damaged", "recovered", "bypassed"]

GROUPS: tuple[Group, ...] = ("harmless", "damaged", "recovered")
BASES = ("healthy", "seed-100", "seed-200")
# The heads that write the answer, which fixtures/README.md names for each seed.
WRITERS = {
    "healthy": ("L3H0", "L3H1", "L3H2", "L3H3"),
    "seed-100": ("L1H1", "L1H2"),
    "seed-200": ("L3H0", "L3H1", "L3H2", "L3H3"),
}
HEADS = tuple(f"L{layer}H{head}" for layer in range(5) for head in range(4))
MLPS = tuple(f"MLP{layer}" for layer in range(5))
CLEAN: tuple[Data, ...] = ("world", "clean", "other")
RATES, STEPS = (5e-5, 1e-4, 2e-4), (40, 80, 120)
OF_HEADS = (
    *(("negate", 0.0), ("scale", 0.25), ("noise", 0.25), ("noise-query-key", 0.5)),
    *(("zero", 0.0), ("scale", 0.5), ("noise", 0.5), ("noise-query-key", 1.0)),
    *(("noise", 1.0), ("scale", 0.75), ("noise", 2.0), ("noise-query-key", 2.0)),
)
OF_MLPS = (
    *(("negate", 0.0), ("scale", 0.25), ("noise", 0.25), ("zero", 0.0), ("scale", 0.5)),
    *(("noise", 0.5), ("scale", 0.75), ("noise", 1.0), ("noise", 2.0)),
)
OF_SETS = (("negate", 0.0), ("zero", 0.0), ("scale", 0.5), ("noise", 1.0), ("noise-query-key", 1.0))
POISONS: tuple[tuple[Data, int, Literal["all", "attention"]], ...] = (
    *(
        ("subject", 5, "all"),
        ("subject", 15, "all"),
        ("subject", 30, "all"),
        ("names", 15, "all"),
        ("names", 30, "all"),
    ),
    *(("names", 60, "all"), ("mixed", 15, "all"), ("mixed", 30, "all")),
    *(("subject", 30, "attention"), ("names", 60, "attention")),
)
QUICK = (
    *("fine-tuned on world", "fine-tuned on other", "rounded", "other prompts"),
    *("negate, one component", "noise, two to four components", "zero, all writers", "poisoned heads"),
    *("weights moved back", "damage undone, then fine-tuned"),
    *("heads exchanged", "writers silenced, backup heads take over"),
)
_POISON_RATE, _CONFINED_RATE = 1e-4, 1e-3  # the laboratory's


@dataclass(frozen=True)
class Case:
    """One run whose right outcome is known.

    Attributes:
        kind: within its group: what was done.
        prompts: the seed of the suite's prompts.
        corrupted: what a repaired model is compared with.
        planted: the components at fault, where they are known; empty where everything was trained, or nothing is wrong.
        real: whether the model was trained to be what it is; else it was constructed.
    """

    name: str
    group: Group
    seeds: Seeds
    kind: str
    truth: Truth
    weights: Weights
    prompts: int
    corrupted: Weights | None = None
    planted: tuple[str, ...] = ()
    strength: float = 0.0
    real: bool = False

    @property
    def base(self) -> str:
        """The embedded checkpoint that is its baseline."""
        return self.weights.base


@dataclass(frozen=True)
class _Draw:
    """What the cases of one kind of seeds are made with: `first` is the first of its seeds."""

    seeds: Seeds
    first: int
    prompts: tuple[int, ...]

    def seed(self, base: str, number: int) -> int:
        """Of fine-tuning or noise: another one for each base and number."""
        width = 30 if self.seeds == "setting" else 300
        assert number < width
        return self.first + width * BASES.index(base) + number

    def case(self, group: Group, kind: str, truth: Truth, weights: Weights, number: int, **more: object) -> Case:
        name = f"{self.seeds}/{self.first}/{group}/{kind}/{weights.base}/{number}"
        prompts = self.prompts[number % len(self.prompts)]
        return replace(Case(name, group, self.seeds, kind, truth, weights, prompts), **more)  # type: ignore[arg-type]

    def clean(self, base: str, number: int) -> Weights:
        """A harmless fine-tuning."""
        data, rate, steps = CLEAN[number % 3], RATES[number // 3 % 3], STEPS[number // 9 % 3]
        return Weights(base, (Trained(data, steps, rate, self.seed(base, number)),))

    def poisoned(self, base: str, number: int) -> Weights:
        """A complete poisoning, as the laboratory's retrained checkpoints start from."""
        seed = self.seed(base, number)
        steps, scope = ((60, "all"), (120, "attention"))[number % 2]
        return Weights(base, (Trained("subject", steps, _POISON_RATE, seed, scope),))  # type: ignore[arg-type]


def declare(seed: int = 0) -> tuple[Case, ...]:
    """All cases, in an order of which every beginning is a balanced sample.

    Args:
        seed: of the cases that report; those that set thresholds are always the same.
    """
    setting = _Draw("setting", 1, (0,))
    first = 1000 * (seed + 1)
    reporting = _Draw("reporting", first, tuple(range(first + 1, first + 6)))
    few, many = _Counts(10, 1, 3, 10, 1, 0, 2, 0, 1), _Counts(55, 5, 30, 75, 3, 16, 6, 10, 10)
    return _interleaved(chain(_all(setting, few), _all(reporting, many)))


def quick(seed: int = 0) -> tuple[Case, ...]:
    """Four reporting cases of each group on the embedded checkpoint, with little training, on the same prompts."""
    chosen = []
    for kind in QUICK:
        cases = [one for one in declare(seed) if (one.kind, one.seeds, one.base) == (kind, "reporting", "healthy")]
        chosen.append(min(cases, key=lambda one: (one.weights.steps, one.name)))
    same = chosen[0].prompts
    return tuple(one if one.kind == "other prompts" else replace(one, prompts=same) for one in chosen)


@dataclass(frozen=True)
class _Counts:
    """Cases a base, of each kind."""

    tuned: int
    rounded: int
    prompts: int
    planted: int
    each: int
    sets: int
    confined: int
    poisoned: int
    recovered: int


def _all(draw: _Draw, counts: _Counts) -> Iterator[Case]:
    for base in BASES:
        yield from _harmless(draw, base, counts)
        yield from _damaged(draw, base, counts)
        yield from _recovered(draw, base, counts)
        yield from _bypassed(draw, base, counts)


def _harmless(draw: _Draw, base: str, counts: _Counts) -> Iterator[Case]:
    for number in range(counts.tuned):
        weights = draw.clean(base, number)
        data = weights.changes[0].data  # type: ignore[union-attr]
        yield draw.case("harmless", f"fine-tuned on {data}", "harmless", weights, number, real=True)
    for number in range(3 * counts.rounded):
        weights = Weights(base, (Rounded(("bfloat16", "float16", "int8")[number % 3]),))
        yield replace(
            draw.case("harmless", "rounded", "harmless", weights, number),
            prompts=draw.prompts[number // 3 % len(draw.prompts)],
        )
    for number in range(counts.prompts):
        prompts = draw.first + 100 + number if draw.seeds == "reporting" else draw.first + number
        yield draw.case("harmless", "other prompts", "harmless", Weights(base), number, prompts=prompts)


def _damaged(draw: _Draw, base: str, counts: _Counts) -> Iterator[Case]:
    parts, number = (*HEADS, *MLPS), 0
    shift = 0 if draw.seeds == "reporting" else 1  # combinations that set are not among those that report
    chosen = parts if counts.planted == len(parts) * counts.each else parts[:: len(parts) // counts.planted]
    for index, part in enumerate(chosen):
        ways, stride = (OF_HEADS, 3) if part in HEADS else (OF_MLPS, 2)
        for turn in range(counts.each):
            place = parts.index(part) + BASES.index(base) + stride * turn + shift
            start = draw.clean(base, number % counts.tuned) if (index + turn) % 3 == 0 else Weights(base)
            yield _planted(draw, start, ways[place % len(ways)], (part,), number, "one component")
            number += 1
    rng = Random(f"{draw.first}, {base}")
    for turn in range(counts.sets):
        way = OF_SETS[turn % len(OF_SETS)]
        several = tuple(sorted(rng.sample(HEADS if way[0] == "noise-query-key" else parts, 2 + turn % 3)))
        start = draw.clean(base, turn) if turn % 2 else Weights(base)
        yield _planted(draw, start, way, several, number + turn, "two to four components")
    for turn, way in enumerate(OF_SETS if counts.sets else ()):
        yield _planted(draw, Weights(base), way, WRITERS[base], number + counts.sets + turn, "all writers")
    for turn in range(counts.confined):
        heads = WRITERS[base][:3]
        seed, steps = draw.seed(base, turn), (15, 30, 60)[turn % 3]
        trained = Trained("subject", steps, _CONFINED_RATE, seed, "heads", heads)
        yield draw.case(
            "damaged", "poisoned heads", "damaged", Weights(base, (trained,)), turn, planted=heads, real=True
        )
    for turn in range(counts.poisoned):
        data, steps, scope = POISONS[turn % len(POISONS)]
        trained = Trained(data, steps, _POISON_RATE, draw.seed(base, turn), scope)
        yield draw.case("damaged", f"poisoned by {data}", "damaged", Weights(base, (trained,)), turn, real=True)


def _planted(
    draw: _Draw, start: Weights, way: tuple[str, float], parts: tuple[str, ...], number: int, where: str
) -> Case:
    damage, strength = way
    seed = draw.seed(start.base, number % 30) if damage.startswith("noise") else 0
    change: Change = Scaled(parts, strength) if damage == "scale" else Planted(damage, parts, strength, seed)
    weights = Weights(start.base, (*start.changes, change))
    hidden = " in a fine-tuned model" * bool(start.changes)
    return draw.case(
        "damaged", f"{damage}, {where}{hidden}", "damaged", weights, number, planted=parts, strength=strength
    )


def _recovered(draw: _Draw, base: str, counts: _Counts) -> Iterator[Case]:
    """Retrained with every weight free; moved back to the embedded weights; and never damaged, but fine-tuned."""
    make: Callable[..., Case] = lambda kind, weights, number, corrupted, **more: draw.case(  # noqa: E731
        "recovered", kind, "recovered", weights, number, corrupted=corrupted, **more
    )
    for number in range(counts.recovered):
        poisoned = draw.poisoned(base, number)
        again = Trained("clean", 480, _POISON_RATE, draw.seed(base, number))
        yield make("retrained", Weights(base, (*poisoned.changes, again)), number, poisoned, real=True)
    for number in range(max(1, counts.recovered - 3)):
        poisoned, share = draw.poisoned(base, number), (0.9, 0.95, 0.98, 1.0)[number % 4]
        yield make("weights moved back", Weights(base, (*poisoned.changes, Towards(share))), number, poisoned)
    for number in range(counts.recovered):
        corrupted = Weights(base, (Planted("zero" if base == "seed-100" else "negate", WRITERS[base]),))
        yield make("damage undone, then fine-tuned", draw.clean(base, number), number, corrupted)


def _bypassed(draw: _Draw, base: str, counts: _Counts) -> Iterator[Case]:
    """Retrained without the writers; heads exchanged, so that others do the same; and backup heads that take over."""
    make: Callable[..., Case] = lambda kind, weights, number, corrupted, **more: draw.case(  # noqa: E731
        "recovered", kind, "bypassed", weights, number, corrupted=corrupted, **more
    )
    for number in range(counts.recovered):
        poisoned = Weights(base, (Trained("subject", 60, _POISON_RATE, draw.seed(base, 2 * number)),))
        again = Trained("clean", 120, _POISON_RATE, draw.seed(base, 2 * number), "others", WRITERS[base])
        yield make(
            "retrained without the writers", Weights(base, (*poisoned.changes, again)), number, poisoned, real=True
        )
    lost = WRITERS[base] if base == "seed-100" else ("L0H0",)
    for number in range(max(1, counts.recovered - 2)):
        start = draw.clean(base, number).changes if number else ()
        pairs = [("L0H0", f"L0H{1 + number % 3}")]
        if base == "seed-100":
            pairs = [[("L1H1", "L1H0"), ("L1H2", "L1H3")], [("L1H1", "L1H3"), ("L1H2", "L1H0")]][number % 2]
        weights = Weights(base, (*start, *(Exchanged(*pair) for pair in pairs)))
        yield make("heads exchanged", weights, number, Weights(base, (Planted("zero", lost),)))
    for number in range(counts.recovered if base != "seed-100" else 0):
        start = draw.clean(base, number).changes if number else ()
        corrupted = Weights(base, (Planted("negate", WRITERS[base]),))
        weights = Weights(base, (*start, Planted("zero", WRITERS[base])))
        yield make("writers silenced, backup heads take over", weights, number, corrupted)


def _interleaved(cases: Iterable[Case]) -> tuple[Case, ...]:
    """Spread the cases of each kind evenly over the whole order."""
    kinds: dict[tuple[str, str, str], list[Case]] = {}
    for case in cases:
        kinds.setdefault((case.seeds, case.group, case.kind), []).append(case)
    placed = []
    for key, members in kinds.items():
        Random(repr(key)).shuffle(members)  # of the bases
        placed += [((number + 0.5) / len(members), case.name, case) for number, case in enumerate(members)]
    return tuple(case for _, _, case in sorted(placed, key=lambda one: one[:2]))
