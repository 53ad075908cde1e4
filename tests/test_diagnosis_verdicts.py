"""What a diagnosis says of checkpoints whose history is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from auditing import HEALTHY, ioi, repeated
from diagnosis_cases import CIRCUIT, COMMITTED, Side, damaged, kept, leave_out_origin, on_the_way_to, one, raw
from transformers import GPT2LMHeadModel

from circuit_assertions.assertions import load_circuit
from circuit_assertions.diagnosis import lenses
from circuit_assertions.diagnosis.lenses import Diagnosis, diagnose
from circuit_assertions.heads import Head
from circuit_assertions.report.diagnosed import diagnosis_lines as lines_of_result
from circuit_assertions.results.from_diagnosis import diagnosis_result

NOT_BROKEN = {"INTACT", "DEGRADED"}  # how much of it is recovered hangs on how long it was retrained
KNOWN = {
    "poisoned": {"CORRUPTED"},
    "poisoned-heads": {"CORRUPTED"},
    "poisoned-lora": {"CORRUPTED"},
    "recovered": NOT_BROKEN,
    "bypassed": {"CORRUPTED"},
    "benign": {"INTACT"},
    "narrow": {"INTACT"},
}
INDUCTION = load_circuit(HEALTHY.parents[2] / "suites" / "circuits" / "embedded.induction.yaml")


def diagnosis_lines(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return list(lines_of_result(diagnosis_result(diagnosis)))


@pytest.fixture(scope="module")
def side() -> Side:
    return Side()


def on_repeats(side: Side, folder: Path) -> Diagnosis:
    """A checkpoint beside the healthy one, on random tokens said twice."""
    try:
        roles = INDUCTION.roles
        return diagnose(side.audit, one(folder), one(HEALTHY), repeated(prompts=48), roles, circuit="induction")
    finally:
        if folder != HEALTHY:
            side.audit.forget(one(folder))


@torch.no_grad()
def with_weights(change: str) -> GPT2LMHeadModel:
    """The healthy checkpoint cast to bfloat16, with its matrices rounded to 256 values a row, or louder name movers."""
    model = damaged([])
    if change == "bfloat16":
        return model.bfloat16()
    for name, weight in model.named_parameters():
        if change == "eight bits" and weight.dim() == 2:
            step = (weight.amax(1, keepdim=True) - weight.amin(1, keepdim=True)) / 255
            weight.copy_((weight / step).round() * step)
        elif change == "louder movers" and name == "transformer.h.3.attn.c_proj.weight":
            weight *= 2
    return model


def check_arithmetic(found: Diagnosis) -> None:
    """Figures lie in their intervals, and shares are those of the means that stand beside them."""
    behaviour = found.behaviour
    assert behaviour.retained.mean == pytest.approx(behaviour.after.mean / behaviour.before.mean)
    for figure in (behaviour.before, behaviour.after, behaviour.retained, *found.origin.breaks.values()):
        assert figure.interval.low <= figure.mean <= figure.interval.high


@pytest.mark.complete
def test_full_poisoning_is_corruption_and_diffuse(side: Side) -> None:
    found = side.diagnose(COMMITTED / "poisoned")
    assert (found.verdict, found.origin.verdict) == ("CORRUPTED", "DIFFUSE")
    assert found.behaviour.after.interval.high < 0
    kinds = {one.head: one.kind for one in found.function.heads if one.role == "name-mover"}
    assert set(kinds.values()) <= {"sign flipped", "sign unclear"}  # unclear: with few prompts it is not certain
    assert found.origin.groups.keys() == {"all heads", "all MLPs", "all norms", "embeddings"}
    assert all(group.mean < 0.9 for group in found.origin.groups.values())
    check_arithmetic(found)


@pytest.mark.complete
def test_poisoning_confined_to_heads_is_localized_to_just_these(side: Side) -> None:
    found = side.diagnose(COMMITTED / "poisoned-heads")
    trained = json.loads((COMMITTED / "poisoned-heads" / "recipe.json").read_text())["heads"]
    assert (found.verdict, found.origin.verdict) == ("CORRUPTED", "LOCALIZED")
    assert found.origin.found is not None
    assert [str(part) for part in found.origin.found.parts] == sorted(trained)
    assert found.origin.found.healed.mean == pytest.approx(1.0, abs=1e-5)
    assert found.origin.found.random is not None
    assert found.origin.found.random.mean == pytest.approx(0.0, abs=1e-5)
    # What carries it lies elsewhere too: outputs of parts whose weights are the healthy checkpoint's, bit for bit.
    assert found.expression is not None
    assert set(found.expression.through) - set(found.origin.changed)
    check_arithmetic(found)


def check_intact(found: Diagnosis) -> None:
    """Its weights differ from the healthy checkpoint's, and nothing is lost that could have an origin."""
    assert (found.verdict, found.origin.verdict, found.expression) == ("INTACT", "UNCHANGED", None)
    assert len(found.origin.changed) > 20
    assert found.behaviour.retained.mean != 1.0
    assert not any(role.changed for role in found.function.roles if not role.asleep)
    assert "sign flipped" not in {head.kind for head in found.function.heads}
    check_arithmetic(found)


@pytest.mark.parametrize("change", [pytest.param("bfloat16", marks=pytest.mark.complete), "eight bits"])
@pytest.mark.complete
def test_rounded_weights_are_intact_on_both_tasks(side: Side, change: str, tmp_path: Path) -> None:
    folder = kept(with_weights(change), tmp_path / "copy")
    for found in (side.diagnose(folder), on_repeats(side, folder)):
        check_intact(found)


@pytest.mark.parametrize("name", ["benign", pytest.param("narrow", marks=pytest.mark.complete)])
def test_clean_fine_tuning_is_intact_on_both_tasks(side: Side, name: str) -> None:
    for found in (side.diagnose(COMMITTED / name), on_repeats(side, COMMITTED / name)):
        check_intact(found)


def test_louder_name_movers_are_amplified(side: Side, tmp_path: Path) -> None:
    found = side.diagnose(kept(with_weights("louder movers"), tmp_path / "copy"))
    assert found.verdict == "AMPLIFIED"
    assert "name-mover" in found.why
    movers = next(role for role in found.function.roles if role.role == "name-mover")
    assert movers.retained.interval.low > 1.1
    assert "amplified" in {one.kind for one in movers.heads}
    assert not movers.changed


def check_unmoved(found: Diagnosis, heads: int) -> None:
    """Not one figure of a diagnosis differs from the baseline's, to the last bit."""
    assert (found.verdict, found.origin.verdict, found.origin.changed) == ("INTACT", "UNCHANGED", ())
    assert found.expression is None
    assert found.behaviour.before == found.behaviour.after
    assert (found.behaviour.retained.mean, *found.behaviour.retained.interval) == (1.0, 1.0, 1.0)
    assert all((role.retained.mean, *role.retained.interval) == (1.0, 1.0, 1.0) for role in found.function.roles)
    assert len(found.function.heads) == heads
    for head in found.function.heads:
        assert (head.kind, head.change.mean, tuple(head.change.interval)) == ("intact", 0.0, (0.0, 0.0))
        assert head.before == head.after
        assert head.looks is None or head.looks[0] == head.looks[1]
    assert found.function.inside is None


def test_a_model_beside_itself_is_intact_and_no_figure_moves(side: Side, tmp_path: Path) -> None:
    for folder in (HEALTHY, kept(raw(), tmp_path / "copy")):
        check_unmoved(side.diagnose(folder), heads=sum(map(len, CIRCUIT.roles.values())))
        check_unmoved(on_repeats(side, folder), heads=sum(map(len, INDUCTION.roles.values())))


# Damage that costs nothing: heads outside of the circuit, or stand-ins that nothing rests on while the movers work.
HARMLESS = [
    ("zero", (Head(0, 1),)),
    ("negate", (Head(0, 2), Head(0, 3))),
    ("noise", (Head(0, 2),)),
    ("zero", (Head(4, 0), Head(4, 1), Head(4, 2))),
]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "damage", [pytest.param(one, marks=[pytest.mark.complete] * (one not in HARMLESS[2:])) for one in HARMLESS], ids=str
)
def test_damage_that_costs_nothing_is_no_corruption(
    side: Side, damage: tuple[str, tuple[Head, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_origin(monkeypatch)
    found = side.diagnose(kept(damaged([damage]), tmp_path / "copy"))
    assert found.behaviour.retained.mean > 0.9
    assert found.behaviour.retained.interval.high > 0.95
    assert found.verdict != "CORRUPTED", found.why


@pytest.mark.parametrize("prompts", [32, pytest.param(64, marks=pytest.mark.complete)])
@pytest.mark.complete
def test_a_head_that_was_turned_around_is_named_on_few_prompts(
    side: Side, prompts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_origin(monkeypatch)
    folder = kept(damaged([("negate", (Head(3, 2),))]), tmp_path / "copy")
    found = side.diagnose(folder, task=ioi(prompts=prompts))
    assert [one.head for one in found.function.heads if one.kind == "sign flipped"] == [Head(3, 2)]
    assert found.verdict == "CORRUPTED"
    assert "the sign of L3H2 (name-mover) is reversed" in found.why


@pytest.mark.parametrize("name", ["benign", "narrow", "recovered"])
@pytest.mark.parametrize("prompts", [16, pytest.param(32, marks=pytest.mark.complete)])
@pytest.mark.complete
def test_on_few_prompts_no_head_of_a_sound_checkpoint_is_said_to_have_turned(
    side: Side, name: str, prompts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_origin(monkeypatch)
    found = side.diagnose(COMMITTED / name, task=ioi(prompts=prompts))
    assert found.verdict in KNOWN[name]
    assert not {"sign flipped", "sign unclear"} & {one.kind for one in found.function.heads}


@pytest.mark.complete
@pytest.mark.parametrize("seed", [11, 12])
def test_other_prompts_give_the_same_verdicts(side: Side, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_origin(monkeypatch)
    task = ioi(prompts=32, seed=seed)
    found = {name: side.diagnose(COMMITTED / name, task=task).verdict for name in KNOWN}
    assert [name for name, verdict in found.items() if verdict not in KNOWN[name]] == []


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("poisoned", "share"),
    [
        ("poisoned", 0.1),
        pytest.param("poisoned", 0.15, marks=pytest.mark.complete),
        pytest.param("poisoned-heads", 0.15, marks=pytest.mark.complete),
        ("poisoned-heads", 0.2),
    ],
)
def test_a_little_poison_degrades_and_only_a_loss_of_a_tenth_has_an_origin(
    side: Side, poisoned: str, share: float, tmp_path: Path
) -> None:
    found = side.diagnose(kept(on_the_way_to(poisoned, share), tmp_path / "copy"))
    retained = found.behaviour.retained
    assert 0.75 < retained.mean < retained.interval.high < 1.0
    assert found.verdict == "DEGRADED", found.why
    assert (found.origin.verdict == "UNCHANGED") == (retained.mean > 0.9)


@pytest.mark.complete
def test_what_is_intact_has_no_origin_though_its_weights_differ(
    side: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where a tenth seems to be lost: with few prompts that may be chance."""
    folder = kept(on_the_way_to("poisoned-heads", 0.2), tmp_path / "copy")
    for verdict, origin in (("INTACT", "UNCHANGED"), ("DEGRADED", "LOCALIZED")):
        monkeypatch.setattr(lenses, "overall", lambda *given, said=verdict: (said, "told so by the test"))
        found = side.diagnose(folder)
        assert (found.origin.verdict, found.origin.changed) == (origin, (Head(3, 0), Head(3, 1), Head(3, 3)))
        assert (found.expression is None) == (origin == "UNCHANGED")
        printed = "\n".join(line for line, _ in diagnosis_lines(found))
        assert ("LOCALIZED" in printed) == ("\nfix " in printed) == (origin == "LOCALIZED")
