"""No name, path or text from elsewhere reaches a terminal, a CI log or a JUnit file with its control characters."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from result_cases import line
from suite_texts import TINY_SUITE, circuit_text, write

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import SuiteError, load_circuit, load_suite
from circuit_assertions.assertions.runner import NotApplicable
from circuit_assertions.checkpoints import CheckpointError, find_checkpoints
from circuit_assertions.checkpoints.errors import reason_of
from circuit_assertions.cli.output import Outcome, say
from circuit_assertions.heads import Head
from circuit_assertions.printable import printable, printable_output
from circuit_assertions.report import Progress, summary_lines
from circuit_assertions.report.headmap import HeadMap, map_picture
from circuit_assertions.results import AuditedModel, Figure
from circuit_assertions.results.audit import HeadFinding

FORGED = "x\x1b[2J\x1b[1;1H\nverdicts  21 held\r\x9b2K\u202e\u2028GATE: PASS\u200b"
ESCAPED = "x\\x1b[2J\\x1b[1;1H\\nverdicts  21 held\\r\\x9b2K\\u202e\\u2028GATE: PASS\\u200b"

# Text in which control characters are as frequent as letters.
NASTY = st.text(
    st.one_of(
        st.sampled_from(
            "\x00\x07\b\t\n\v\f\r\x1b\x7f\x85\x9b\u200b\u200e\u202e\u2028\u2029\u2066\ufeff\ud800\U000e0041"
        ),
        st.characters(),
    ),
    max_size=30,
)


def is_clean(text: str, keep: str = "") -> bool:
    return all(
        unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        for character in text
        if character not in keep
    )


@given(NASTY)
@example(FORGED)
def test_what_is_printable_is_one_line_without_a_hidden_character(text: str) -> None:
    shown = printable(text)
    assert is_clean(shown)
    assert printable(shown) == shown
    assert len(shown.splitlines()) <= 1


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Mn", "Mc", "Zs"])))
def test_ordinary_text_of_all_scripts_stays_as_it_is(text: str) -> None:
    blank = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
    kept = "".join(character for character in text if character not in blank)
    assert printable(kept) == kept


def test_escapes_are_those_of_python() -> None:
    assert printable(FORGED) == ESCAPED
    assert printable("\ud800\U000e0041\x7f") == "\\ud800\\U000e0041\\x7f"
    assert printable("größer ≥ 5, 模型 🎉") == "größer ≥ 5, 模型 🎉"


@given(NASTY)
@example(FORGED)
def test_what_is_printed_as_a_whole_keeps_line_breaks_and_colours_alone(text: str) -> None:
    shown = printable_output(f"\x1b[1m{text}\x1b[0m")
    assert is_clean(re.sub(r"\x1b\[[0-9;]*m", "", shown), keep="\n")


# -- every source of text from elsewhere, as a function from the text to what is printed ----------------------------


def of_error(text: str) -> str:
    return str(CircuitAssertionsError(f"{text} cannot be read"))


def of_library(text: str) -> str:
    return str(CheckpointError(f"it cannot be opened: {reason_of(ValueError(text))}"))


def of_key_error(text: str) -> str:
    return str(CheckpointError(f"it cannot be opened: {reason_of(KeyError(text))}"))


def of_path(text: str) -> str:
    with pytest.raises(CircuitAssertionsError) as raised:
        find_checkpoints(f"./nowhere/{text}".replace("\0", "0"))
    return str(raised.value)


def of_skip(text: str) -> str:
    return NotApplicable(text).reason


def of_summary(text: str) -> str:
    row = HeadFinding(name=text, figure=Figure(mean=0.5, low=0.4, high=0.6), verdict="HELD")
    lines = [
        line(text, text, text, "HELD", expected=text, rows=(row,)),
        line(text, text, "b", "SKIPPED", reason=printable(text)),
    ]
    return "\n".join(line for line, _ in summary_lines([AuditedModel(model=text, circuits=(text,))], lines))


def of_picture(text: str) -> str:
    return map_picture(HeadMap(text, 1, 1, {Head(0, 0): 1.0}, {Head(0, 0): text}))


def of_progress(text: str) -> str:
    stream, times = io.StringIO(), iter([0.0, 60.0])
    progress = Progress(stream, live=False, clock=lambda: next(times))
    progress("x", 0, 2)
    progress(text, 1, 2)
    return stream.getvalue()


SOURCES = (of_error, of_library, of_key_error, of_path, of_skip, of_summary, of_picture, of_progress)


@pytest.mark.parametrize("source", SOURCES)
@given(text=NASTY)
@example(text=FORGED)
def test_text_from_elsewhere_is_printed_clean(source: Any, text: str) -> None:
    said = source(text)
    assert is_clean(said, keep="\n")
    assert not any(line.startswith(("verdicts  21", "GATE:")) for line in said.splitlines())


def test_an_error_of_several_lines_keeps_its_own_line_breaks_alone() -> None:
    error = SuiteError("one\ntwo", "three")
    assert str(error) == "one\\ntwo\nthree"
    assert str(type(error)(*error.args)) == str(error)


VALID = """\
suite: x
tasks: {t: {kind: repeated-tokens}}
assertions:
  - {id: a, measure: loss, task: t, expect: {at-least: 0.1}}
"""
QUOTED = json.dumps(FORGED)


@pytest.mark.parametrize(
    "text",
    [
        VALID.replace("measure: loss", f"measure: {QUOTED}"),
        VALID.replace("task: t,", f"task: {QUOTED},"),
        VALID.replace("id: a", f"id: {QUOTED}"),
        VALID.replace("suite: x", f"{QUOTED}: x"),
        VALID.replace("kind: repeated-tokens", f"kind: {QUOTED}"),
        VALID.replace("expect: {at-least: 0.1}", f"expect: {{sign: {QUOTED}}}"),
        VALID.replace("measure: loss", f"measure: induction-score, heads: {QUOTED}"),
        VALID.replace("suite: x", f"suite: !{FORGED!r} x"),
        VALID.replace("measure: loss", f"measure: loss, marks: [{QUOTED}]"),
        VALID.replace("kind: repeated-tokens", f"kind: prompts, file: {QUOTED}"),
    ],
)
def test_mistakes_in_a_suite_are_told_clean(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SuiteError) as raised:
        load_suite(file)
    assert is_clean(str(raised.value), keep="\n")
    assert all(line.startswith(str(file)) for line in str(raised.value).splitlines())


def test_mistakes_in_a_circuit_file_are_told_clean(tmp_path: Path) -> None:
    file = tmp_path / "circuits" / "bad.yaml"
    shape = {"architecture": QUOTED, "layers": 1, "heads": 1, "d_model": 8, QUOTED: 1}
    write(tmp_path, {"circuits/bad.yaml": circuit_text(shape, {QUOTED: [(7, 7)]}, name=QUOTED)})
    with pytest.raises(SuiteError) as raised:
        load_circuit(file)
    assert is_clean(str(raised.value), keep="\n")
    assert all(line.startswith(str(file)) for line in str(raised.value).splitlines())


def test_the_command_line_prints_clean(capsys: pytest.CaptureFixture[str]) -> None:
    say(Outcome(f"a\n{FORGED}\n\x1b[1mbold\x1b[0m"))
    assert is_clean(capsys.readouterr().out.replace("\x1b[1m", "").replace("\x1b[0m", ""), keep="\n")


# -- a whole run ----------------------------------------------------------------------------------------------------


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, *args], cwd=folder, capture_output=True, timeout=240, check=False)


def printed(finished: subprocess.CompletedProcess[bytes]) -> str:
    return (finished.stdout + finished.stderr).decode("utf-8", errors="strict")


SUITE = TINY_SUITE.replace("a loss of a thousand nats was promised", QUOTED).replace("suite: tiny", f"suite: {QUOTED}")


@pytest.mark.skipif(sys.platform == "win32", reason="such names of files are not possible")
@pytest.mark.complete
def test_a_run_on_hostile_names_is_printed_clean(tmp_path: Path, tiny_folder: Path) -> None:
    name = FORGED.replace("/", "")
    write(tmp_path, {f"suites/{name}.yaml": SUITE, "pytest.ini": "[pytest]\nmarkers = gate\n"})
    for number in (1, 2):
        shutil.copytree(tiny_folder, tmp_path / f"{name}{number}")
    words = json.loads((tmp_path / f"{name}1" / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    words["model"]["vocab"] = {f"{word}{FORGED}" if place > 9 else word: place for word, place in vocabulary.items()}
    (tmp_path / f"{name}1" / "tokenizer.json").write_text(json.dumps(words))
    models = [f"--model={name}{number}" for number in (1, 2)]
    asked = ["-m", "pytest", *models, f"--baseline={name}2", "--no-diagnosis", "-rA", "-v", "--junitxml=out.xml"]
    finished = run(tmp_path, *asked)
    text = printed(finished)
    assert finished.returncode == 1, text
    assert "BROKEN" in text
    assert is_clean(text, keep="\n"), sorted({c for c in text if not is_clean(c, "\n")})
    assert not any(line.startswith(("verdicts  21", "GATE: PASS")) for line in text.splitlines())
    cases = ElementTree.parse(tmp_path / "out.xml").getroot().iter()
    values = [value for case in cases for value in (*case.attrib.values(), case.text or "")]
    assert all(is_clean(value, keep="\n\t") for value in values)


ADAPTER = {"peft_type": "LORA", "r": 1, "target_modules": ["c_attn"], "base_model_name_or_path": FORGED}


REST = ("diagnose", "discover", "edges", "graft", "mutate", "show-task", "trajectory")


@pytest.mark.parametrize("verb", ["pytest", *(pytest.param(verb, marks=pytest.mark.complete) for verb in REST)])
@pytest.mark.complete
def test_an_adapters_base_cannot_forge_a_verdict(tmp_path: Path, tiny_folder: Path, verb: str) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    adapter = tmp_path / "adapter"
    write(adapter, {"adapter_config.json": json.dumps(ADAPTER)})
    save_file({"base_model.model.x.lora_A.weight": np.zeros((1, 1), np.float32)}, adapter / "adapter_model.safetensors")
    write(tmp_path, {"suites/tiny.yaml": TINY_SUITE, "pytest.ini": "[pytest]\nmarkers = gate\n"})
    again = "suites/tiny.yaml::again"
    commands = {
        "pytest": ["-m", "pytest", "--model=adapter"],
        "diagnose": [
            "-m",
            "circuit_assertions",
            "diagnose",
            "--model=adapter",
            "--baseline=adapter",
            f"--task={again}",
        ],
        "discover": ["-m", "circuit_assertions", "discover", "--model=adapter", f"--task={again}"],
        "edges": ["-m", "circuit_assertions", "edges", "--model=adapter", f"--task={again}"],
        "graft": [
            "-m",
            "circuit_assertions",
            "graft",
            "--model=adapter",
            "--from=adapter",
            "--components=L0H0",
            "-oout",
        ],
        "mutate": ["-m", "circuit_assertions", "mutate", "suites/tiny.yaml", "--model=adapter"],
        "show-task": ["-m", "circuit_assertions", "show-task", "suites/tiny.yaml", "--model=adapter"],
        "trajectory": ["-m", "circuit_assertions", "trajectory", f"--model={FORGED}", "--baseline=adapter"],
    }
    finished = run(tmp_path, *commands[verb])
    text = printed(finished)
    assert finished.returncode == (1 if verb == "pytest" else 2), text
    assert is_clean(text, keep="\n"), text
    assert "\\x1b[2J" in text
    assert not any(line.startswith(("verdicts  21", "GATE: PASS")) for line in text.splitlines())
