"""Tolerances between settings: what they widen, what is refused without them, and how they follow from differences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from said import says

from circuit_assertions.assertions import Expectation, Judgement, Verdict, judge
from circuit_assertions.assertions.proposed import Sourced
from circuit_assertions.calibration import CalibrationError
from circuit_assertions.calibration.differences import Compared, differences_of
from circuit_assertions.calibration.file import calibration_text, read_tolerances, tolerances_of
from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading
from circuit_assertions.measures.tolerances import IncomparableError, Setting, Tolerance, Tolerances
from circuit_assertions.results import CalibrationResult
from circuit_assertions.shape import Shape

USUAL, HALF, GPU = Setting("float32", "cpu"), Setting("bfloat16", "cpu"), Setting("float32", "cuda")
SHAPE = Shape("GPT2LMHeadModel", 2, 4, 8)
TOLERANCES = Tolerances(
    "mine.yaml",
    SHAPE,
    USUAL,
    {HALF: {"logit-difference": Tolerance(0.25, 1.0)}, GPU: {"logit-difference": Tolerance(0.5, 2.0)}},
    {"logit-difference": Tolerance(0.125, 0.5)},
)
RETAINS = Expectation.model_validate({"retains": "80%"})


def reading(mean: float, setting: Setting | None = USUAL, measure: str = "logit-difference", **more: Any) -> Reading:
    """64 values with this mean, which are the same but for it in every reading."""
    values = np.random.default_rng(0).normal(size=64)
    settings = {} if setting is None else {"model": setting._asdict()}
    return Reading(measure, "logits", "value", values - values.mean() + mean, settings=settings, **more)


def judged(mean: float, setting: Setting, tolerances: Tolerances | None, expect: Expectation = RETAINS) -> Judgement:
    found = judge(reading(mean, setting), expect, "each", baseline=reading(10.0), tolerances=tolerances)
    assert found is not None
    return found


# -- comparisons ------------------------------------------------------------------------------------------------------


def test_readings_of_two_settings_are_refused_without_tolerances() -> None:
    for other in (HALF, GPU):
        with pytest.raises(IncomparableError) as refused:
            judged(10.0, other, None)
        text = str(refused.value)
        assert says(text, str(USUAL), str(other), "circuit-assertions calibrate", "--circuit-calibration")
        assert "\n" not in text
    assert judged(10.0, USUAL, None).verdict is Verdict.HELD
    simulated = judge(reading(10.0, None), RETAINS, "each", baseline=reading(10.0))
    assert simulated is not None  # what records no setting is taken as it is
    assert simulated.across == ()


def test_the_tolerance_is_added_at_both_ends_of_the_interval_that_decides() -> None:
    """80 % of 10 is 8; of values that differ by a constant, the paired difference has the spread of a fifth of them."""
    half = judged(10.0, USUAL, None)
    assert half.verdict is Verdict.HELD
    for mean, without, within in ((8.2, Verdict.HELD, Verdict.UNRESOLVED), (7.8, Verdict.BROKEN, Verdict.UNRESOLVED)):
        assert judged(mean, USUAL, TOLERANCES).verdict is without
        assert judged(mean, HALF, TOLERANCES).verdict is within
    assert judged(9.0, HALF, TOLERANCES).verdict is Verdict.HELD
    assert judged(7.0, HALF, TOLERANCES).verdict is Verdict.BROKEN
    (told,) = judged(9.0, HALF, TOLERANCES).across
    assert says(told, str(USUAL), str(HALF), "0.375", "mine.yaml")  # with what readings do not record
    assert judged(9.0, USUAL, TOLERANCES).across == ()


def test_tolerances_of_two_settings_add_up_and_unknown_ones_are_refused() -> None:
    assert TOLERANCES.between("logit-difference", HALF, GPU) == Tolerance(0.875, 3.5)
    with pytest.raises(IncomparableError, match="float16 on cpu"):
        TOLERANCES.between("logit-difference", USUAL, Setting("float16", "cpu"))
    with pytest.raises(IncomparableError, match="direct-effect"):
        TOLERANCES.between("direct-effect", USUAL, HALF)
    with pytest.raises(IncomparableError, match="12 layers"):
        TOLERANCES.check_shape(Shape("GPT2LMHeadModel", 12, 12, 768))


def test_a_bound_of_a_circuit_file_has_the_tolerance_of_its_setting() -> None:
    def bounded(found_in: Setting | None, **more: Any) -> Judgement:
        expect = Expectation.model_construct(at_least=Sourced.of(8.0, "from its.yaml", found_in), **more)
        found = judge(reading(8.6, HALF), expect, "each", tolerances=TOLERANCES)
        assert found is not None
        return found

    plain, wide = bounded(None), bounded(USUAL)
    assert (plain.verdict, wide.verdict) == (Verdict.HELD, Verdict.UNRESOLVED)
    ends = zip(plain.rows[0].interval, wide.rows[0].interval, strict=True)
    assert [float(after - before) for before, after in ends] == pytest.approx([-0.375, 0.375])
    assert says(wide.across[0], "circuit file", "mine.yaml")
    assert bounded(HALF).rows[0].interval == plain.rows[0].interval
    # Prompts that lie nearer to the bound than the tolerance of one prompt may or may not meet it.
    share, possible = bounded(None, mostly=0.9).rows[0].findings[-1], bounded(USUAL, mostly=0.6).rows[0].findings[-1]
    assert (share.verdict, possible.verdict) == (Verdict.BROKEN, Verdict.UNRESOLVED)


def test_ranks_are_those_of_one_setting() -> None:
    heads = (Head(0, 0), Head(0, 1))
    values = np.stack([reading(1.0).values, reading(0.0).values], axis=1)

    def of(setting: Setting) -> Reading:
        return Reading("direct-effect", "logits", "value", values, heads, {"model": setting._asdict()})

    expect = Expectation.model_validate({"rank-within": 1})
    with pytest.raises(IncomparableError):
        judge(of(HALF), expect, "each", everyone=of(USUAL), tolerances=TOLERANCES)


# -- how a tolerance follows from differences -------------------------------------------------------------------------


def compared(before: np.ndarray, after: np.ndarray, kind: str = "value", rounding: float = 1e-5) -> Compared:
    one, other = (
        SimpleNamespace(reading=Reading("m", "u", kind, values, rounding=rounding), level=LEVEL)
        for values in (before, after)
    )
    rows = range(len(before))
    return Compared("a", one, other, tuple(rows[::2]), tuple(rows[1::2]))  # type: ignore[arg-type]


def _level() -> Any:
    from circuit_assertions.measures.intervals import ALONE

    return ALONE


LEVEL = _level()


def test_a_tolerance_is_the_difference_of_the_first_half_and_its_standard_errors() -> None:
    rng = np.random.default_rng(1)
    before, noise = rng.normal(size=40), rng.normal(0.02, 0.01, size=40)
    (found,) = differences_of([compared(before, before + noise)], margin=3.0)
    first = noise[::2]
    assert found.tolerance == pytest.approx(abs(first.mean()) + 3 * first.std(ddof=1) / np.sqrt(20), rel=1e-3)
    assert found.tolerance_prompt == pytest.approx(3 * np.abs(first).max(), rel=1e-3)
    assert found.largest == pytest.approx(np.abs(noise).max(), rel=1e-3)
    assert found.held_out == pytest.approx(abs(noise[1::2].mean()), rel=1e-3)
    assert found.of_mean == pytest.approx(abs(noise.mean()), rel=1e-3)
    assert found.holds


def test_a_tolerance_that_does_not_hold_on_the_other_half_is_told_and_raised() -> None:
    before = np.zeros(40)
    after = np.where(np.arange(40) % 2, 0.5, 0.01)
    (found,) = differences_of([compared(before, after)], margin=3.0)
    assert not found.holds
    assert found.tolerance >= found.held_out == pytest.approx(0.5)


def test_no_tolerance_is_below_rounding_and_shares_allow_for_hits_that_did_not_change() -> None:
    same = np.ones(40)
    (found,) = differences_of([compared(same, same)], margin=3.0)
    assert (found.tolerance, found.of_mean, found.holds) == (1e-5, 0.0, True)
    hits = compared(same, same, kind="share")
    (alone,) = differences_of([hits], margin=3.0)
    assert alone.tolerance == 1e-5
    changing = compared(same, same + np.arange(40) / 100)
    changing.reference.reading.__dict__["measure"] = "other"
    found_ = {one.measure: one for one in differences_of([hits, changing], margin=3.0)}
    assert found_["m"].tolerance == pytest.approx(3 / 20)


# -- the file ---------------------------------------------------------------------------------------------------------


def result(**more: Any) -> CalibrationResult:
    facts = {"checkpoint": "model", "fingerprint": "f", "dtype": "float32", "device": "cpu", **SHAPE.plain()}
    used = {"dtype": "float32", "device": "cpu", "threads": 1}
    figures = dict.fromkeys(("largest", "of_mean", "fitted", "held_out", "held_out_prompt"), 1e-7)
    measured = {"measure": "logit-difference", "unit": "logits", "readings": 1, "where": "a", "width": 1.0, **figures}

    def setting(kind: str, name: str, tolerance: float, **changes: object) -> dict[str, object]:
        one = {**measured, "tolerance": tolerance, "tolerance_prompt": 2 * tolerance, "holds": True}
        return {"kind": kind, "name": name, "used": {**used, **changes}, "measures": [one]}

    settings = [
        setting("batch", "1", 0.01, batch=1),
        setting("order", "reversed", 0.02, order="reversed"),
        setting("dtype", "bfloat16", 0.25, dtype="bfloat16"),
        setting("device", "cuda:0 float32", 0.5, device="cuda"),
        setting("device", "cuda:1 float32", 0.6, device="cuda"),
        {"kind": "device", "name": "mps", "used": None, "reason": "torch finds none"},
    ]
    said = {"model": facts, "suites": [], "circuits": [], "prompts": 32, "margin": 3.0, "reference": used}
    return CalibrationResult.model_validate({**said, "settings": settings, **more})


@pytest.mark.parametrize("name", ["calibration.yaml", "calibration.json"])
def test_a_file_has_the_tolerances_of_the_result(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(calibration_text(result(), file))
    read = read_tolerances(file, name)
    assert read == tolerances_of(result(), name)
    assert (read.shape, read.reference, read.source) == (SHAPE, USUAL, name)
    assert read.known[HALF]["logit-difference"] == Tolerance(0.25, 0.5)
    assert read.known[GPU]["logit-difference"] == Tolerance(0.6, 1.2)  # the larger of two GPUs
    assert read.further["logit-difference"] == Tolerance(0.02, 0.04)
    assert set(read.known) == {HALF, GPU}


@pytest.mark.parametrize(
    "write",
    [
        lambda file: None,
        lambda file: file.write_text("a: ["),
        lambda file: file.write_text("suite: a\n"),
        lambda file: file.write_text(calibration_text(result(), file).replace("margin:", "margins:")),
        lambda file: file.write_text(calibration_text(result(), file).replace("tolerance: 0.25", "tolerance: .nan")),
        lambda file: file.write_text(yaml.safe_dump({"kind": "mutation"})),
    ],
)
def test_a_file_that_is_no_calibration_is_refused_with_the_command(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    write(tmp_path / "c.yaml")
    with pytest.raises(CalibrationError) as refused:
        read_tolerances(tmp_path / "c.yaml", "c.yaml")
    assert says(str(refused.value), "c.yaml", "circuit-assertions calibrate")
