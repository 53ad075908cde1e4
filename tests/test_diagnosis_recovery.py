"""How a model that was poisoned came back, and what stands in the way of a diagnosis."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from auditing import HEALTHY, ioi
from diagnosis_cases import CIRCUIT, COMMITTED, Side, leave_out_origin, one, raw
from said import says

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Opening
from circuit_assertions.diagnosis import DiagnosisError, Figure, Recovery
from circuit_assertions.diagnosis.lenses import diagnose
from circuit_assertions.diagnosis.recovery import _how
from circuit_assertions.measures import Interval
from circuit_assertions.policy import DEFAULT
from fixtures.shelf import MADE

POISONED = COMMITTED / "poisoned"
MOVERS = set(CIRCUIT.roles["name-mover"])


@pytest.fixture(scope="module")
def side() -> Side:
    return Side()


@pytest.fixture
def no_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what is not asked about here."""
    leave_out_origin(monkeypatch)


def recovery_of(side: Side, folder: Path, prompts: int = 48) -> Recovery:
    recovery = side.diagnose(folder, corrupted=POISONED, task=ioi(prompts=prompts)).recovery
    assert recovery is not None
    assert recovery.share.interval.low <= recovery.share.mean <= recovery.share.interval.high
    return recovery


@pytest.mark.usefixtures("no_origin")
@pytest.mark.complete
def test_clean_retraining_recovered_by_the_same_heads(side: Side) -> None:
    found = recovery_of(side, COMMITTED / "recovered")
    assert found.how == "RECOVERED"
    assert found.weakest is not None
    assert found.weakest[1].mean >= 0.5
    before, after = found.knocked_out
    assert after is not None
    assert after.mean >= 0.5 * before.mean > 0.2


@pytest.fixture(scope="module")
def bypassed(side: Side) -> Recovery:
    """That of the bypassed checkpoint, by as many prompts as discovery needs."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out_origin(patch)
        return recovery_of(side, COMMITTED / "bypassed", prompts=256)


@pytest.mark.complete
def test_silenced_movers_were_bypassed_by_layer_four(bypassed: Recovery) -> None:
    found = bypassed
    assert found.how == "BYPASSED"
    assert {carrier.head.layer for carrier in found.carriers[:4]} == {4}
    assert all(one.after.mean > 0.5 > abs(one.before.mean) for one in found.carriers[:4])
    assert found.weakest is not None
    assert found.weakest[1].mean == pytest.approx(0.0, abs=1e-5)
    assert found.knocked_out[1] is not None
    assert found.knocked_out[1].mean == pytest.approx(0.0, abs=1e-5)


@pytest.mark.complete
@pytest.mark.usefixtures("no_origin")
def test_the_circuit_found_anew_on_a_recovered_model_is_the_old_one(side: Side) -> None:
    circuits = recovery_of(side, COMMITTED / "recovered", prompts=256).circuits
    assert circuits is not None
    assert circuits.found is not None
    assert circuits.frozen[1] is not None
    assert circuits.frozen[1].interval.low > 0.9
    assert circuits.found.faithfulness.interval.low > 0.9
    assert not circuits.found.gained
    assert len(circuits.found.kept) >= 0.85 * circuits.size  # the weakest heads are not always clear of zero
    assert set(circuits.found.roles["name-mover"]) <= MOVERS


@pytest.mark.complete
def test_the_circuit_found_anew_on_a_bypassed_model_has_other_movers(bypassed: Recovery) -> None:
    circuits = bypassed.circuits
    assert circuits is not None
    assert circuits.found is not None
    assert set(circuits.found.lost) >= MOVERS
    movers = circuits.found.roles["name-mover"]
    assert {head.layer for head in movers} == {4}
    assert circuits.found.recast[movers[0]] == ("backup-name-mover", "name-mover")


@pytest.mark.usefixtures("no_origin")
@pytest.mark.complete
def test_a_model_that_does_not_do_the_task_has_no_circuit_to_find(side: Side) -> None:
    circuits = recovery_of(side, POISONED).circuits
    assert circuits is not None
    assert (circuits.found, circuits.frozen[1]) == (None, None)
    assert says(circuits.reason, "the task")


@pytest.mark.usefixtures("no_origin")
@pytest.mark.complete
def test_sixteen_prompts_are_the_fewest_that_a_diagnosis_is_made_by(side: Side) -> None:
    assert recovery_of(side, COMMITTED / "recovered", prompts=16).how == "UNDECIDED"
    with pytest.raises(DiagnosisError, match=r"^15 .*prompts.*\b16\b"):
        recovery_of(side, COMMITTED / "recovered", prompts=15)


@pytest.mark.parametrize(("now", "how"), [(-1.5, "PARTIAL"), (1.5, "BYPASSED")])
def test_nothing_is_back_while_the_wrong_answer_is_ahead(now: float, how: str) -> None:
    figure = Figure(0.85, Interval(0.8, 0.9))
    assert _how(figure, now > 0, [False, True], DEFAULT) == how


@pytest.mark.parametrize(
    ("low", "high", "by_same_heads", "how"),
    [
        (0.76, 0.9, [True, True], "RECOVERED"),
        (0.7, 0.9, [True, True], "UNDECIDED"),
        (0.76, 0.9, [True, None], "UNDECIDED"),
        (0.76, 0.9, [None, False], "BYPASSED"),
        (0.7, 0.9, [False], "UNDECIDED"),
        (0.5, 0.74, [True], "PARTIAL"),
    ],
)
def test_what_the_prompts_do_not_show_is_undecided(
    low: float, high: float, by_same_heads: list[bool | None], how: str
) -> None:
    assert _how(Figure((low + high) / 2, Interval(low, high)), True, by_same_heads, DEFAULT) == how


@pytest.mark.usefixtures("no_origin")
def test_the_baseline_has_recovered_all_of_it_by_the_same_heads_in_the_same_order(side: Side) -> None:
    found = recovery_of(side, HEALTHY)
    assert found.how == "RECOVERED"
    assert (found.share.mean, *found.share.interval) == (1.0, 1.0, 1.0)
    assert found.alike == pytest.approx(1.0)
    assert found.knocked_out[0] == found.knocked_out[1]


@pytest.mark.usefixtures("no_origin")
def test_what_was_cut_short_is_partly_back(side: Side) -> None:
    folder = MADE / "recovered-60"
    if not folder.is_dir():
        pytest.skip("python -m fixtures.lab recovered-60 makes it")
    found = recovery_of(side, folder)
    assert found.how == ("PARTIAL" if found.share.mean < 0.75 else "RECOVERED")
    assert 0.5 < found.share.mean < 0.85


@pytest.mark.usefixtures("no_origin")
@pytest.mark.complete
def test_a_poisoned_model_beside_itself_has_not_recovered(side: Side) -> None:
    found = recovery_of(side, POISONED)
    assert found.how == "NOT RECOVERED"
    assert found.share.mean == 0.0
    assert tuple(found.share.interval) == (0.0, 0.0)


@pytest.mark.usefixtures("no_origin")
@pytest.mark.complete
def test_nothing_recovers_from_a_loss_that_never_was(side: Side) -> None:
    assert side.diagnose(COMMITTED / "recovered", corrupted=COMMITTED / "benign").recovery is None


def refused(model: Path, baseline: Path, corrupted: Path | None = None) -> str:
    audit = Audit(Opening(device="cpu", dtype="float32"), one(baseline))
    worst = None if corrupted is None else one(corrupted)
    with pytest.raises(CircuitAssertionsError) as caught:
        diagnose(audit, one(model), one(baseline), ioi(prompts=16), CIRCUIT.roles, circuit="ioi", corrupted=worst)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_models_of_other_shapes_are_refused_in_one_sentence(tiny_folder: Path) -> None:
    said = refused(tiny_folder, HEALTHY)
    assert all(words in said for words in ("5 layers", "3 layers", "one shape"))


def test_an_mlp_of_another_width_is_refused_in_one_sentence(tmp_path: Path) -> None:
    shutil.copytree(HEALTHY, tmp_path / "narrow")
    config = raw().config.__class__.from_pretrained(HEALTHY, n_inner=64)
    torch.manual_seed(0)
    raw().__class__(config).save_pretrained(tmp_path / "narrow")
    assert "one shape" in refused(tmp_path / "narrow", HEALTHY)


@pytest.mark.parametrize("role", ["model", "corrupted"])
def test_another_tokenizer_is_refused_in_one_sentence(tmp_path: Path, role: str) -> None:
    folder = tmp_path / "renamed"
    shutil.copytree(HEALTHY, folder)
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    names = [word for word in vocabulary if word[:1].isupper()]
    for name, number in zip(names, [vocabulary[name] for name in reversed(names)], strict=True):
        vocabulary[name] = number
    file.write_text(json.dumps(tokenizer))
    given = (folder, HEALTHY) if role == "model" else (HEALTHY, HEALTHY, folder)
    assert "tokenizer" in refused(*given)


def test_a_baseline_that_cannot_do_the_task_is_refused(side: Side) -> None:
    assert says(refused(HEALTHY, COMMITTED / "poisoned"), COMMITTED / "poisoned", "the task")


@pytest.mark.usefixtures("no_origin")
@pytest.mark.parametrize("what", ["cut off", "of another shape"])
def test_a_corrupted_checkpoint_that_is_of_no_use_is_left_out_where_nobody_insists(
    side: Side, what: str, tiny_folder: Path, tmp_path: Path
) -> None:
    worst = tiny_folder
    if what == "cut off":
        worst = tmp_path / "cut"
        shutil.copytree(POISONED, worst)
        (worst / "model.safetensors").write_bytes((POISONED / "model.safetensors").read_bytes()[:1000])
    asked = (side.audit, one(COMMITTED / "recovered"), one(HEALTHY), ioi(prompts=16), CIRCUIT.roles)
    with pytest.raises(CircuitAssertionsError) as caught:
        diagnose(*asked, circuit="ioi", corrupted=one(worst))
    found = diagnose(*asked, circuit="ioi", corrupted=one(worst), insist=False)
    alone = diagnose(*asked, circuit="ioi")
    assert found.not_told == str(caught.value) != ""
    assert (found.recovery, alone.not_told) == (None, "")
    assert (found.verdict, found.behaviour, found.function) == (alone.verdict, alone.behaviour, alone.function)
