"""Damage in memory: the same as to Hugging Face's own modules, in every block shape, and undone to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from checkpoint_files import hashes
from further_cases import CASES
from grafting_cases import Two, answers, opened
from naive_damage import damage
from naive_patching import exact_softmax
from patching_cases import LAYERS
from reference_model import word_tokenizer
from test_grafting import OTHERS, state
from tiny_models import ARCHITECTURES, random_model
from torch import Tensor

from circuit_assertions.components import Mlp
from circuit_assertions.engine import Model, open_patching
from circuit_assertions.engine.damaging import DAMAGES, CannotDamageError, Noise, Replaced, damaged, damages_of
from circuit_assertions.heads import Head
from circuit_assertions.mutation.kinds import KINDS, Kind, Mutant, mutants_of

STRENGTH, SEED = 1.5, 7
# What rounds to float32 whatever the model's dtype: RMSNorm, and rotations.
_BOUND = dict.fromkeys(("llama", "qwen3", "gemma2", *OTHERS), 1e-6)
MUTANTS: list[tuple[str, tuple[Head | Mlp, ...]]] = [
    ("negate", (Head(1, 2),)),
    ("zero", (Head(0, 3),)),
    ("noise", (Head(2, 1),)),
    ("noise-query-key", (Head(1, 0),)),
    ("noise-query-key", (Head(0, 3),)),
    ("swap", (Head(1, 0), Head(1, 3))),
    ("swap", (Head(0, 1), Head(2, 2))),
    ("zero-mlp", (Mlp(1),)),
    ("noise-mlp", (Mlp(0),)),
    ("round", ()),
]

family = pytest.mark.family(main="two", whole=("gpt2", "bloom"), turns=("mutant",))


@pytest.fixture(scope="module", params=[*ARCHITECTURES, *OTHERS])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Two:
    return Two(request.param, tmp_path_factory.mktemp("models"))


def named(kind: str, components: Sequence[Head | Mlp]) -> str:
    return str(Mutant(KINDS[kind], tuple(components)))


def replaced(model: Model, kind: str, components: Sequence[Head | Mlp], seed: int = SEED) -> list[Replaced]:
    return damages_of(model.layout, kind, components, Noise(STRENGTH, seed, named(kind, components)))


@torch.no_grad()
def logits(model: Model, two: Two) -> Tensor:
    tokens = torch.tensor([prompt.tokens for prompt in two.prompts.prompts])
    found: Tensor = model.bridge(tokens)[:, -1]
    return found


def test_every_kind_of_mutant_is_a_kind_of_damage() -> None:
    assert list(DAMAGES) == list(KINDS)


@family
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: named(*mutant))
def test_it_is_the_same_as_in_the_files(two: Two, mutant: tuple[str, tuple[Head | Mlp, ...]]) -> None:
    model, raw = two.models[0], two.raw(0)
    kind, components = mutant
    before = state(model)
    with exact_softmax():
        healthy = answers(raw, two.prompts)
        damage(raw, kind, components, STRENGTH, SEED, named(kind, components))
        expected = answers(raw, two.prompts)
        with damaged(replaced(model, kind, components)) as differs:
            shown = logits(model, two)
            patching = open_patching(model, two.prompts.prompts)
            base = patching.base.final[torch.arange(len(shown)), [len(p.tokens) - 1 for p in two.prompts.prompts]]
            by_arithmetic = model.readout.difference(base, two.prompts.prompts)
    assert differs
    assert float((expected - healthy).abs().max()) > 1e-4
    rows = torch.arange(len(shown))
    right, wrong = (torch.tensor([getattr(p, side).token for p in two.prompts.prompts]) for side in ("right", "wrong"))
    bound = _BOUND.get(two.name, 1e-10)
    torch.testing.assert_close(shown[rows, right] - shown[rows, wrong], expected, rtol=0, atol=bound)
    torch.testing.assert_close(by_arithmetic, expected, rtol=0, atol=bound)
    assert state(model) == before


@family
def test_a_control_changes_weights_and_not_what_they_compute(two: Two) -> None:
    model = two.models[0]
    share = model.layout.heads // model.layout.groups(1)
    heads = (
        tuple(Head(1, share + number) for number in range(share)) if share < 4 else tuple(model.layout.all_heads())[4:8]
    )
    before, weights = logits(model, two), state(model)
    scale = float(before.max() - before.min())
    with damaged(replaced(model, "rescale", heads)) as differs:
        assert differs
        raw = two.raw(0)
        damage(raw, "rescale", heads, STRENGTH, SEED, "")
        # Exact but for what rounds by itself: a power of two.
        assert torch.allclose(logits(model, two), before, rtol=0, atol=1e-12 * scale)
    with exact_softmax():
        torch.testing.assert_close(
            answers(raw, two.prompts), answers(two.raw(0), two.prompts), rtol=0, atol=_BOUND.get(two.name, 1e-10)
        )
    with damaged(replaced(model, "nudge", ())) as differs:
        assert differs
        apart = float((logits(model, two) - before).abs().max())
    assert 0 < apart < 1e-3 * scale
    assert state(model) == weights


def test_a_nudge_is_a_millionth_of_each_weight(two: Two) -> None:
    model = two.models[0]
    before = {name: weight.detach().clone() for name, weight in model.bridge.named_parameters()}
    with damaged(replaced(model, "nudge", ())):
        for name, weight in model.bridge.named_parameters():
            assert float(((weight.detach() - before[name]).abs() - 1e-6 * before[name].abs()).max()) <= 1e-14, name


def test_nothing_is_left_behind_where_measuring_fails(two: Two) -> None:
    model = two.models[0]
    before = state(model)
    for kind, components in MUTANTS:

        def fail(kind: str = kind, components: tuple[Head | Mlp, ...] = components) -> None:
            with damaged(replaced(model, kind, components)):
                assert state(model) != before
                raise MemoryError

        with pytest.raises(MemoryError):
            fail()
        assert state(model) == before, kind


def test_a_seed_has_its_own_noise_in_every_dtype(two: Two) -> None:
    model = two.models[0]

    def noisy(seed: int) -> Tensor:
        with damaged(replaced(model, "noise", (Head(1, 1),), seed)):
            return logits(model, two)

    assert torch.equal(noisy(0), noisy(0))
    assert not torch.equal(noisy(0), noisy(1))


@pytest.fixture(scope="module")
def latent(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder: Path = tmp_path_factory.mktemp("latent")
    words = word_tokenizer()
    random_model(CASES["deepseek 3, latent attention"](len(words))).save_pretrained(folder)
    words.save_pretrained(folder)
    before = hashes(folder)
    model = opened(folder)
    assert hashes(folder) == before
    return model


def test_latent_attention_is_damaged_where_a_head_has_weights_of_its_own(latent: Model) -> None:
    before = state(latent)
    for kind, components in MUTANTS:
        if kind != "noise-query-key":
            with damaged(replaced(latent, kind, components)) as differs:
                assert differs, kind
    for kind in ("noise-query-key", "rescale"):
        with pytest.raises(CannotDamageError, match=r"\bqueries\b.*\bkeys\b.*\bvalues\b"):
            replaced(latent, kind, (Head(1, 0),))
    assert state(latent) == before


def test_a_head_without_output_has_nothing_to_lose(two: Two) -> None:
    model = two.models[0]
    with damaged(replaced(model, "zero", (Head(1, 1),))):
        for kind in ("negate", "zero", "noise"):
            with damaged(replaced(model, kind, (Head(1, 1),))) as differs:
                assert not differs or kind == "negate"  # -0 has another bit than 0


# -- which mutants there are ------------------------------------------------------------------------------------------


def test_every_head_mlp_and_group_has_its_mutants_in_order() -> None:
    heads = [Head(0, 1), Head(2, 0), Head(2, 1), Head(2, 3)]
    names = [str(one) for one in mutants_of(heads, LAYERS, lambda layer: 2)]
    assert len(set(names)) == len(names)
    for kind in ("negate", "zero", "noise", "noise-query-key"):
        assert [name for name in names if name.partition(" ")[0] == kind] == [f"{kind} {head}" for head in heads]
    assert [name for name in names if name.startswith("swap")] == [
        "swap L0H1,L2H0",  # the only one of its layer
        "swap L2H0,L2H1",
        "swap L2H0,L2H3",
        "swap L2H1,L2H3",
    ]
    assert [name for name in names if name.startswith("zero-mlp")] == [
        "zero-mlp MLP0",
        "zero-mlp MLP1",
        "zero-mlp MLP2",
    ]
    assert [name for name in names if name.startswith("rescale")] == [
        "rescale L0H0,L0H1",
        "rescale L2H0,L2H1",
        "rescale L2H2,L2H3",
    ]
    assert [name for name in names if name.partition(" ")[0] in ("round", "nudge")] == [
        "round",
        *(f"nudge {draw}" for draw in (1, 2, 3)),
    ]


def test_only_some_kinds_and_no_heads() -> None:
    assert [str(one) for one in mutants_of([Head(1, 1)], 1, lambda layer: 1, only=["swap", "zero"])] == ["zero L1H1"]
    assert {one.kind.of for one in mutants_of([], 2, lambda layer: 1)} == {"mlp", "model"}


def test_damage_and_controls_are_distinguished() -> None:
    kinds: list[Kind] = list(KINDS.values())
    assert [kind.name for kind in kinds if not kind.damage] == ["round", "nudge", "rescale"]
    assert [kind.name for kind in kinds if kind.exact] == ["rescale"]
