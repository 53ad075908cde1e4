"""The report as Markdown, the summary and the annotations of GitHub Actions, and numbers in JUnit files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from report_cases import HOSTILE, audit_of, circuit, hostile_result, large_result, made_line, run_result

from circuit_assertions.files import NotWrittenError, append_text
from circuit_assertions.plugin.github_step import GitHubStep
from circuit_assertions.plugin.reported import junit_properties
from circuit_assertions.printable import printable
from circuit_assertions.report.github import MOST_ANNOTATIONS, annotation_lines
from circuit_assertions.report.markdown import MOST_BYTES, escaped, markdown
from circuit_assertions.report.verdict_sentence import worst_first
from circuit_assertions.results import Reported
from circuit_assertions.verdict_words import Outcome

TEXTS = st.one_of(st.text(max_size=40), st.sampled_from(HOSTILE), st.text("|`*_[]()<>#&~!$@\\:/w.\n\r\t-", max_size=20))


def read(text: str) -> list[Any]:
    """The tokens of a text, as CommonMark with tables reads it."""
    return MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(text)


def words(tokens: list[Any]) -> str:
    return "".join(one.content for token in tokens for one in token.children or () if one.type == "text")


@settings(max_examples=80, deadline=None)
@given(TEXTS)
def test_any_text_means_itself_in_a_cell(text: str) -> None:
    tokens = read(f"| a | b |\n| --- | --- |\n| x{escaped(text)}x | y |\n")
    assert [token.type for token in tokens].count("td_open") == 2
    kinds = {one.type for token in tokens for one in token.children or ()}
    assert kinds <= {"text"}
    assert words(tokens) == f"abx{printable(text)}xy"


def test_names_from_elsewhere_are_text_and_the_worst_comes_first() -> None:
    result = hostile_result()
    tokens = read(markdown(result))
    kinds = {one.type for token in tokens for one in token.children or ()}
    assert kinds <= {"text", "strong_open", "strong_close", "softbreak"}
    assert not {token.type for token in tokens} & {"html_block", "fence", "code_block", "blockquote_open"}
    said = words(tokens)
    for text in HOSTILE:
        assert printable(text) in said
    cells = re.findall(r"^\| \*\*(\w+)\*\*", markdown(result), re.MULTILINE)
    assert cells == [line.counted for line in worst_first(result.assertions)]


def test_it_shows_heads_and_checkpoints() -> None:
    text = markdown(run_result().model_copy(update={"circuits": (circuit(3, 4),)}))
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    assert [one.split()[0].rstrip(":") for one in headings[1:]] == [
        *("Assertions", "Checkpoints", "Checkpoints", "Heads", "Settings")
    ]
    (row,) = [line for line in text.splitlines() if line.startswith("| L0H1 |")]
    assert row.count("|") == 6


@pytest.mark.parametrize("most", [3_000, 20_000, MOST_BYTES])
def test_what_does_not_fit_is_counted(most: int) -> None:
    result = large_result()
    text = markdown(result, most)
    assert len(text.encode()) <= most
    shown = len(re.findall(r"^\| \*\*", text, re.MULTILINE))
    left = re.search(r"_(\d+) more rows", text)
    if most == MOST_BYTES:
        assert (shown, left) == (len(result.assertions), None)
    else:
        assert left is not None
        assert 0 < shown < len(result.assertions)
        whole = len(re.findall(r"^\| (?!---)", markdown(result), re.MULTILINE))
        assert int(left[1]) <= whole - shown


# -- GitHub -----------------------------------------------------------------------------------------------------------


def test_annotations_name_file_and_line_and_are_ten_at_most() -> None:
    failing = [made_line(place, Outcome.BROKEN) for place in range(10, 24)]
    lines = list(annotation_lines(failing, lambda suite: suite))
    assert len(lines) == MOST_ANNOTATIONS == 10
    for line, one in zip(lines, failing, strict=False):
        assert line.startswith(f"::error file={one.suite},line={one.line},title={one.id}::{Outcome.BROKEN} ")
        assert one.expected in line
    (nowhere,) = annotation_lines(failing[:1], lambda suite: "")
    assert nowhere.startswith(f"::error title={failing[0].id}::")


@pytest.mark.parametrize("text", [*HOSTILE, "100%, 50%25: a\nb"])
def test_an_annotation_is_one_command_whatever_is_in_it(text: str) -> None:
    (line,) = annotation_lines([made_line(1, Outcome.ERROR, text=text)], lambda suite: suite)
    assert "\n" not in line
    assert "\r" not in line
    command, _, message = line.removeprefix("::").partition("::")
    properties = dict(one.split("=", 1) for one in command.removeprefix("error ").split(","))
    assert set(properties) == {"file", "line", "title"}
    assert unescaped(properties["title"]) == f"assertion-number-1{printable(text)}"
    assert printable(text) in unescaped(message)


def unescaped(text: str) -> str:
    """As GitHub's runner reads a value."""
    for code, character in {"%3A": ":", "%2C": ",", "%0D": "\r", "%0A": "\n", "%25": "%"}.items():
        text = text.replace(code, character)
    return text


def step(folder: Path, **more: str) -> GitHubStep:
    return GitHubStep.of({"GITHUB_WORKSPACE": str(folder), **more}, folder / "project")


def test_the_summary_is_appended_to_what_other_steps_wrote(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    result = large_result()
    told = step(tmp_path, GITHUB_STEP_SUMMARY=str(summary))
    assert list(told.tell(result, [])) == []
    assert summary.read_text() == "before\n" + markdown(result, MOST_BYTES - len("before\n"))
    summary.write_text("x" * MOST_BYTES)
    (said,) = told.tell(result, [])
    assert str(summary) in said
    assert summary.stat().st_size == MOST_BYTES
    (said,) = step(tmp_path, GITHUB_STEP_SUMMARY=str(tmp_path / "nowhere" / "s.md")).tell(result, [])
    assert "s.md" in said


def test_annotations_name_files_from_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    told = step(tmp_path, GITHUB_ACTIONS="true")
    inside, outside = made_line(1, Outcome.BROKEN), made_line(2, Outcome.ERROR)
    outside = outside.model_copy(update={"suite": "../../elsewhere.yaml"})
    packaged = inside.model_copy(update={"suite": "packaged:ioi.yaml"})
    lines = list(told.tell(audit_of([inside]), [packaged, inside, outside]))
    assert "file=" not in lines[0]  # the worst is first
    assert "file=" not in lines[1]
    assert f"file=project/{inside.suite}," in lines[2]
    assert not step(tmp_path, GITHUB_ACTIONS="1").shows_anything


def test_what_cannot_be_appended_to_is_named(tmp_path: Path) -> None:
    append_text(tmp_path / "a", "ä")
    append_text(tmp_path / "a", "b\n")
    assert (tmp_path / "a").read_text("utf-8") == "äb\n"
    with pytest.raises(NotWrittenError) as raised:
        append_text(tmp_path, "x")
    assert str(tmp_path) in str(raised.value)


# -- JUnit ------------------------------------------------------------------------------------------------------------


def test_properties_of_junit_files_have_numbers_as_numbers() -> None:
    line = made_line(1, Outcome.BROKEN)
    found = dict(junit_properties(Reported(assertions=(line,))))
    first = line.rows[0]
    assert {name: float(found[f"circuit_{name}"]) for name in ("mean", "low", "high", "baseline", "prompts")} == {
        "mean": first.figure.mean,
        "low": first.figure.low,
        "high": first.figure.high,
        "baseline": first.baseline,
        "prompts": 128,
    }
    assert not {"circuit_mean", "circuit_low"} & set(
        dict(junit_properties(Reported(assertions=(made_line(1, Outcome.ERROR),))))
    )
