"""What is printed and drawn of a training run, from verdicts that are given."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_cases import line
from said import says

from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.trajectory import Step, Trajectory
from circuit_assertions.measures import Interval
from circuit_assertions.measures.figures import Figure
from circuit_assertions.report.runchart import run_picture as picture_of_result
from circuit_assertions.report.trajectory import trajectory_lines as lines_of_result
from circuit_assertions.report.trajectory import turning_lines
from circuit_assertions.results import TrajectoryResult
from circuit_assertions.verdict_words import Outcome, Overall

CUT_OFF = "model.safetensors is cut off"
NO_EFFECT = "it has no effect"
NO_HEAD = "headless"
SVG = "{http://www.w3.org/2000/svg}"
LETTERS = {".": "HELD", "F": "BROKEN", "u": "UNRESOLVED", "s": "SKIPPED", "E": "ERROR", "-": "NOT RUN"}
LABELS = (*(f"checkpoint-{step}" for step in (20, 40, 60, 80)), "final")
RUN = tuple(Checkpoint("run", Path("run"), label=label) for label in LABELS)


def trajectory_lines(found: Trajectory) -> list[str]:
    return [line for line, _ in lines_of_result(TrajectoryResult.of(found))]


def run_picture(found: Trajectory) -> str:
    return picture_of_result(TrajectoryResult.model_validate_json(TrajectoryResult.of(found).to_json()))


def figure(mean: float) -> Figure:
    return Figure(mean, Interval(mean - 0.5, mean + 0.5))


def trajectory(*verdicts: str, bisected: bool = False, lost: Sequence[int] = ()) -> Trajectory:
    """Assertions a, b, c ..., each with a letter a checkpoint; a space where it was not looked at."""
    names = [chr(ord("a") + index) for index in range(len(verdicts))]
    steps = []
    for place, checkpoint in enumerate(RUN):
        if place in lost:
            steps.append(Step(place, checkpoint, problem=CUT_OFF))
        elif verdicts[0][place] != " ":
            said = {name: LETTERS[letters[place]] for name, letters in zip(names, verdicts, strict=True)}
            reasons = {name: NO_HEAD for name, verdict in said.items() if verdict == "SKIPPED"}
            share = 1 - place / 2
            roles = {"name-mover": figure(share), "backup-name-mover": figure(share / 2)}
            steps.append(Step(place, checkpoint, figure(7 * share), figure(share), roles, said, reasons))
    return Trajectory(RUN, Checkpoint("healthy"), "ioi", "ioi", figure(7.0), tuple(steps), tuple(names), bisected)


def test_the_overall_verdict_has_a_column_and_the_last_one_its_reason() -> None:
    found = trajectory(".....")
    words: tuple[Overall, ...] = tuple(map(Overall.of, ("INTACT", "AMPLIFIED", "DEGRADED", "CORRUPTED", "DEGRADED")))
    steps = tuple(replace(step, overall=word, why="so") for step, word in zip(found.steps, words, strict=True))
    printed = list(trajectory_lines(replace(found, steps=steps, prompts=(128, 256))))
    heading = next(index for index, line in enumerate(printed) if line.startswith(" step"))
    assert [line.split()[-1] for line in printed[heading : heading + 6]] == ["overall", *words]
    assert printed[-1].endswith("; DEGRADED: so")
    (prompts,) = (line for line in printed if line.startswith("prompts  "))
    assert says(prompts, 128, 256, "ioi")
    assert TrajectoryResult.of(replace(found, steps=steps)).steps[2].overall == "DEGRADED"


def said_of(assertion: str, printed: list[str]) -> str:
    (line,) = (line for line in printed if line.split()[1:2] == [assertion])
    return line.split("  ", 1)[1].strip()


def course(said: str) -> str:
    """The verdicts and the steps that a line tells, in its order and without its other words."""
    verdict = r"\b(?:(?:not|never|still) )?(?:held|broken|broke|judged|unresolved)\b"
    return " ".join(re.findall(rf"{verdict}|\bstep \d+\b|\bfinal\b", said)).replace("step ", "")


def test_the_table_has_a_row_a_checkpoint_with_behaviour_roles_and_a_letter_an_assertion() -> None:
    printed = list(trajectory_lines(trajectory(".F.u.", ".....")))
    heading = next(index for index, line in enumerate(printed) if line.startswith(" step"))
    rows = [line.split() for line in printed[heading + 1 : heading + 6]]
    assert [row[0] for row in rows] == ["20", "40", "60", "80", "final"]
    assert rows[1] == ["40", "3.50", "[3.00,", "4.00]", "50%", "25%", "F."]
    assert [row[-1] for row in rows] == ["..", "F.", "..", "u.", ".."]
    assert printed[heading].split() == ["step", "difference", "mover", "mover", "12"]
    assert ". held, F broken, u unresolved" in printed


def test_more_than_nine_assertions_have_numbers_of_two_digits_over_their_letters() -> None:
    printed = list(trajectory_lines(trajectory(*["....."] * 12)))
    heading = next(index for index, line in enumerate(printed) if line.startswith(" step"))
    assert printed[heading].endswith(" 123456789012")
    assert printed[heading - 1].endswith(" 111")
    assert len(printed[heading - 1]) == len(printed[heading])


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (".....", "held"),
        (".u...", "never broken unresolved 40"),
        ("FFFFF", "broken 20 still broken final"),
        (".uFFF", "broke 60 held 20 still broken final"),
        (".FFu.", "broke 40 held 20 held final broken 60"),
        ("FF...", "broken 20 held 60 broken 40"),
        (".FFFu", "broke 40 held 20 not held broken 80 unresolved final"),
        ("Fu   ", "never held broken 20 unresolved 40"),
        ("uFuFu", "never held broken 40 80 unresolved final"),
        (".F.FF", "broke 40 held 20 held 60 broken 40 broke 80 held 60 still broken final"),
        (".EF..", "broke 60 held 20 held 80 broken 60 not judged 40"),
        ("EEEEE", "not judged"),
        (".FFFE", "broke 40 held 20 broken judged 80 not judged final"),
        ("FFFEs", "broken 20 60 judged not judged 80 final"),
        ("FEEEE", "broken 20 judged not judged 40 60 80 final"),
    ],
)
def test_every_assertion_is_told_in_words(verdicts: str, expected: str) -> None:
    assert course(said_of("a", list(trajectory_lines(trajectory(verdicts))))) == expected


def test_what_is_skipped_everywhere_is_told_once_with_its_reason_and_has_no_column() -> None:
    printed = list(trajectory_lines(trajectory("sssss", ".F...", "sssss")))
    (skipped,) = (line for line in printed if line.startswith("skipped  "))
    assert says(skipped, "a, c", NO_HEAD)
    assert said_of("b", printed).startswith("broke at step 40")
    assert any(line.startswith("   40") and line.endswith("  F") for line in printed)


def test_a_checkpoint_that_could_not_be_read_is_named_in_its_row() -> None:
    printed = list(trajectory_lines(trajectory(".FF..", lost=[1])))
    (audited,) = (line for line in printed if line.startswith("audited  "))
    assert says(audited, "4 of 5 checkpoints", f"1 {Outcome.ERROR.said}")
    (row,) = (line for line in printed if line.startswith("   40  "))
    assert row.endswith(f": {CUT_OFF}")
    assert course(said_of("a", printed)).startswith("broke 60 held 20 ")


def test_what_held_is_said_to_have_held_only_where_it_was_read() -> None:
    everywhere = said_of("a", list(trajectory_lines(trajectory("....."))))
    assert not says(everywhere, "read")
    for some in (trajectory(".....", lost=[1]), trajectory(". . .", bisected=True)):
        said = said_of("a", list(trajectory_lines(some)))
        assert course(said) == course(everywhere) == "held"
        assert says(said, "read")


def test_roles_that_could_not_be_compared_are_named_once() -> None:
    whole = trajectory(".....")
    steps = tuple(replace(step, not_compared={"induction": NO_EFFECT}) for step in whole.steps)
    some = replace(whole, steps=steps)
    (named,) = (line for line in trajectory_lines(some) if "compared" in line)
    assert says(named, "induction", NO_EFFECT)
    assert TrajectoryResult.of(some).steps[0].roles_not_compared == {"induction": NO_EFFECT}
    assert "compared" not in "\n".join(trajectory_lines(whole))


def test_bisection_says_what_it_assumes_what_it_may_miss_and_where_it_was_wrong() -> None:
    printed = "\n".join(trajectory_lines(trajectory(". F .", ". . .", bisected=True)))
    assert "audited    3 of 5 checkpoints" in printed
    assert re.search(r"^bisection  .*\bassumes\b.*\bonce\b", printed, re.MULTILINE)
    assert re.search(r"^ {11}1 .*\bnot broken\b", printed, re.MULTILINE)
    assert "--bisect" not in printed
    wrong = [line for line in trajectory_lines(trajectory("...F.", ".F.F.", bisected=True)) if "--bisect" in line]
    assert len(wrong) == 1
    assert says(wrong[0], "b")
    assert "at every checkpoint: b" in "\n".join(trajectory_lines(trajectory(". F .", "s . .", bisected=True)))
    assert "bisection" not in "\n".join(trajectory_lines(trajectory(".F.F.")))


def test_the_last_checkpoint_that_could_be_read_is_summed_up() -> None:
    assert list(trajectory_lines(trajectory("..FF.", "...F.", lost=[4])))[-1] == "last       step 80: 2 broken"
    assert list(trajectory_lines(trajectory(".....", lost=range(5))))[-1].startswith("last       no checkpoint ")


def test_json_holds_every_figure_verdict_and_turn() -> None:
    said = json.loads(TrajectoryResult.of(trajectory(".FF.u", ".....", lost=[4])).to_json())
    assert [step["step"] for step in said["steps"]] == [20, 40, 60, 80, None]
    assert [step["checkpoint"] for step in said["steps"]][3:] == ["run/checkpoint-80", "run"]
    assert said["steps"][1]["behaviour"] == {"mean": 3.5, "low": 3.0, "high": 4.0}
    assert said["steps"][1]["roles"]["name-mover"]["mean"] == 0.5
    assert said["steps"][1]["verdicts"] == {"a": "BROKEN", "b": "HELD"}
    assert said["steps"][4]["behaviour"] is None
    assert said["steps"][4]["problem"] == CUT_OFF
    turned = {"held_before": "run/checkpoint-20", "broke": "run/checkpoint-40"}
    turned |= {"broken_last": "run/checkpoint-60", "came_back": "run/checkpoint-80"}
    assert said["assertions"] == {"a": [turned], "b": []}
    assert (said["audited"], said["checkpoints"], said["bisected"]) == (4, 5, False)


def test_verdicts_of_a_pytest_run_are_told_by_suite_with_the_outcome_at_the_end() -> None:
    run = [str(checkpoint) for checkpoint in RUN]
    outcomes = {("s.yaml", "a"): ".FF..", ("s.yaml", "b"): "...FF", ("s.yaml", "c"): ".....", ("t.yaml", "a"): "sssss"}
    outcomes[("u.yaml", "a")] = "..u.E"
    lines = [
        line(model, suite, name, LETTERS[letter])
        for (suite, name), letters in outcomes.items()
        for model, letter in zip(run, letters, strict=True)
    ]
    lines.append(line("elsewhere", "s.yaml", "c", "BROKEN"))
    told = list(turning_lines(run, lines))
    assert [outcome for _, outcome in told] == ["", "HELD", "BROKEN", "", "", ""]
    (s, a, b, others, u, other) = (text for text, _ in told)
    assert (s, u) == ("s.yaml", "u.yaml")
    assert (a[:5], course(a)) == ("  a  ", "broke 40 held 20 held 80 broken 60")
    assert (b[:5], course(b)) == ("  b  ", "broke 80 held 60 still broken final")
    assert all(says(text, 1, "never broke") for text in (others, other))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=[*LETTERS, " "], min_size=5, max_size=5).filter(lambda letters: letters.strip()))
def test_nothing_is_said_of_checkpoints_that_were_not_judged(letters: str) -> None:
    run = [str(checkpoint) for checkpoint in RUN]
    places = {model: letter for model, letter in zip(run, letters, strict=True) if letter != " "}
    lines = [line(model, "s.yaml", "a", LETTERS[letter]) for model, letter in places.items()]
    printed = list(turning_lines(run, lines))
    text = "\n".join(said for said, _ in printed)
    judged = [letter for letter in letters if letter in ".Fu"]
    assert ("still broken at" in text) == (letters[-1] == "F")
    assert ("never broke" in text or "none of 1 broke" in text) <= (
        "F" not in letters and not set(letters) & {"-", " "}
    )
    if not judged:
        assert "broke" not in text
    elif "F" in judged:
        (row,) = (row for row in printed if row[0].startswith("  a"))
        assert row[1] == LETTERS[letters[-1].replace(" ", "-")]
        for letter, name in zip(
            letters, ("step 20", "step 40", "step 60", "step 80", "the final weights"), strict=True
        ):
            not_run = row[0].partition("; not run at ")[2].split(", ")
            assert (name in not_run) == (letter in "- ")


def test_a_checkpoint_that_could_not_be_read_at_the_end_is_not_said_to_be_broken_still() -> None:
    said = said_of("a", list(trajectory_lines(trajectory("..FF.", lost=[4]))))
    assert course(said) == "broke 60 held 40 broken judged 80"


def test_the_picture_has_a_line_for_behaviour_and_each_role_with_a_mark_a_checkpoint() -> None:
    drawn = run_picture(trajectory(".FF..", lost=[2]))
    picture = ElementTree.fromstring(drawn)
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"behaviour", "name-mover", "backup-name-mover", "20", "40", "80", "final"} <= set(texts)
    assert len(list(picture.iter(f"{SVG}path"))) == 3
    marks = list(picture.iter(f"{SVG}circle"))
    assert len(marks) == 3 * 4
    behaviour = marks[:4]
    assert [float(mark.attrib["cx"]) for mark in behaviour] == sorted({float(mark.attrib["cx"]) for mark in marks})
    heights = [float(mark.attrib["cy"]) for mark in behaviour]
    assert heights == sorted(heights)  # the behaviour falls, and y grows downwards
    assert "prefers-color-scheme: dark" in drawn


def test_no_name_at_the_end_of_a_line_lies_on_another() -> None:
    places = [
        (float(text.attrib["x"]), float(text.attrib["y"]))
        for text in ElementTree.fromstring(run_picture(trajectory("....."))).iter(f"{SVG}text")
        if text.text in ("name-mover", "backup-name-mover", "behaviour", "baseline")
    ]
    assert len(places) == 5
    lower = sorted(y for _, y in places)
    assert all(below - above >= 14 for above, below in pairwise(lower))


def test_a_run_of_which_a_single_checkpoint_could_be_read_is_drawn_all_the_same() -> None:
    one = trajectory(".    ")
    assert len(list(ElementTree.fromstring(run_picture(one)).iter(f"{SVG}circle"))) == 3
    alone = Trajectory(RUN[:1], one.baseline, "ioi", "ioi", one.before, one.steps, one.assertions, False)
    assert "nan" not in run_picture(alone)
    ElementTree.fromstring(run_picture(trajectory(".....", lost=range(5))))
