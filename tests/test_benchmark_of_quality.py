"""The benchmark of verdicts: its cases are declared beforehand, its runs resume, and its figures are right."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import quality, quality_recheck, quality_table
from benchmarks.quality_cases import BASES, GROUPS, Case, declare, quick
from benchmarks.quality_figures import Ran, Share, alarm_levels, assertions, joined, localized, prompts_saved, smallest
from benchmarks.quality_models import Planted, Trained, Weights
from benchmarks.quality_real import real_lines, truth_of
from benchmarks.quality_results import RESULTS, Results, code_version, key_of
from benchmarks.quality_runs import OPTIONS, Runs, outcome
from benchmarks.quality_setting import IN_POLICY, reaches, setting_cases
from fixtures.real.rows import ROWS
from fixtures.shelf import COMMITTED

ASKED = ["keeps-most-of-the-baselines-margin", "name-movers-push-the-right-way"]
WRONG = {"harmless": "PASS", "damaged": "FAIL", "recovered": "PASS"}


def seeds_of(case: Case) -> set[int]:
    """All seeds of a case: of data, of noise, of prompts."""
    changes = [*case.weights.changes, *(() if case.corrupted is None else case.corrupted.changes)]
    drawn = {one.seed for one in changes if isinstance(one, Trained)}
    return drawn | {one.seed for one in changes if isinstance(one, Planted) and one.strength} | {case.prompts}


def line_of(case: Case, **more: Any) -> dict[str, Any]:
    """The outcome of a case that ended as it should."""
    return {
        "gate": WRONG[case.group],
        "outcomes": "HH",
        "asked": list(ASKED),
        "prompts": [512, 256],
        "verdict": "CORRUPTED" if case.group == "damaged" else "INTACT",
        "kept": 1.0,
        "highs": [1.02, 0.99],
        "origin": "LOCALIZED",
        "components": list(case.planted),
        "recovery": {"recovered": "RECOVERED", "bypassed": "BYPASSED"}.get(case.truth),
        "roles": ["name-mover"] * len(case.planted),
        "cpu": 10.0,
        "seconds": 11.0,
        "lost": 0.5 if case.group == "damaged" else 0.0,
        "rivals": {"accuracy": 0.0, "KL": 0.1, "activations": 0.2, "attention": 0.3},
    } | more


@pytest.fixture
def filled(tmp_path: Path) -> Results:
    """A results file in which 200 cases ended as they should."""
    results = Results(tmp_path / "results.jsonl")
    for case in declare()[:200]:
        results.add(case, 0, code_version(), line_of(case))
    return results


# -- cases ------------------------------------------------------------------------------------------------------------


def test_there_are_as_many_cases_as_the_page_promises() -> None:
    reporting = [case for case in declare() if case.seeds == "reporting"]
    counts = Counter(case.group for case in reporting)
    assert counts["harmless"] >= 300
    assert counts["damaged"] >= 300
    assert counts["recovered"] >= 150
    assert 2 * sum(case.real for case in reporting if case.group == "harmless") >= counts["harmless"]
    for group in GROUPS:
        assert {case.base for case in reporting if case.group == group} == set(BASES)
    assert len({case.name for case in declare()}) == len(declare())


def test_seeds_that_set_and_seeds_that_report_never_meet() -> None:
    by_kind: dict[str, set[int]] = {"setting": set(), "reporting": set()}
    for case in declare():
        by_kind[case.seeds] |= seeds_of(case)
    assert max(by_kind["setting"]) < 100
    assert min(by_kind["reporting"]) >= 1000
    damaged = {
        seeds: {case.weights for case in declare() if (case.group, case.seeds) == ("damaged", seeds)}
        for seeds in by_kind
    }
    assert not damaged["setting"] & damaged["reporting"]


def test_another_seed_has_other_cases_that_report_and_the_same_that_set() -> None:
    first, second = declare(0), declare(1)
    drawn = [
        set[int]().union(*map(seeds_of, (c for c in cases if c.seeds == "reporting"))) for cases in (first, second)
    ]
    assert not drawn[0] & drawn[1]
    assert [one for one in first if one.seeds == "setting"] == [one for one in second if one.seeds == "setting"]


def test_every_truth_is_declared_with_its_case() -> None:
    for case in declare():
        assert (case.corrupted is not None) == (case.group == "recovered")
        assert (case.group == case.truth) or (case.group, case.truth) == ("recovered", "bypassed")
        assert not case.planted or case.group == "damaged"
        assert case.planted or case.group != "damaged" or case.kind.startswith("poisoned by")
        assert case.real == any(isinstance(one, Trained) for one in case.weights.changes[-1:]) or not case.real


def test_every_beginning_is_a_balanced_sample() -> None:
    every, some = declare(), declare()[:100]
    for attribute in ("group", "base", "seeds"):
        shares = [Counter(getattr(case, attribute) for case in cases) for cases in (every, some)]
        for value, count in shares[0].items():
            assert shares[1][value] / 100 == pytest.approx(count / len(every), abs=0.12)


def test_a_quick_run_has_four_cases_of_each_group() -> None:
    assert Counter(case.group for case in quick()) == dict.fromkeys(GROUPS, 4)
    assert {case.truth for case in quick()} == {"harmless", "damaged", "recovered", "bypassed"}
    assert {case.seeds for case in quick(3)} == {"reporting"}


# -- results ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def of_earlier_code(tmp_path: Path) -> Results:
    """A results file in which 40 cases ended as they should, with code that is not today's."""
    results = Results(tmp_path / "results.jsonl")
    for case in declare()[:40]:
        results.add(case, 0, "earlier", line_of(case))
    return results


def test_results_of_earlier_code_are_told_to_be_so_until_cases_are_run_again(of_earlier_code: Results) -> None:
    assert "No case" in quality_recheck.which_code(of_earlier_code)
    cases = quality_recheck.drawn(of_earlier_code, 10)
    assert len({case.name for case in cases}) == 10
    assert cases != quality_recheck.drawn(of_earlier_code, 10, seed=1)
    changed, *same = cases
    outcomes = [(changed, line_of(changed) | {"verdict": "DEGRADED"}), *((case, line_of(case)) for case in same)]
    quality_recheck.note(of_earlier_code, outcomes)
    for results in (of_earlier_code, Results.read(of_earlier_code.file)):
        said = quality_recheck.which_code(results)
        assert "10 of the cases" in said
        assert ": 9 ended" in said
        assert f"{changed.name}: verdict" in said
        assert said in quality_table.table(results)
    of_earlier_code.keep([code_version()])
    assert not Results.read(of_earlier_code.file).rechecks


def test_a_recheck_runs_the_cases_and_keeps_only_what_ended_otherwise(
    of_earlier_code: Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quality, "_begin", lambda *_: None)
    monkeypatch.setattr(quality, "_work", lambda case, make: line_of(case))
    arguments = ["--recheck", "100", "--jobs", "1", "--results", str(of_earlier_code.file)]
    assert quality.main(arguments) == 0
    found = Results.read(of_earlier_code.file)
    assert len(found.lines) == 40
    assert found.rechecks == [{"recheck": code_version(), "of": "earlier", "cases": 40, "differ": {}}]
    assert "40 ended" in capsys.readouterr().out


def test_results_of_earlier_code_hold_where_a_recheck_found_no_difference(
    of_earlier_code: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def work(case: Case, make: bool) -> dict[str, Any]:
        ran.append(case.name)
        return line_of(case)

    monkeypatch.setattr(quality, "_begin", lambda *_: None)
    monkeypatch.setattr(quality, "_work", work)
    command = ["--jobs", "1", "--limit", "45", "--results", str(of_earlier_code.file)]
    assert quality.main([*command, "--recheck", "19"]) == 0
    assert not Results.read(of_earlier_code.file).has(declare()[0], code_version())
    assert quality.main([*command, "--recheck", "20"]) == 0
    ran.clear()
    assert quality.main(command) == 0
    assert ran == [case.name for case in declare()[40:45]]
    results = Results.read(of_earlier_code.file)
    assert Counter(line["version"] for line in results.counted()) == {"earlier": 40, code_version(): 5}
    assert len(joined(results)) + len(joined(results, "setting")) == 45
    assert "40 of the 45" in quality_recheck.which_code(results)


def test_one_case_that_ends_otherwise_makes_results_not_count(of_earlier_code: Results) -> None:
    cases = quality_recheck.drawn(of_earlier_code, 30)
    outcomes = [(case, line_of(case)) for case in cases]
    quality_recheck.note(of_earlier_code, outcomes)
    assert of_earlier_code.alike(code_version()) == (code_version(), "earlier")
    of_earlier_code.add_recheck({"recheck": "later", "of": code_version(), "cases": 20, "differ": {}})
    assert of_earlier_code.alike("later") == ("later", code_version(), "earlier")
    quality_recheck.note(of_earlier_code, [(cases[0], line_of(cases[0]) | {"gate": "other"})])
    assert of_earlier_code.alike("later") == ("later", code_version())
    assert not of_earlier_code.has(cases[0], code_version())


def test_results_of_todays_code_need_no_recheck(filled: Results) -> None:
    assert not quality_recheck.which_code(filled)


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was run, by a worker that only notes it and is interrupted at its third case."""
    names: list[str] = []

    def work(case: Case, make: bool) -> dict[str, Any]:
        if len(names) == 3:
            names.append("interrupted")
            raise KeyboardInterrupt
        names.append(case.name)
        return line_of(case)

    monkeypatch.setattr(quality, "_begin", lambda *_: None)
    monkeypatch.setattr(quality, "_work", work)
    return names


def test_an_interrupted_run_continues_where_it_was(
    tmp_path: Path, worked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.jsonl"
    command = ["--jobs", "1", "--limit", "6", "--results", str(file)]
    assert quality.main(command) == 130
    with file.open("a") as stream:
        stream.write('{"case": "cut o')  # a crash while a line was written
    assert quality.main(command) == 0
    assert [name for name in worked if name != "interrupted"] == [case.name for case in declare()[:6]]
    assert len(Results.read(file).done(code_version())) == 6
    assert quality.main(command) == 0
    assert len(worked) == 7
    assert "6 of 6" in capsys.readouterr().err


def test_a_result_of_other_code_does_not_count_and_can_be_forgotten(filled: Results) -> None:
    case = declare()[0]
    filled.add(case, 0, "other", line_of(case))
    read = Results.read(filled.file)
    assert read.done("other") == {key_of(case, "other")} != {key_of(case, code_version())}
    assert len(joined(read)) + len(joined(read, "setting")) == 200
    read.keep([code_version()])
    assert Results.read(filled.file).done("other") == set()
    assert len(Results.read(filled.file).lines) == 200


def test_a_key_follows_from_the_whole_case() -> None:
    case = declare()[0]
    other = Case(**{**{name: getattr(case, name) for name in asdict(case)}, "prompts": case.prompts + 1})
    assert key_of(case, "code") != key_of(other, "code")
    assert key_of(case, "code") != key_of(case, "changed")


# -- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "of"), [(0, 10), (1, 300), (7, 10), (299, 300), (155, 155)])
def test_bounds_are_wilsons(hits: int, of: int) -> None:
    z, p = 1.959963984540054, hits / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    reach = z / (1 + z * z / of) * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    assert Share(hits, of).bounds == pytest.approx((middle - reach, middle + reach), abs=1e-12)


def test_a_share_of_nothing_is_not_a_number() -> None:
    assert math.isnan(Share(0, 0).share)
    assert Share(0, 0).as_json()["share"] is None


def test_figures_of_cases_that_all_ended_as_they_should(filled: Results) -> None:
    found = quality_table.figures(filled)
    assert found["false alarms"]["harmless"]["hits"] == 0
    assert found["detected"]["the gate"]["10%+"]["share"] == 1.0
    assert found["localized"]["all planted"]["set equal"]["share"] == 1.0
    assert found["confused"]["hits"] == 0
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_errors_are_counted_in_both_directions(filled: Results) -> None:
    harmless = next(one for one in joined(filled) if one.case.group == "harmless")
    harmless.line.update(gate="FAIL", outcomes="BU")
    damaged = next(one for one in joined(filled) if one.case.group == "damaged" and one.case.planted)
    damaged.line.update(gate="PASS", components=["L0H1", *damaged.case.planted])
    bypassed = next(one for one in joined(filled) if one.case.truth == "bypassed")
    bypassed.line.update(recovery="RECOVERED")
    found = quality_table.figures(filled)
    assert found["false alarms"]["harmless"]["hits"] == 1
    told = found["detected"]["the gate"]["10%+"]
    assert told["hits"] == told["of"] - 1
    sets = localized(joined(filled))["all planted"]
    assert sets["set equal"].hits == sets["set contains"].hits - 1 == sets["set equal"].of - 1
    assert found["confused"]["hits"] == 1
    single = assertions(joined(filled))
    assert single["false BROKEN, harmless"].hits == single["UNRESOLVED, harmless"].hits == 1
    lost = [one for one in joined(filled) if one.case.group == "damaged"]
    assert single["false HELD, margin"] == Share(len(lost), len(lost))


def test_a_run_that_could_not_be_diagnosed_is_counted_too(filled: Results) -> None:
    for one in joined(filled):
        for name in ("verdict", "kept", "highs", "origin", "components", "recovery", "roles"):
            del one.line[name]
    found = quality_table.figures(filled)
    assert found["localized"]["all planted"]["set equal"]["hits"] == 0
    assert found["detected"]["the gate"]["10%+"]["share"] == 1.0
    assert quality_table.table(filled)


def test_a_rival_has_the_gates_false_alarms_on_the_cases_that_set(filled: Results) -> None:
    setting = [one for one in joined(filled, "setting") if one.case.group == "harmless"]
    for number, one in enumerate(setting):
        one.line["rivals"] = dict.fromkeys(one.line["rivals"], float(number))
    setting[0].line["gate"] = "FAIL"
    levels = alarm_levels(setting)
    assert all(sum(one.line["rivals"][name] > level for one in setting) == 1 for name, level in levels.items())


def test_growing_prompts_are_compared_with_fixed_numbers_for_a_run_and_for_all(filled: Results) -> None:
    ran = joined(filled)[:2]
    ran[0].line["prompts"] = [128 + 256, 256]
    ran[1].line["prompts"] = [128 + 128, 128]
    found = prompts_saved(ran)
    assert found == pytest.approx({"each run": 640 / (2 * 256 + 2 * 128), "all runs": 640 / (4 * 256)})


def test_degraded_begins_below_what_harmless_setting_cases_reach(filled: Results) -> None:
    setting = [one for one in joined(filled, "setting") if one.case.group == "harmless"]
    for number, one in enumerate(setting):
        one.line["highs"] = [1.0 + number / 100, 0.97]
    behaviour, role = reaches(joined(filled, "setting")).values()
    assert (behaviour.lowest, behaviour.cases) == (1.0, len(setting))
    assert behaviour.bound < 1.0  # lower than the lowest: one in a thousand may come so far
    assert (role.lowest, role.spread, role.bound) == (0.97, 0.0, 0.97)
    setting[0].line["highs"] = [0.5]  # no role was compared
    assert [one.lowest for one in reaches(joined(filled, "setting")).values()] == [0.5, 0.97]


def test_the_policy_has_the_bounds_that_the_setting_cases_gave() -> None:
    cases = setting_cases()
    assert Counter(one.case.seeds for one in cases) == {"setting": sum(one.seeds == "setting" for one in declare())}
    assert {name: of.bound for name, of in reaches(cases).items()} == IN_POLICY


def test_the_smallest_damage_is_that_from_which_on_nearly_all_is_found(filled: Results) -> None:
    ran = [one for one in joined(filled) if one.case.group == "damaged"][:40]
    for number, one in enumerate(ran):
        one.line.update(lost=number / 100, gate="FAIL" if number >= 10 else "PASS")
    assert smallest(ran, lambda one: one.alarm) == pytest.approx(0.09)  # 30 of 31
    assert smallest(ran, lambda _: False) is None


def tables(text: str) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            lines.append(line)
        elif lines:
            yield lines
            lines = []


def test_the_page_gets_whole_tables(filled: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(tables(quality_table.table(filled)))
    assert len(found) >= 8
    for lines in found:
        assert len({line.count("|") for line in lines}) == 1
    monkeypatch.setattr(quality_table, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(quality_table, "ROOT", tmp_path)
    quality_table.PAGE.write_text(f"before\n{quality_table.BEGIN}\nold\n{quality_table.END}\nafter\n")
    quality_table.write_table(filled)
    text = quality_table.PAGE.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert quality_table.table(filled) in text


def test_the_results_that_are_kept_can_be_made_into_the_table() -> None:
    results = Results.read(RESULTS)
    assert RESULTS.stat().st_size < 1_000_000
    assert all(isinstance(one, Ran) for one in joined(results))
    assert quality_table.table(results)


# -- runs -------------------------------------------------------------------------------------------------------------


def test_an_outcome_holds_what_the_tables_need() -> None:
    result = {
        "gate": {"passed": False},
        "assertions": [
            {"id": "a", "outcome": "HELD", "reading": {"prompts": 256}},
            {"id": "b", "outcome": "SKIPPED", "reading": None},
        ],
        "diagnoses": [
            {
                "verdict": "CORRUPTED",
                "behaviour": {"retained": {"mean": 0.5, "high": 0.6}},
                "origin": "LOCALIZED",
                "components": ["L3H0"],
                "recovery": {"how": "BYPASSED"},
                "roles": {
                    "name-mover": {"asleep": False, "retained": {"high": 0.4}, "heads": {"L3H0": {}}},
                    "s-inhibition": {"asleep": False, "retained": {"high": 0.9}, "heads": {}},
                    "backup-name-mover": {"asleep": True, "retained": {"high": 0.1}, "heads": {}},
                },
            }
        ],
    }
    found = outcome(result, ("L3H0", "MLP1", "L0H3"))
    assert (found["gate"], found["outcomes"], found["prompts"]) == ("FAIL", "Hs", [256, 256])
    assert (found["recovery"], found["roles"]) == ("BYPASSED", ["name-mover", "MLP", "none"])
    assert found["highs"] == [0.6, 0.4]  # no verdict rests on a role that is asleep


@pytest.mark.slow
@pytest.mark.complete
@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize("kinds", [("negate, one component",), ("zero, all writers", "rounded", "heads exchanged")])
def test_a_run_in_this_process_has_the_verdicts_of_the_command(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    """Of several runs after each other, the later ones with what the first has read of the baseline."""
    by_kind = {case.kind: case for case in quick()}
    runs = Runs(tmp_path, "test", tmp_path / "made")
    for kind in kinds:
        case = by_kind[kind]
        with warnings.catch_warnings(action="ignore"):
            found = runs.run(case)
        project, model = tmp_path / f"{case.base}-{case.prompts}", tmp_path / "model"
        command = ["suites/ioi.yaml", f"--model={model}", f"--baseline={COMMITTED / case.base}", *OPTIONS]
        command += [] if case.corrupted is None else [f"--corrupted={tmp_path / 'corrupted'}"]
        written = project / "command.json"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *command, f"--circuit-output=json:{written}"],
            cwd=project,
            check=False,
            capture_output=True,
        )
        assert done.returncode == (found["gate"] == "FAIL"), done.stdout
        same = outcome(json.loads(written.read_text()), case.planted)
        assert {name: found[name] for name in same} == same


@pytest.mark.usefixtures("opened_once")
def test_the_worst_a_run_can_do_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> dict[str, Any]:
        raise RuntimeError("pytest ended with 4")

    monkeypatch.setattr("benchmarks.quality_runs.gate", fail)
    case = Case("a", "harmless", "reporting", "unchanged", "harmless", Weights("healthy"), 1001)
    assert Runs(tmp_path, "test", tmp_path).run(case) == {"error": "pytest ended with 4"}


# -- the real model ---------------------------------------------------------------------------------------------------


def test_rows_of_the_real_model_count_by_what_was_declared_of_them() -> None:
    truths = {row.name: truth_of(row) for row in ROWS}
    assert {truths[name] for name in ("clean", "clean-seed2", "other-text", "float16", "Q8_0")} == {"harmless"}
    assert {truths[name] for name in ("poisoned", "share-20", "lora", "dose-5")} == {"damaged"}
    assert {truths[name] for name in ("recovered", "retrained-mlps", "nearest-3")} == {None}
    lost, kept = ({"behaviour": {"retained": {"mean": mean}}} for mean in (0.2, 0.95))
    rows = {
        "clean": {"verdict": "DEGRADED"},
        "other-text": {"verdict": "AMPLIFIED"},
        "poisoned": {"verdict": "INTACT"} | lost,
        "dose-5": {"verdict": "INTACT"} | kept,
        "recovered": {"verdict": "CORRUPTED"} | lost,
    }
    false, found = list(real_lines(rows))[2:]
    assert "50.0%" in false
    assert "clean, other-text" in false
    assert "0.0%" in found
    assert "| poisoned |" in found
