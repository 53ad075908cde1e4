"""The origin of planted damage is named, whole and alone; a fault in the way of another does not hide it."""

from __future__ import annotations

from random import Random

import pytest
from auditing import ioi, repeated
from diagnosis_cases import Damaged, Side, damaged, raw, raw_difference

from circuit_assertions.components import Mlp
from circuit_assertions.diagnosis.origin import Origin, find_origin
from circuit_assertions.heads import Head

ASKED = ioi(prompts=32, seed=7)
HEADS = [Head(layer, head) for layer in range(5) for head in range(4)]
SOME = (1, 2, 3, 9, 10)  # seeds that draw each kind of damage once, and among them an MLP
KINDS = ("zero", "negate", "noise", "swap", "noise-query-key")


@pytest.fixture(scope="module")
def side() -> Side:
    return Side()


def drawn(seed: int) -> list[Damaged]:
    """Damage of one kind to one to three heads (two for a swap) or to an MLP."""
    rng = Random(seed)
    kind = KINDS[seed % len(KINDS)]
    if kind in ("zero", "negate", "noise") and rng.random() < 0.25:
        return [(kind, (Mlp(rng.randrange(5)),))]
    return [(kind, tuple(rng.sample(HEADS, 2 if kind == "swap" else rng.randint(1, 3))))]


def alone(damages: list[Damaged]) -> list[list[Damaged]]:
    """Each damage to each component alone; a swap's two halves cannot be told apart, and stay together."""
    return [
        [(kind, each)]
        for kind, components in damages
        for each in ([components] if kind == "swap" else [(component,) for component in components])
    ]


def check(side: Side, damages: list[Damaged], seed: int = 0, start: str = "healthy") -> Origin:
    """Every component whose damage costs a tenth is named, and none that was not planted."""
    prompts = side.prompts(ASKED)
    model = damaged(damages, seed, start)
    healthy = raw_difference(raw(), prompts)
    origin = find_origin(side.put(model), side.healthy, prompts)
    named = set(origin.found.parts) if origin.found else set()
    planted = {component for _, components in damages for component in components}
    assert named <= planted
    lost = 1 - raw_difference(model, prompts) / healthy
    if lost < 0.1:
        assert origin.verdict == "UNCHANGED"
        return origin
    for each in alone(damages):
        if raw_difference(damaged(each, seed), prompts) <= 0.9 * healthy:
            dear = {component for _, components in each for component in components}
            assert dear & named if each[0][0] == "swap" else dear <= named, (each, named)
    assert origin.verdict == "LOCALIZED"
    return origin


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.complete] * (seed not in SOME)) for seed in range(15)]
)
def test_planted_damage_is_named_whole_and_alone(side: Side, seed: int) -> None:
    origin = check(side, drawn(seed), seed)
    assert set(origin.changed) == {component for _, components in drawn(seed) for component in components}


@pytest.mark.parametrize(
    "damages",
    [
        # Slopes say that mending this does harm, for so large is the damage.
        [("negate", (Head(2, 0), Mlp(0)))],
        *(
            pytest.param(damages, marks=pytest.mark.complete)
            for damages in (
                [("negate", (Head(3, 0), Head(3, 1), Head(3, 3)))],
                [("noise", (Mlp(0),))],
                [("swap", (Head(3, 2), Head(1, 2)))],  # costs little more than what fine-tuning moves
                [("zero", (Head(0, 0),)), ("negate", (Head(3, 0), Head(3, 1)))],
                [("noise-query-key", (Head(1, 3), Head(2, 1), Head(3, 0)))],
                [("negate", (Head(3, 3), Head(4, 2))), ("zero", (Head(0, 0),))],  # mending seems to do harm, as above
            )
        ),
    ],
    ids=str,
)
@pytest.mark.complete
def test_it_is_named_among_the_small_changes_of_fine_tuning(side: Side, damages: list[Damaged]) -> None:
    origin = check(side, damages, start="benign")
    assert len(origin.changed) == origin.parts


@pytest.mark.complete
def test_what_only_the_search_can_do_without_is_put_back(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    damages: list[Damaged] = [("zero", (Head(2, 0), Mlp(1))), ("negate", (Head(1, 0),))]
    check(side, damages)
    monkeypatch.setattr("circuit_assertions.diagnosis.origin._put_back", lambda *_: [])
    with pytest.raises(AssertionError):
        check(side, damages)


@pytest.mark.parametrize(
    ("seed", "damages"),
    [
        (9067, [("noise", (Mlp(4),))]),
        pytest.param(9035, [("noise", (Head(3, 1),)), ("negate", (Head(1, 0),))], marks=pytest.mark.complete),
        pytest.param(9078, [("zero", (Mlp(4), Head(1, 0))), ("noise", (Head(4, 0),))], marks=pytest.mark.complete),
    ],
)
@pytest.mark.complete
def test_what_is_put_back_among_small_changes_is_at_fault(side: Side, seed: int, damages: list[Damaged]) -> None:
    """On so few prompts the two halves differ, and an innocent part can lift a set over the bound."""
    origin = find_origin(
        side.put(damaged(damages, seed, "benign")), side.healthy, side.prompts(ioi(prompts=16, seed=9))
    )
    planted = {component for _, components in damages for component in components}
    assert origin.found is not None
    assert set(origin.found.parts) <= planted


def test_a_layer_of_four_heads_is_few(side: Side) -> None:
    """The induction heads of the smallest committed model are one layer of it, and a tenth of its parts is less."""
    layer = tuple(Head(3, head) for head in range(4))
    origin = find_origin(side.put(raw("bypassed")), side.healthy, side.prompts(repeated(prompts=32, length=12)))
    assert origin.found is not None
    assert origin.found.parts == layer
    assert len(layer) > 0.1 * origin.parts
    assert origin.verdict == "LOCALIZED"


@pytest.mark.complete  # test_diagnosis_verdicts.py has it in a whole diagnosis
def test_a_poisoned_model_is_diffuse(side: Side) -> None:
    origin = find_origin(side.put(raw("poisoned")), side.healthy, side.prompts(ASKED))
    assert origin.verdict == "DIFFUSE"
    assert len(origin.changed) == origin.parts
