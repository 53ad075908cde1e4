"""Comparing records: what is paired, what counts as a change, what fails, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import Said
from hypothesis import given, settings
from hypothesis import strategies as st
from record_cases import HEADS, kept_record, reading_of, spread
from said import says

from circuit_assertions.cli import main
from circuit_assertions.measures import Reading
from circuit_assertions.measures.intervals import Level, interval_of_mean, interval_of_paired_rates, interval_of_share
from circuit_assertions.plugin.project_folders import RECORDS
from circuit_assertions.records import store
from circuit_assertions.records.comparing import compare
from circuit_assertions.records.errors import RecordError
from circuit_assertions.records.failing import CONDITIONS, conditions_of
from circuit_assertions.records.record import Record
from circuit_assertions.records.trend import trend_over
from circuit_assertions.report.compared import comparison_lines, trend_lines
from circuit_assertions.results import ComparisonResult, Figure, TrendResult
from circuit_assertions.results.comparison import AssertionCompared
from circuit_assertions.verdict_words import ComparisonVerdict, Outcome

HELD, BROKEN = Outcome.HELD, Outcome.BROKEN
LOSS = reading_of(spread(1.0), "loss")


def only(reading: Reading | None, outcome: str = HELD, name: str = "a", **more: object) -> Record:
    return kept_record((name, outcome, reading), **more)  # type: ignore[arg-type]


def one(result: ComparisonResult) -> AssertionCompared:
    (found,) = result.assertions
    return found


def by_heads(*means: float, prompts: int = 64, **more: object) -> Reading:
    values = np.stack([spread(mean, prompts, seed=place) for place, mean in enumerate(means)], axis=1)
    return reading_of(values, heads=HEADS[: len(means)], **more)  # type: ignore[arg-type]


# -- pairs ----------------------------------------------------------------------------------------------------------


def test_the_same_prompts_are_compared_one_by_one_at_the_level_of_all_that_is_compared() -> None:
    before, after = by_heads(1.0, 2.0, -1.0), by_heads(1.0, 2.5, -1.0)
    result = compare(only(before), only(after), "broken")
    found = one(result)
    assert (found.paired, found.prompts, found.compared, result.together) == (True, (64, 64), 3, 3)
    level = Level(result.confidence or 0).among(3)
    assert result.level == level.of_one
    (change, *others) = found.changes
    interval = interval_of_mean((after.values - before.values)[:, 1], level)
    assert (change.name, change.kind) == ("L0H1", "stronger")
    assert (change.difference.low, change.difference.high) == tuple(interval)
    assert {other.kind for other in others} <= {"same"}
    assert result.verdict == ComparisonVerdict.CHANGED


def test_without_the_prompts_in_common_it_is_not_paired_says_so_and_is_less_sure() -> None:
    before, same, other = (
        reading_of(spread(1.0), "loss"),
        reading_of(spread(1.2), "loss"),
        reading_of(spread(1.2), "loss", seed=1),
    )
    paired, unpaired = (one(compare(only(before), only(now), "broken")) for now in (same, other))
    assert (paired.paired, unpaired.paired) == (True, False)
    assert paired.changes[0].kind == "stronger"
    assert unpaired.changes[0].kind == "same"
    text = [line for line, _ in comparison_lines(compare(only(before), only(other), "broken"))]
    assert any(says(line, "not paired") for line in text)


def test_of_more_prompts_those_in_common_are_compared() -> None:
    before, after = reading_of(spread(1.0, 64), "loss"), reading_of(spread(3.0, 256), "loss")
    found = one(compare(only(before), only(after), "broken"))
    assert (found.paired, found.prompts) == (True, (64, 64))
    assert found.changes[0].after == pytest.approx(after.values[:64].mean())


def test_what_depends_on_all_prompts_is_paired_only_where_all_are_the_same() -> None:
    before, after = (reading_of(spread(1.0, count), "faithfulness", alone=False) for count in (64, 128))
    assert not one(compare(only(before), only(after), "broken")).paired
    assert one(compare(only(before), only(before), "broken")).paired


def test_rates_are_compared_by_their_own_intervals() -> None:
    then, now = np.repeat([1.0, 0.0], [60, 4]), np.repeat([1.0, 0.0], [30, 34])
    level = Level(0.99)

    def change(seed: int) -> Figure:
        """Of the later rate on prompts of this seed, beside the earlier one on those of seed 0."""
        read = (
            reading_of(values, "answer-rate", kind="share", unit="share of prompts", seed=one)
            for values, one in ((then, 0), (now, seed))
        )
        before, after = map(only, read)
        return one(compare(before, after, "broken")).changes[0].difference

    paired, apart = change(0), change(1)
    assert (paired.low, paired.high) == pytest.approx(tuple(interval_of_paired_rates(now, then, level)))
    new, old = (interval_of_share(values, level.among(2)) for values in (now, then))
    assert (apart.low, apart.high) == pytest.approx((new.low - old.high, new.high - old.low))


@settings(max_examples=25, deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3), st.integers(0, 9))
def test_kinds_of_change_follow_the_interval_and_the_sizes(before: float, after: float, seed: int) -> None:
    records = [only(reading_of(spread(mean, seed=seed), "loss")) for mean in (before, after)]
    result = compare(records[0], records[1], "changed")
    (change,) = one(result).changes
    contains_zero = change.difference.low <= 0 <= change.difference.high
    assert (change.kind == "same") == (contains_zero or abs(change.after - change.before) == 0)
    if change.kind == "stronger":
        assert abs(change.after) > abs(change.before)
    if change.kind in ("weaker",):
        assert abs(change.after) <= abs(change.before)
    if change.kind == "reversed":
        assert change.after * change.before < 0
    assert result.verdict == (ComparisonVerdict.SAME if change.kind == "same" else ComparisonVerdict.REGRESSED)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.lists(st.floats(-5, 5), min_size=3, max_size=3))
def test_a_run_beside_itself_is_the_same_and_two_runs_are_each_others_mirror(
    first: list[float], second: list[float]
) -> None:
    one_, other = only(by_heads(*first)), only(by_heads(*second))
    assert compare(one_, one_, "changed,broken,weaker").verdict == ComparisonVerdict.SAME
    there, back = (compare(*pair, "broken").assertions[0].changes for pair in ((one_, other), (other, one_)))
    sizes = {change.name: change.difference.mean for change in there if change.kind != "same"}
    assert {change.name: -change.difference.mean for change in back if change.kind != "same"} == sizes


def test_heads_are_sorted_by_the_size_of_their_change_and_a_mean_stands_among_them() -> None:
    result = compare(only(by_heads(1.0, 1.0, 1.0)), only(by_heads(1.5, -1.0, 4.0)), "broken")
    assert [change.name for change in one(result).changes] == ["L1H0", "L0H1", "L0H0"]
    lines = [line for line, _ in comparison_lines(result)]
    places = [next(place for place, line in enumerate(lines) if head in line) for head in ("L1H0", "L0H1", "L0H0")]
    assert places == sorted(places)


def test_too_few_prompts_decide_nothing() -> None:
    found = one(compare(only(reading_of(spread(1.0, 8), "loss")), only(reading_of(spread(9.0, 8), "loss")), "changed"))
    assert {change.kind for change in found.changes} == {"same"}
    assert says(found.reason, "8 prompts", "too few")


# -- what fails -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fail", "before", "after", "outcomes", "regressed"),
    [
        ("broken", 1.0, 1.0, (HELD, BROKEN), True),
        ("broken", 1.0, 1.0, (Outcome.UNRESOLVED, Outcome.ERROR), True),
        ("broken", 1.0, 0.1, (BROKEN, BROKEN), False),
        ("broken", 1.0, 0.1, (HELD, HELD), False),
        ("unresolved", 1.0, 1.0, (HELD, Outcome.UNRESOLVED), True),
        ("lost", 1.0, 1.0, (HELD, Outcome.SKIPPED), True),
        ("weaker", 3.0, 2.0, (HELD, HELD), True),
        ("weaker", 2.0, 3.0, (HELD, HELD), False),
        ("weaker:20%", 3.0, 2.7, (HELD, HELD), False),
        ("weaker:20%", 3.0, 1.0, (HELD, HELD), True),
        ("weaker:20%", -3.0, -1.0, (HELD, HELD), True),
        ("weaker:0.2", 3.0, -1.0, (HELD, HELD), True),
        ("stronger:20%", 3.0, 3.2, (HELD, HELD), False),
        ("stronger:20%", -3.0, -5.0, (HELD, HELD), True),
        ("reversed", 3.0, -1.0, (HELD, HELD), True),
        ("changed", 1.0, 1.0, (HELD, Outcome.UNRESOLVED), True),
        ("broken, stronger", 1.0, 2.0, (HELD, HELD), True),
    ],
)
def test_what_fails(fail: str, before: float, after: float, outcomes: tuple[str, str], regressed: bool) -> None:
    read = [reading_of(spread(mean, width=0.3), "loss") for mean in (before, after)]
    also = ("judged in both", HELD, reading_of(spread(1.0), "direct-effect"))
    records = [kept_record(("a", outcome, value), also) for outcome, value in zip(outcomes, read, strict=True)]
    result = compare(records[0], records[1], fail)
    assert (result.verdict == ComparisonVerdict.REGRESSED) == regressed
    assert bool(result.assertions[0].fails) == regressed


@pytest.mark.parametrize(
    ("fail", "parts"),
    [
        ("brocken", ("brocken", "'broken'")),
        ("", ("known",)),
        ("broken:20%", ("broken", "no share")),
        ("weaker:lots", ("lots",)),
        ("weaker:120%", ("120%",)),
        ("stronger:-1", ("-1",)),
    ],
)
def test_a_mistake_in_the_expression_is_one_sentence(fail: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(RecordError) as raised:
        conditions_of(fail)
    assert all(part in str(raised.value) for part in parts)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("fail", "regressed"), [("broken", False), ("lost", True)])
def test_an_assertion_that_the_later_run_does_not_have_is_lost(fail: str, regressed: bool) -> None:
    before = kept_record(("a", HELD, LOSS), ("gone", BROKEN, LOSS), ("skipped", Outcome.SKIPPED, None))
    result = compare(before, only(LOSS), fail)
    assert (result.verdict == ComparisonVerdict.REGRESSED) == regressed
    assert [one.id for one in result.assertions if one.fails] == (["gone"] if regressed else [])
    assert result.only_before == ("suites/a.yaml::gone", "suites/a.yaml::skipped")


def test_every_condition_is_in_the_help_of_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert all(name in shown for name in CONDITIONS)


def test_a_share_costs_intervals_of_its_own() -> None:
    before, after = (only(reading_of(spread(mean), "loss")) for mean in (1.0, 2.0))
    together = [compare(before, after, fail).together for fail in ("weaker", "weaker:5%", "weaker:5%,stronger:5%")]
    assert together == [1, 2, 3]


# -- what cannot be compared ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "parts"),
    [
        (
            only(reading_of(spread(1.0), "loss")),
            only(reading_of(spread(1.0), "loss"), name="b"),
            ("no assertion",),
        ),
        (
            only(reading_of(spread(1.0), "loss")),
            only(reading_of(spread(1.0), "loss"), layers=3),
            ("2 layers", "3 layers"),
        ),
        (only(reading_of(spread(1.0), "loss")), only(None, Outcome.SKIPPED), ("judged",)),
        (
            only(reading_of(spread(1.0), "loss")),
            only(reading_of(spread(1.0), "loss", dtype="bfloat16")),
            ("float32 on cpu", "bfloat16 on cpu"),
        ),
        (
            only(reading_of(spread(1.0), "loss")),
            only(reading_of(spread(1.0), "direct-effect")),
            ("loss", "direct-effect"),
        ),
    ],
    ids=["other suites", "other shape", "nothing judged", "other dtype", "other measure"],
)
def test_what_has_nothing_in_common_is_not_comparable_with_the_reason(
    before: Record, after: Record, parts: tuple[str, ...]
) -> None:
    result = compare(before, after, "broken")
    assert result.verdict == ComparisonVerdict.NOT_COMPARABLE
    assert says(result.reason, *parts)
    (*_, (last, verdict)) = comparison_lines(result)
    assert says(last, *parts)
    assert verdict == ComparisonVerdict.NOT_COMPARABLE


def test_one_assertion_that_cannot_be_compared_keeps_no_other_from_it() -> None:
    now = kept_record(
        ("a", HELD, reading_of(spread(1.0), "loss")), ("b", HELD, reading_of(spread(1.0), "direct-effect"))
    )
    then = kept_record(
        ("a", HELD, reading_of(spread(1.0), "loss", operands={"query": "end"})),
        ("b", HELD, reading_of(spread(1.0), "direct-effect")),
        ("c", HELD, reading_of(spread(1.0), "direct-effect", seed=5)),
    )
    result = compare(then, now, "broken")
    first, second = result.assertions
    assert says(first.reason, "query")
    assert (second.reason, second.paired) == ("", True)
    assert result.only_before == ("suites/a.yaml::c",)


# -- the verb -------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of records of three steps of training: the second breaks, the third holds again."""
    monkeypatch.chdir(tmp_path)
    steps = [(2.0, HELD), (-2.0, BROKEN), (1.9, HELD)]
    for number, (mean, outcome) in enumerate(steps):
        reading = reading_of(spread(mean, width=0.5), "logit-difference")
        store.save(
            Path(RECORDS),
            only(reading, outcome, model=f"run/checkpoint-{number}", label=f"step-{number}", after=number),
        )
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (("step-0", "step-1"), 1),
        (("step-1", "step-2"), 0),
        (("step-0", "step-2"), 0),
        (("step-0", "step-2", "--fail=changed"), 1),
        (("latest~2", "latest~1"), 1),
        (("step-0", "nowhere"), 2),
        (("step-0",), 2),
        (("step-0", "step-1", "--fail=nonsense"), 2),
        (("step-0", "step-1", "step-2"), 0),
        (("step-0", "step-2", "step-1"), 1),
    ],
)
@pytest.mark.usefixtures("folder")
def test_the_exit_code_of_compare(asked: tuple[str, ...], code: int) -> None:
    said = Said.by("compare", *asked)
    assert said.code == code, said
    assert bool(said.out) == (code != 2)
    assert len(said.err.splitlines()) == (code == 2)


@pytest.mark.usefixtures("folder")
def test_what_is_printed_and_its_json_are_the_same_result() -> None:
    result = ComparisonResult.model_validate_json(Said.by("compare", "step-0", "step-1", "--json").out)
    printed = Said.by("compare", "step-0", "step-1").out
    assert printed.splitlines() == [line for line, _ in comparison_lines(result)]
    assert json.loads(result.to_json())["kind"] == "comparison"


@pytest.mark.usefixtures("folder")
def test_the_trend_has_a_row_for_each_assertion_and_a_column_for_each_run() -> None:
    trend = TrendResult.model_validate_json(Said.by("compare", "step-0", "step-1", "step-2", "--json").out)
    (row,) = trend.assertions
    assert row.outcomes == (HELD, BROKEN, HELD)
    assert [figure and round(figure.mean, 6) for figure in row.figures] == [2.0, -2.0, 1.9]
    assert [run.models for run in trend.runs] == [(f"run/checkpoint-{number}",) for number in range(3)]
    (told,) = (line for line, _ in trend_lines(trend) if says(line, "logits") and says(line, "a"))
    assert says(told, f"2.00 {HELD.letter}", f"-2.00 {BROKEN.letter}", f"1.90 {HELD.letter}")


def test_a_trend_over_runs_with_other_assertions_leaves_gaps() -> None:
    reading = reading_of(spread(1.0), "loss")
    first, second = only(reading, name="a"), kept_record(("a", HELD, reading), ("b", BROKEN, reading))
    trend = trend_over([first, second, first], "broken")
    assert [row.outcomes for row in trend.assertions] == [(HELD, HELD, HELD), (None, BROKEN, None)]
    assert list(trend_lines(trend))


def test_the_checkpoints_of_one_record_have_a_trend_too(folder: Path) -> None:
    steps = [store.find(f"step-{number}", RECORDS).record for number in range(2)]
    audits = [one.audit for one in steps]
    both = audits[0].model_copy(
        update={
            "models": (*audits[0].models, *audits[1].models),
            "assertions": (*audits[0].assertions, *audits[1].assertions),
        }
    )
    readings = (steps[0].readings[0], steps[1].readings[0])
    whole = steps[0].model_copy(update={"audit": both, "reads": (0, 1), "seconds_of": (), "readings": readings})
    (folder / "run.json").write_text(whole.to_json())
    said = Said.by("compare", "./run.json")
    trend = TrendResult.model_validate_json(Said.by("compare", "./run.json", "--json").out)
    assert said.code == 1
    assert [row.outcomes for row in trend.assertions] == [(HELD, BROKEN)]
    assert trend.first_and_last.before.models == ("run/checkpoint-0",)
    assert trend.first_and_last.assertions[0].changes[0].kind == "reversed"
