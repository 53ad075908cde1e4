"""Waivers: what is known not to hold is judged and reported, and does not fail the gate until its day is over."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from result_cases import line as made_line
from result_cases import waiver as waiver_until
from said import says
from suite_texts import write
from test_plugin_gate import BREAKS, HOLDS, SKIPS, gate_of, run, suite

from circuit_assertions.assertions import SuiteError, load_suite
from circuit_assertions.assertions.waivers import PYTEST_MARKS
from circuit_assertions.cli import main
from circuit_assertions.plugin.gate import Rules, fails
from circuit_assertions.verdict_words import Outcome

TODAY = datetime.date.today()
LATER, TOMORROW, YESTERDAY = (TODAY + datetime.timedelta(days) for days in (400, 1, -1))
REASON = "agreed in REL-42"

EXPIRED = r"\(1 [a-z ]*\bexpired\b[a-z ]*\)"  # after a count: one of these had a waiver, whose day is over


def waived(assertion: str, until: datetime.date = LATER, reason: str = REASON) -> str:
    return assertion.removesuffix("}") + f", waive: {{until: {until}, reason: {reason}}}}}"


def named(assertion: str, name: str) -> str:
    head, _, rest = assertion.partition(",")
    assert head.startswith("{id: ")
    return f"{{id: {name},{rest}"


# -- what a suite may say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("until", ["2027-03-01", '"2027-03-01"', "'2027-03-01'"])
def test_a_day_is_written_with_and_without_quotes(tmp_path: Path, until: str) -> None:
    text = HOLDS.removesuffix("}") + f", waive: {{until: {until}, reason: '  one\n     two '}}}}"
    write(tmp_path, {"x.yaml": suite(text)})
    waiver = load_suite(tmp_path / "x.yaml").suite.assertions[0].waive
    assert waiver is not None
    assert (waiver.until, waiver.reason) == (datetime.date(2027, 3, 1), "one two")
    assert not waiver.expired(datetime.date(2027, 3, 1))  # its last day is part of it
    assert waiver.expired(datetime.date(2027, 3, 2))


@pytest.mark.parametrize(
    ("waive", "named"),
    [
        ("{until: 2027-03-01 12:00:00, reason: x}", ["time", "2027-03-01"]),
        ('{until: "2027-02-30", reason: x}', ["'2027-02-30'", "calendar"]),
        ("{until: 2027-02-30, reason: x}", ["day"]),
        ("{until: 2027-3-1, reason: x}", ["'2027-3-1'", "date"]),
        ("{until: soon, reason: x}", ["'soon'", "date", "2027-03-01"]),
        ("{until: 2027, reason: x}", ["2027", "date"]),
        ("{until: true, reason: x}", ["True", "date"]),
        ("{reason: x}", ["'until'", "missing"]),
        ("{until: 2027-03-01}", ["'reason'", "missing"]),
        ("{until: 2027-03-01, reason: ''}", ["waiver", "reason as text"]),
        ("{until: 2027-03-01, reason: '  '}", ["waiver", "reason as text"]),
        ("{until: 2027-03-01, reason: 7}", ["waiver", "reason as text"]),
        ("{until: 2027-03-01, reson: x}", ["'reson'", "'reason'"]),
        ("true", ["yes or no", "mapping"]),
        ("2027-03-01", ["mapping"]),
    ],
)
def test_a_waiver_that_says_too_little_is_refused_with_its_place(tmp_path: Path, waive: str, named: list[str]) -> None:
    write(tmp_path, {"x.yaml": suite(HOLDS.removesuffix("}") + f",\n     waive: {waive}}}")})
    with pytest.raises(SuiteError) as refusal:
        load_suite(tmp_path / "x.yaml")
    assert says(refusal.value, *named)
    assert str(refusal.value).startswith(f"{tmp_path / 'x.yaml'}:5:")


@pytest.mark.family
@pytest.mark.parametrize("mark", PYTEST_MARKS)
@pytest.mark.parametrize("written", ["[{}]", "[slow, {}]", "['{}']"])
def test_marks_that_pytest_acts_on_are_refused(tmp_path: Path, mark: str, written: str) -> None:
    marks = written.format(mark)
    write(tmp_path, {"x.yaml": suite(HOLDS.removesuffix("}") + f", marks: {marks}}}")})
    with pytest.raises(SuiteError, match=rf"x\.yaml:4:\d+: the mark {mark!r} ") as refusal:
        load_suite(tmp_path / "x.yaml")
    assert ("waive: {until: " in str(refusal.value)) == (mark in ("xfail", "skip", "skipif"))


@pytest.mark.parametrize("said", ["maybe", "1", "'true'", "[]"])
@pytest.mark.parametrize("where", ["suite", "assertion"])
def test_required_is_yes_or_no(tmp_path: Path, said: str, where: str) -> None:
    assertion = HOLDS.removesuffix("}") + f", required: {said}}}"
    text = suite(HOLDS, head=f"required: {said}\n") if where == "suite" else suite(assertion)
    write(tmp_path, {"x.yaml": text})
    with pytest.raises(SuiteError, match=r"x\.yaml:\d:\d+: "):
        load_suite(tmp_path / "x.yaml")


def test_validate_tells_which_waivers_have_expired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assertions = [waived(HOLDS, YESTERDAY), waived(BREAKS, TODAY), waived(SKIPS, YESTERDAY)]
    write(tmp_path, {"x.yaml": suite(*assertions)})
    assert main(["validate", str(tmp_path / "x.yaml")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{tmp_path / 'x.yaml'}: valid")
    assert line.endswith(f" expired: holds ({YESTERDAY}), skips ({YESTERDAY})")


# -- what a waiver does, in every case -----------------------------------------------------------------------------


@pytest.mark.family
@pytest.mark.parametrize("outcome", [word for word in Outcome if word != "WAIVED"])
@pytest.mark.parametrize("waiver", ["none", "in force", "expired"])
@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("rules", [Rules(one, two) for one in ("report", "fail") for two in ("report", "fail")])
def test_what_fails_the_gate(outcome: str, waiver: str, required: bool, rules: Rules) -> None:
    given = {"none": None, "in force": waiver_until(TODAY), "expired": waiver_until(YESTERDAY, expired=True)}[waiver]
    line = made_line("m", "s", "a", outcome, required=required, waiver=given)
    not_held = outcome in ("BROKEN", "UNRESOLVED", "SKIPPED")
    without = {
        "BROKEN": True,
        "UNRESOLVED": rules.unresolved == "fail",
        "SKIPPED": required or rules.skipped == "fail",
        "ERROR": True,
    }.get(outcome, False)
    expected = {"none": without, "in force": outcome == "ERROR", "expired": without or not_held}[waiver]
    assert fails(line, rules) == expected
    assert line.counted == ("WAIVED" if waiver == "in force" and not_held else outcome)


ALL = (
    HOLDS,
    waived(named(HOLDS, "holds-waived")),
    waived(BREAKS, TODAY),
    waived(SKIPS.removesuffix("}") + ", required: true}", TOMORROW),
    waived(named(HOLDS, "holds-again"), YESTERDAY),
)


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "1"), marks=[pytest.mark.slow, pytest.mark.complete])], ids=["alone", "workers"]
)
def test_what_is_waived_is_judged_and_counted_and_does_not_fail(
    pytester: pytest.Pytester, tiny_folder: Path, workers: tuple[str, ...]
) -> None:
    write(pytester.path, {"suites/x.yaml": suite(*ALL)})
    strict = ("--circuit-unresolved=fail", "--circuit-skipped=fail", "--junitxml=out.xml", "-v", *workers)
    result = run(pytester, tiny_folder, *strict)
    assert (result.ret, gate_of(result)) == (0, "GATE: PASS (3 held, 2 waived)")
    result.stdout.fnmatch_lines(
        [
            "  BROKEN     breaks *expected at least 1000  (waived)",
            "  SKIPPED    skips  (required)  (waived)",
            f"waiver    holds-waived until {LATER}: {REASON} (*holds*)",
            f"waiver    breaks until {TODAY}: {REASON} (broken*)",
            f"waiver    skips until {TOMORROW}: {REASON} (skipped*)",
            f"waiver    holds-again until {YESTERDAY}: {REASON} (*holds*)",
            "* 3 passed, 2 waived in *",
        ]
    )
    cases = {case.get("name"): case for case in ElementTree.parse(pytester.path / "out.xml").iter("testcase")}
    said = cases["breaks"].find("skipped")
    assert said is not None
    assert str(said.get("message")).startswith(f"WAIVED until {TODAY} ({REASON}): BROKEN: ")
    properties = {one.get("name"): json.loads(one.get("value", "")) for one in cases["breaks"].iter("property")}
    assert properties["circuit_assertion"]["outcome"] == "BROKEN"
    assert properties["circuit_assertion"]["waiver"]["until"] == str(TODAY)


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "1"), marks=[pytest.mark.slow, pytest.mark.complete])], ids=["alone", "workers"]
)
def test_an_expired_waiver_excuses_nothing(
    pytester: pytest.Pytester, tiny_folder: Path, workers: tuple[str, ...]
) -> None:
    write(pytester.path, {"suites/x.yaml": suite(HOLDS, waived(BREAKS, YESTERDAY), waived(SKIPS, YESTERDAY))})
    result = run(pytester, tiny_folder, *workers)
    assert result.ret == 1
    assert re.fullmatch(rf"GATE: FAIL \(1 broken {EXPIRED}, 1 skipped {EXPIRED}, 1 held\)", gate_of(result))
    result.stdout.fnmatch_lines(
        [
            "BROKEN: *, expected at least 1000",
            f"  waiver    EXPIRED on {YESTERDAY}: {REASON}",
            f"waiver    breaks until {YESTERDAY}: {REASON} (*EXPIRED*)",
        ]
    )


@pytest.mark.usefixtures("opened_once")
def test_waivers_alone_are_nothing_that_was_judged(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    write(pytester.path, {"suites/x.yaml": suite(waived(SKIPS))})
    result = run(pytester, tiny_folder)
    assert (result.ret, gate_of(result)) == (1, "GATE: FAIL (nothing was judged, 1 waived)")


@pytest.mark.usefixtures("opened_once")
def test_a_waiver_covers_what_is_unresolved(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    write(pytester.path, {"suites/x.yaml": suite(HOLDS)})
    row = next(line for line in run(pytester, tiny_folder).outlines if line.startswith("  HELD       holds"))
    low, high = map(float, row.partition("[")[2].partition("]")[0].split(", "))
    between = HOLDS.replace("0.0", str((low + high) / 2))
    for assertion, code, line in (
        (between, 1, r"GATE: FAIL \(1 unresolved, 1 held\)"),
        (waived(between), 0, r"GATE: PASS \(1 held, 1 waived\)"),
        (waived(between, YESTERDAY), 1, rf"GATE: FAIL \(1 unresolved {EXPIRED}, 1 held\)"),
    ):
        write(pytester.path, {"suites/x.yaml": suite(named(HOLDS, "other"), assertion)})
        result = run(pytester, tiny_folder, "--circuit-unresolved=fail")
        assert result.ret == code
        assert re.fullmatch(line, gate_of(result))
