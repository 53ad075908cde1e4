"""Areas over circuit sizes are what ranking and ablating with hooks on raw modules gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from auditing import Audited, ioi
from circuit_cases import EVERYONE, Array, Both
from hypothesis import given
from hypothesis import strategies as st
from naive_patching import exact_softmax
from reference_model import CAST, build_reference_model
from tiny_models import save_tiny

from circuit_assertions.engine import passes
from circuit_assertions.heads import Head
from circuit_assertions.measures.kinds.curves import sizes
from circuit_assertions.tasks.words import TEMPLATES

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


family = pytest.mark.family(main="both", whole=("gpt2",), turns=("ablation", "ranked_by", "measure"))


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(save_tiny(tmp_path_factory.mktemp("model"), request.param))


def ranked(both: Both, ranked_by: str) -> list[Head]:
    effects = {}
    with exact_softmax():
        for head in EVERYONE:
            sender = ("head", head.layer, head.head)
            patching = both.slow.patching
            effect = (
                patching.total(sender) if ranked_by == "total-effect" else patching.to_logits(sender, "through-mlps")
            )
            effects[head] = abs(float(effect.mean()))
    return sorted(EVERYONE, key=lambda head: -effects[head])


def performance(both: Both, ranking: list[Head], ablation: str) -> Array:
    """f at every share of the heads, sizes rounded up."""
    nothing, whole = both.slow.alone((), ablation).mean(), both.slow.whole.mean()
    kept = [both.slow.alone(ranking[: int(np.ceil(share * len(ranking)))], ablation).mean() for share in SHARES]
    reached: Array = (np.array(kept) - nothing) / (whole - nothing)
    return reached


@family
@pytest.mark.parametrize("ablation", ["mean", "resample", "zero"])
@pytest.mark.parametrize("ranked_by", ["path-effect", "total-effect"])
def test_areas_over_the_strongest_heads(both: Both, ablation: str, ranked_by: str) -> None:
    ranking = ranked(both, ranked_by)
    reached = performance(both, ranking, ablation)
    ratio = both.read("circuit-performance-ratio", ablation=ablation, ranked_by=ranked_by)
    distance = both.read("circuit-model-distance", ablation=ablation, ranked_by=ranked_by)
    assert ratio.settings["found"]["ranking"] == ", ".join(str(head) for head in ranking)
    assert ratio.mean == pytest.approx(np.trapezoid(reached, SHARES), rel=1e-8)
    assert distance.mean == pytest.approx(np.trapezoid(abs(1 - reached), SHARES), rel=1e-8)


@family
@pytest.mark.parametrize("measure", ["circuit-performance-ratio", "circuit-model-distance"])
def test_the_benchmarks_choices_are_the_defaults(both: Both, measure: str) -> None:
    assert both.read(measure).settings["operands"] == {"ablation": "resample", "ranked-by": "path-effect"}


@family
@pytest.mark.parametrize("measure", ["circuit-performance-ratio", "circuit-model-distance"])
def test_random_rankings_stand_beside(both: Both, measure: str) -> None:
    own, over = both.read(measure), both.read(f"{measure}-over-random")
    random = over.beside["random rankings"]
    np.testing.assert_allclose(over.beside["this ranking"], own.values)
    np.testing.assert_allclose(over.values, own.values - random)
    areas = [area_of(both, measure, [*EVERYONE[start:], *EVERYONE[:start]]) for start in range(len(EVERYONE))]
    assert abs(random.mean() - np.mean(areas)) < 3 * np.std(areas)  # what rankings without any knowledge give


def area_of(both: Both, measure: str, ranking: list[Head]) -> float:
    reached = performance(both, ranking, "resample")
    return float(np.trapezoid(reached if "ratio" in measure else abs(1 - reached), SHARES))


@family
def test_heads_are_ranked_on_one_half_of_the_prompts_and_read_on_the_other(both: Both) -> None:
    assert Both(both.folder, ioi(prompts=36, templates=[TEMPLATES[12]])).read("circuit-model-distance").prompts == 18


@family
def test_the_batch_size_changes_nothing(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    task = ioi(prompts=12, templates=[TEMPLATES[0], TEMPLATES[12]])
    with exact_softmax():
        together = Audited(both.folder, "float64").read("circuit-model-distance-over-random", task)
        monkeypatch.setattr(passes, "_batch_size", lambda *_: 1)
        alone = Audited(both.folder, "float64").read("circuit-model-distance-over-random", task)
    assert alone.settings["found"] == together.settings["found"]
    np.testing.assert_allclose(alone.values, together.values, rtol=0, atol=1e-9 * np.abs(together.values).max())


@pytest.mark.complete
def test_the_cast_comes_first_and_does_more_than_random_heads(tmp_path: Path) -> None:
    reference = Audited(build_reference_model().save(tmp_path / "reference"))
    task = ioi(prompts=8, templates=[TEMPLATES[0]])
    reading = reference.read("circuit-performance-ratio-over-random", task, **{"ranked-by": "total-effect"})
    cast = {str(Head(*head)) for role, heads in CAST.items() if role != "backup-name-mover" for head in heads}
    assert set(reading.settings["found"]["ranking"].split(", ")[: len(cast)]) == cast
    assert reading >= 0.1


@given(heads=st.integers(1, 2000))
def test_sizes_are_shares_of_the_heads_rounded_up(heads: int) -> None:
    found = sizes(heads)
    assert found[-1] == heads
    assert found == sorted(found)
    assert all(
        size - 1 < share * heads + 1e-9 and size > share * heads - 1e-9
        for size, share in zip(found, SHARES, strict=True)
    )
