"""What a diagnosis reckons with: halves, shares with intervals, estimates to first order; and it changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from auditing import Audited, ioi
from diagnosis_cases import Side, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from circuit_assertions.components import Mlp
from circuit_assertions.diagnosis.expression import find_expression
from circuit_assertions.diagnosis.origin import find_origin
from circuit_assertions.engine import Model, grafting, two_models
from circuit_assertions.engine.grafting import Grafting
from circuit_assertions.engine.slopes import slopes
from circuit_assertions.engine.transplanting import Transplanting
from circuit_assertions.heads import Head
from circuit_assertions.measures.figures import Figure, share_of
from circuit_assertions.tasks import Prompt, PromptSet

STEP = 1e-5  # of a weight's spread: what is left of second order is as small beside what is of first


@given(st.lists(st.sampled_from(["ABBA/0", "BABA/0", "ABBA/1", "BABA/1"]), min_size=2, max_size=60))
@settings(deadline=None)
def test_every_part_knows_every_template(templates: list[str]) -> None:
    prompts = PromptSet(
        tuple(Prompt((number,), "", {"end": 0}, template=name) for number, name in enumerate(templates))
    )
    for parts in (prompts.halves(), prompts.shared_out(3)):
        assert sorted(sum(parts, ())) == list(range(len(templates)))
        for name in set(templates):
            counts = [sum(templates[row] == name for row in part) for part in parts]
            assert max(counts) - min(counts) <= 1


def test_intervals_of_shares_cover_the_true_share() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        whole = rng.normal(6.0, 2.0, 64)
        part = 0.4 * whole + rng.normal(0.0, 1.0, 64)
        low, high = Figure.of_values(share_of(part, whole)).interval
        covered += low <= 0.4 <= high
    assert 0.91 <= covered / 400 <= 0.98


@pytest.fixture(scope="module")
def near(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model, PromptSet]:
    """A random model in float64, one whose weights are a little other, and what both are asked."""
    folder = tmp_path_factory.mktemp("near") / "other"
    folder.mkdir()
    for file in tiny_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    generator = torch.Generator().manual_seed(0)
    weights = {name: weight.double() for name, weight in load_file(folder / "model.safetensors").items()}
    moved = {name: weight + STEP * torch.randn(weight.shape, generator=generator) for name, weight in weights.items()}
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
    one, other = Audited(tiny_folder, "float64"), Audited(folder, "float64")
    prompts = one.audit.prompts(ioi(prompts=8), one.checkpoint)
    return one.audit.model(one.checkpoint), other.audit.model(other.checkpoint), prompts


def test_slopes_are_what_small_grafts_and_transplants_do(near: tuple[Model, Model, PromptSet]) -> None:
    into, source, prompts = near
    graft = Grafting(into, source, prompts)
    plain = graft.difference().mean()
    exact = {part: float(graft.difference([part]).mean() - plain) for part in graft.parts}
    assert max(map(abs, exact.values())) > STEP
    assert slopes(into, source, prompts, graft.parts) == pytest.approx(exact, rel=1e-2, abs=1e-2 * STEP)
    both = Transplanting(into, source, prompts)
    outputs, patterns = both.slopes().outputs, both.slopes().patterns
    assert set(outputs) == {*into.layout.all_heads(), *(Mlp(layer) for layer in range(into.layout.layers))}
    transplanted = both.outputs([[one] for one in outputs]).mean(1).tolist()
    assert list(outputs.values()) == pytest.approx(transplanted, rel=1e-2, abs=1e-2 * STEP)
    looked = both.patterns(list(patterns)).mean(1).tolist()
    assert list(patterns.values()) == pytest.approx(looked, rel=1e-2, abs=1e-2 * STEP)


def state(model: Model) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.layout.bridge.named_parameters()}


@pytest.mark.complete
def test_size_of_batches_changes_no_figure_and_neither_model_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    side = Side()
    prompts = side.prompts(ioi(prompts=20))
    model = side.put(damaged([("negate", (Head(1, 3),))], start="poisoned-heads"))
    before = state(model), state(side.healthy)
    learning = [weight.requires_grad for weight in model.layout.bridge.parameters()]
    found = []
    for together in (64, 4):
        monkeypatch.setattr(grafting, "_TOGETHER", together)
        monkeypatch.setattr(two_models, "_TOGETHER", together)
        lost = Grafting(side.healthy, model, prompts).difference() - Grafting(model, side.healthy, prompts).difference()
        expressed = find_expression(model, side.healthy, prompts, lost.numpy())
        found.append((find_origin(model, side.healthy, prompts), expressed))
    (origin, expression), (other, again) = found
    assert [healing.parts for healing in origin.curve] == [healing.parts for healing in other.curve]
    assert origin.found is not None
    assert other.found is not None
    assert origin.found.values == pytest.approx(other.found.values, abs=1e-4)
    assert expression.through == again.through
    assert expression.healed.mean == pytest.approx(again.healed.mean, abs=1e-4)
    for then, now in zip(before, (state(model), state(side.healthy)), strict=True):
        assert all(torch.equal(weight, now[name]) for name, weight in then.items())
    assert [weight.requires_grad for weight in model.layout.bridge.parameters()] == learning
    assert all(weight.grad is None for weight in model.layout.bridge.parameters())
