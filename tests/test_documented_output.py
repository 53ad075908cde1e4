"""What the pages show is what the commands beside them print, but for the time that they took and the last digit."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from itertools import groupby
from pathlib import Path

import pytest

from circuit_assertions.cli import main
from docs.examples import PAGES, ROOT, Example, examples_of, output_of, untimed

EXAMPLES = sorted((one for page in PAGES for one in examples_of(page)), key=lambda one: one.command)
BY_COMMAND = {command: list(some) for command, some in groupby(EXAMPLES, key=lambda one: one.command)}
# The normal run takes a diagnosis. `make test-complete` takes all, and has test_readme_recipe.py run pytest as the
# README does.
NORMAL = (
    "circuit-assertions diagnose --model fixtures/checkpoints/poisoned-heads --baseline fixtures/checkpoints/healthy",
)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e-?\d+)?")


def words(text: str) -> list[str]:
    """The text without its numbers and its line breaks, which follow the width of numbers."""
    return re.sub(r"=+", "=", NUMBER.sub("#", untimed(text))).split()


def numbers(text: str) -> list[str]:
    return re.findall(NUMBER.pattern + "%?", untimed(text))


def close(one: str, other: str) -> bool:
    """As far apart as rounding on two machines makes figures of two digits, and shares of whole per cents."""
    if one.endswith("%") and other.endswith("%"):
        return abs(float(one[:-1]) - float(other[:-1])) <= 2
    return abs(float(one) - float(other)) <= max(0.02, 0.02 * max(abs(float(one)), abs(float(other))))


def test_there_are_examples_in_the_readme_and_behind_it() -> None:
    assert len([one for one in EXAMPLES if one.page.name == "README.md"]) >= 4
    assert len(EXAMPLES) >= 8
    assert set(NORMAL) <= set(BY_COMMAND)


@pytest.mark.complete
@pytest.mark.parametrize("command", BY_COMMAND)
def test_a_page_shows_what_is_printed(command: str) -> None:
    check(command, output_of(command))


@pytest.mark.parametrize("command", NORMAL)
def test_a_page_shows_what_a_run_inside_this_process_prints(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    shutil.copytree(ROOT / "suites", tmp_path / "suites")  # where discover writes
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        main(shlex.split(command)[1:])
    check(command, out.getvalue())


def check(command: str, output: str) -> None:
    for example in BY_COMMAND[command]:
        now = example.excerpt(output)
        assert words(example.shown) == words(now), f"{example.page.name}: `make docs` writes it anew"
        apart = [pair for pair in zip(numbers(example.shown), numbers(now), strict=True) if not close(*pair)]
        assert not apart, f"{example.page.name}: {apart}; `make docs` writes it anew"


def test_a_ci_machine_prints_what_a_reader_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "BUILD_NUMBER", "FORCE_COLOR", "PYTEST_ADDOPTS"):
        monkeypatch.setenv(name, "1")
    printed = output_of("env")
    assert not re.search("^(CI|BUILD_NUMBER|FORCE_COLOR|PYTEST_\\w*)=", printed, re.MULTILINE)
    assert "COLUMNS=80" in printed


def test_an_excerpt_is_cut_by_its_first_and_last_lines() -> None:
    output = "model  x\nverdict  INTACT\n         more\nrole  a\nend\n"
    example = Example(PAGES[0], "x", (("^verdict", "more$"), ("^end", "^end")), "")
    assert example.excerpt(output) == "verdict  INTACT\n         more\n...\nend"
    with pytest.raises(ValueError, match="no lines from"):
        Example(PAGES[0], "x", (("^never", "."),), "").excerpt(output)
