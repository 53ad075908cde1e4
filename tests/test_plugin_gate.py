"""The gate: what the last line says, when nothing judged fails, and that every selected assertion is counted once."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from result_cases import line as made_line
from result_cases import waiver
from said import says
from suite_texts import TINY_SUITE, write

from circuit_assertions.plugin.gate import Gate, Rules
from circuit_assertions.results import AssertionResult
from circuit_assertions.verdict_words import Outcome

pytestmark = pytest.mark.usefixtures("opened_once")

HEADER = "suite: gate\n{head}tasks: {{again: {{kind: repeated-tokens, prompts: 48, length: 8}}}}\nassertions:\n"
HOLDS = "{id: holds, measure: loss, task: again, expect: {at-least: 0.01}}"
BREAKS = "{id: breaks, why: it was promised, measure: loss, task: again, expect: {at-least: 1000}}"
SKIPS = "{id: skips, measure: loss, task: again, expect: {retains: 50%}}"
BY_ROLE = "{id: by-role, measure: induction-score, heads: induction, task: again, expect: {at-least: 0.5}}"
REQUIRED = SKIPS.replace("skips,", "needed, required: true,")
OPTIONAL = SKIPS.replace("skips,", "optional, required: false,")
WORKERS = pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "2"), marks=[pytest.mark.slow, pytest.mark.complete])], ids=["alone", "workers"]
)
# Workers are processes of their own; what they would complain of is nothing of theirs.
QUIET = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider")


def suite(*assertions: str, head: str = "") -> str:
    return HEADER.format(head=head) + "".join(f"  - {assertion}\n" for assertion in assertions)


def run(pytester: pytest.Pytester, folder: Path, *args: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(*QUIET, f"--model={folder}", *args, no_reraise_ctrlc=True)


def gate_of(result: pytest.RunResult) -> str:
    """The gate line; it stands once, behind pytest's own summary. pytest repeats behind it why it was told to exit."""
    (found,) = (number for number, line in enumerate(result.outlines) if line.startswith("GATE: "))
    assert not [line for line in result.outlines[found + 1 :] if line and not line.startswith(("next: ", "!!!"))]
    return result.outlines[found]


def next_of(result: pytest.RunResult) -> str:
    return next(line for line in result.outlines if line.startswith("next: "))


# -- nothing judged ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assertions", "code", "line", "workers"),
    [
        ((HOLDS,), 0, "GATE: PASS (1 held)", ()),
        ((HOLDS, SKIPS, BY_ROLE), 0, "GATE: PASS (1 held, 2 skipped)", ()),
        ((HOLDS, BREAKS, SKIPS), 1, "GATE: FAIL (1 broken, 1 held, 1 skipped)", ()),
        ((SKIPS,), 1, "GATE: FAIL (nothing was judged, 1 skipped)", ()),
        ((SKIPS, BY_ROLE), 1, "GATE: FAIL (nothing was judged, 2 skipped)", ()),
        ((HOLDS, REQUIRED), 1, "GATE: FAIL (1 skipped (1 required), 1 held)", ()),
        ((REQUIRED, SKIPS), 1, "GATE: FAIL (nothing was judged, 2 skipped (1 required))", ()),
        pytest.param(
            (HOLDS, SKIPS),
            0,
            "GATE: PASS (1 held, 1 skipped)",
            ("-n", "2"),
            marks=[pytest.mark.slow, pytest.mark.complete],  # test_plugin_workers compares a failing gate
        ),
        pytest.param(
            (SKIPS,),
            1,
            "GATE: FAIL (nothing was judged, 1 skipped)",
            ("-n", "2"),
            marks=[pytest.mark.slow, pytest.mark.complete],
        ),
    ],
)
def test_the_exit_code_and_the_gate_line_say_the_same(
    pytester: pytest.Pytester,
    tiny_folder: Path,
    workers: tuple[str, ...],
    assertions: tuple[str, ...],
    code: int,
    line: str,
) -> None:
    write(pytester.path, {"suites/x.yaml": suite(*assertions, head="circuit: induction\n")})
    result = run(pytester, tiny_folder, *workers)
    assert (result.ret, gate_of(result)) == (code, line)


@pytest.mark.parametrize("quiet", ["-q", "-qq", "-v"])
def test_the_gate_line_is_there_however_quiet_the_run(pytester: pytest.Pytester, tiny_folder: Path, quiet: str) -> None:
    write(pytester.path, {"suites/x.yaml": suite(HOLDS, BREAKS)})
    result = run(pytester, tiny_folder, quiet)
    assert gate_of(result) == "GATE: FAIL (1 broken, 1 held)"
    assert "reproduce: pytest --model=" in next_of(result)


def test_the_gate_line_is_coloured_where_the_terminal_is(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    for assertion, colour in ((HOLDS, "32"), (BREAKS, "31")):
        write(pytester.path, {"suites/x.yaml": suite(assertion)})
        (line,) = (text for text in run(pytester, tiny_folder, "--color=yes").outlines if "GATE: " in text)
        assert f"\x1b[{colour}m" in line


@pytest.mark.parametrize(
    "args",
    [("--collect-only", "-q"), ("--setup-plan",), ("--fixtures",), ("--markers",)],
    ids=["collect", "plan", "fixtures", "markers"],
)
def test_what_only_lists_keeps_pytests_code_and_has_no_gate(
    pytester: pytest.Pytester, tiny_folder: Path, args: tuple[str, ...]
) -> None:
    write(pytester.path, {"suites/x.yaml": suite(SKIPS)})
    result = run(pytester, tiny_folder, *args)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("GATE:*")


@WORKERS
def test_a_run_that_selects_no_assertion_keeps_pytests_code(
    pytester: pytest.Pytester, tiny_folder: Path, workers: tuple[str, ...]
) -> None:
    write(pytester.path, {"suites/x.yaml": suite(SKIPS), "test_own.py": "def test_own():\n    pass\n"})
    own = run(pytester, tiny_folder, "test_own.py", *workers)
    assert own.ret == 0
    assert gate_of(own).startswith("GATE: not judged (")
    none = run(pytester, tiny_folder, "-k", "nothing-is-called-so", *workers)
    assert (none.ret, gate_of(none)) == (5, "GATE: FAIL (no tests collected)")


@WORKERS
def test_python_tests_of_a_checkpoint_are_counted_beside_the_suites(
    pytester: pytest.Pytester, tiny_folder: Path, workers: tuple[str, ...]
) -> None:
    tests = (
        "def test_right(audit):\n    pass\n\ndef test_wrong(audit):\n    assert False\n\ndef test_plain():\n    pass\n"
    )
    write(pytester.path, {"suites/x.yaml": suite(HOLDS), "suites/test_x.py": tests})
    assert (
        gate_of(run(pytester, tiny_folder, *workers))
        == "GATE: FAIL (1 other test failed, 1 held, 1 Python test passed)"
    )
    right = run(pytester, tiny_folder, "suites/test_x.py", "-k", "right", *workers)
    assert (right.ret, gate_of(right)) == (0, "GATE: PASS (1 Python test passed)")


# -- skipped and required ------------------------------------------------------------------------------------------


@WORKERS
def test_skipped_assertions_fail_where_that_is_asked_for(
    pytester: pytest.Pytester, tiny_folder: Path, workers: tuple[str, ...]
) -> None:
    write(pytester.path, {"suites/x.yaml": suite(HOLDS, SKIPS)})
    result = run(pytester, tiny_folder, "--circuit-skipped=fail", *workers)
    assert (result.ret, gate_of(result)) == (1, "GATE: FAIL (1 skipped, 1 held)")
    result.stdout.fnmatch_lines(["SKIPPED: *--baseline=path/*", "FAILED *::skips*"])
    assert says(next_of(result), "skips", "--baseline=path/")
    for said, code in (("fail", 1), ("report", 0)):
        write(pytester.path, {"pytest.ini": f"[pytest]\ncircuit_skipped = {said}\n"})
        assert run(pytester, tiny_folder).ret == code
    assert run(pytester, tiny_folder, "--circuit-skipped=fail").ret == 1  # over the configuration's


def test_an_unknown_value_of_the_key_is_a_mistake(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    write(pytester.path, {"suites/x.yaml": suite(HOLDS), "pytest.ini": "[pytest]\ncircuit_skipped = maybe\n"})
    result = run(pytester, tiny_folder)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*circuit_skipped *'maybe'*report*fail*"])


@pytest.mark.parametrize(
    ("head", "assertion", "code", "workers"),
    [
        ("", REQUIRED, 1, ()),
        ("required: true\n", SKIPS, 1, ()),
        ("required: true\n", OPTIONAL, 0, ()),
        ("required: false\n", REQUIRED, 1, ()),
        ("", OPTIONAL, 0, ()),
        pytest.param("required: true\n", SKIPS, 1, ("-n", "2"), marks=[pytest.mark.slow, pytest.mark.complete]),
    ],
)
def test_what_is_required_must_not_be_skipped(
    pytester: pytest.Pytester, tiny_folder: Path, head: str, assertion: str, code: int, workers: tuple[str, ...]
) -> None:
    write(pytester.path, {"suites/x.yaml": suite(HOLDS, assertion, head=head)})
    result = run(pytester, tiny_folder, "--circuit-skipped=report", *workers)
    assert result.ret == code
    if code:
        result.stdout.fnmatch_lines(["SKIPPED (required): *", "  SKIPPED * (required)"])
    judged = run(pytester, tiny_folder, f"--baseline={tiny_folder}", "--no-diagnosis")
    assert (judged.ret, gate_of(judged)) == (0, "GATE: PASS (2 held)")


# -- what stops a run ----------------------------------------------------------------------------------------------


@WORKERS
def test_what_a_stop_left_out_is_not_run(
    pytester: pytest.Pytester, tiny_folder: Path, workers: tuple[str, ...]
) -> None:
    write(pytester.path, {"suites/x.yaml": suite(BREAKS, *(HOLDS.replace("holds", f"h{n}") for n in range(6)))})
    result = run(pytester, tiny_folder, "-x", *workers)
    gate = gate_of(result)
    assert result.ret != 0
    assert gate.startswith("GATE: FAIL (1 broken, ")
    assert gate.endswith(" not run)")
    counted = [int(word) for word in gate.replace("(", " ").split() if word.isdecimal()]
    assert sum(counted) == 7
    if not workers:
        assert gate == "GATE: FAIL (1 broken, 6 not run)"


@pytest.mark.parametrize(
    ("raised", "said"), [("KeyboardInterrupt", "interrupted"), ("pytest.exit('enough', 7)", "exit code 7")]
)
@pytest.mark.complete
def test_an_interrupted_run_fails_the_gate(
    pytester: pytest.Pytester, tiny_folder: Path, raised: str, said: str
) -> None:
    raising = raised if raised.startswith("pytest") else f"raise {raised}"
    stops = f"import pytest\n\ndef pytest_runtest_setup(item):\n    if 'h1' in item.name:\n        {raising}\n"
    names = [HOLDS.replace("holds", f"h{n}") for n in range(3)]
    write(pytester.path, {"suites/x.yaml": suite(*names), "conftest.py": stops})
    result = run(pytester, tiny_folder)
    assert gate_of(result) == f"GATE: FAIL ({said}, 1 held, 2 not run)"
    if said == "interrupted":  # pytest prints no summary for exit codes that are not its own
        result.stdout.fnmatch_lines(["verdicts  1 held, 2 not run"])


@WORKERS
def test_a_suite_that_cannot_be_collected_fails_the_gate(
    pytester: pytest.Pytester, tiny_folder: Path, workers: tuple[str, ...]
) -> None:
    write(pytester.path, {"suites/a.yaml": suite(HOLDS), "suites/b.yaml": suite(HOLDS).replace("loss", "los")})
    result = run(pytester, tiny_folder, *workers)
    assert result.ret != 0
    assert gate_of(result).startswith("GATE: FAIL (1 file ")
    assert "circuit-assertions validate" in next_of(result)


def test_a_model_that_cannot_be_read_fails_the_gate(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    broken = shutil.copytree(tiny_folder, pytester.path / "broken")
    (broken / "model.safetensors").write_bytes(b"cut off")
    write(pytester.path, {"suites/x.yaml": suite(HOLDS, BREAKS)})
    result = run(pytester, broken)
    assert result.ret == 1
    assert re.fullmatch(rf"GATE: FAIL \(.+, 2 {Outcome.ERROR.said}\)", gate_of(result))


@pytest.mark.parametrize("mark", ["xfail", "skip"])
def test_a_conftest_cannot_turn_a_broken_assertion_green_unseen(
    pytester: pytest.Pytester, tiny_folder: Path, mark: str
) -> None:
    marking = (
        "import pytest\n\ndef pytest_collection_modifyitems(items):\n"
        f"    for item in items:\n        item.add_marker(pytest.mark.{mark}(reason='later'))\n"
    )
    write(pytester.path, {"suites/x.yaml": suite(BREAKS), "conftest.py": marking})
    result = run(pytester, tiny_folder)
    expected = {"xfail": "GATE: FAIL (1 broken)", "skip": "GATE: FAIL (nothing was judged, 1 skipped)"}
    assert (result.ret, gate_of(result)) == (1, expected[mark])


@pytest.mark.slow
@pytest.mark.complete
def test_a_dead_worker_leaves_no_assertion_uncounted(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    dies = "import os\n\ndef pytest_runtest_call(item):\n    if item.name == 'h1':\n        os._exit(3)\n"
    names = [HOLDS.replace("holds", f"h{n}") for n in range(3)]
    write(pytester.path, {"suites/x.yaml": suite(*names), "conftest.py": dies})
    result = run(pytester, tiny_folder, "-n", "1", "--max-worker-restart=0")
    assert result.ret != 0
    assert gate_of(result) == f"GATE: FAIL (1 {Outcome.ERROR.said}, 1 held, 1 not run)"


# -- a training run ------------------------------------------------------------------------------------------------


@WORKERS
def test_steps_that_were_not_run_are_shown_as_not_run(
    pytester: pytest.Pytester, tiny_folder: Path, workers: tuple[str, ...]
) -> None:
    for step in (1, 2, 3):
        shutil.copytree(tiny_folder, pytester.path / "run" / f"checkpoint-{step}")
    write(pytester.path, {"suites/x.yaml": suite(HOLDS, BREAKS)})
    result = run(pytester, pytester.path / "run", "-x", *(workers and ("-n", "1")))
    result.stdout.no_fnmatch_line("*still*")
    result.stdout.fnmatch_lines(
        [
            "  breaks *step 1*not run *step 2, step 3",
            "  1 *not break*",
            "  not run *step 2, step 3",
        ]
    )
    assert gate_of(result) == "GATE: FAIL (1 broken, 1 held, 4 not run)"
    whole = run(pytester, pytester.path / "run", *workers)
    whole.stdout.fnmatch_lines(["  breaks  broken *step 1 *still broken *step 3", "  1 *never broke"])
    assert gate_of(whole) == "GATE: FAIL (3 broken, 3 held)"


def test_a_second_model_that_was_not_run_is_counted(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    other = shutil.copytree(tiny_folder, pytester.path / "other")
    write(pytester.path, {"suites/x.yaml": suite(BREAKS)})
    result = run(pytester, tiny_folder, f"--model={other}", "-x")
    assert gate_of(result) == "GATE: FAIL (1 broken, 1 not run)"
    result.stdout.fnmatch_lines([f"model     {other}", "verdicts  1 not run"])


def test_the_whole_tiny_suite_says_why_beside_what_broke(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    write(pytester.path, {"suites/x.yaml": TINY_SUITE, "pytest.ini": "[pytest]\nmarkers = gate: x\n"})
    result = run(pytester, tiny_folder)
    result.stdout.fnmatch_lines(["  BROKEN     breaks *", "             why: *thousand nats*"])


# -- the hint after a pass -----------------------------------------------------------------------------------------


def line(outcome: str, **more: Any) -> AssertionResult:
    return made_line("m", "x.yaml", more.pop("id", "a"), outcome, **more)


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ([line("HELD")], []),
        ([line("HELD"), line("SKIPPED", reason="X has no s-inhibition heads")], []),
        (
            [line("HELD"), line("SKIPPED", reason="X"), line("SKIPPED", reason="Y", way_out="give --baseline=b/")],
            ["1 of the 2 skipped", "give --baseline=b/"],
        ),
        ([line("HELD"), line("UNRESOLVED")], ["`prompts:`", "1 unresolved"]),
        ([line("HELD", id="late", waiver=waiver("2099-01-01"))], ["waiver", "late", "held"]),
    ],
)
def test_a_hint_after_a_pass_names_something_to_do(lines: list[AssertionResult], named: list[str]) -> None:
    gate = Gate(Rules(), lines)
    assert gate.code(0) == 0
    hint = gate.next(0)
    assert hint.startswith("next: ") == bool(named)
    assert says(hint, *named) if named else hint == ""
