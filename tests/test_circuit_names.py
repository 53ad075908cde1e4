"""The circuit that a suite names must be one that is known: a misspelt name would skip what the suite asserts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from auditing import HEALTHY
from hypothesis import given, settings
from hypothesis import strategies as st
from said import says
from suite_texts import circuit_text, write

from circuit_assertions.assertions import SuiteError, load_suite
from circuit_assertions.assertions.chains import chain_for, chains_beside
from circuit_assertions.assertions.circuit_names import Unbound
from circuit_assertions.assertions.packaged import circuits_beside
from circuit_assertions.assertions.task_lookup import find_task
from circuit_assertions.cli import main
from circuit_assertions.tasks import kinds, known_circuits

KNOWN_CIRCUITS = sorted({*chains_beside().names, *(circuit.circuit for circuit in circuits_beside(own=Path("none")))})
TASKS = "tasks: {ioi: {kind: ioi, prompts: 8}}\n"
ROLE = "assertions: [{id: a, measure: direct-effect, heads: name-mover, task: ioi, expect: {sign: positive}}]\n"
WHOLE = "assertions: [{id: a, measure: faithfulness, heads: circuit, task: ioi, expect: {at-least: 0.5}}]\n"
WITHOUT = (
    "assertions: [{id: a, measure: direct-effect, heads: [L1H1], without: name-mover, task: ioi,\n"
    "  expect: {sign: positive}}]\n"
)
RECEIVER = (
    "assertions: [{id: a, measure: path-effect, heads: [L1H1], receiver: {query: name-mover}, task: ioi,\n"
    "  expect: {sign: positive}}]\n"
)
NO_ROLE = "assertions: [{id: a, measure: direct-effect, heads: any, task: ioi, expect: {sign: positive}}]\n"
SHAPE = {"architecture": "GPT2LMHeadModel", "layers": 5, "heads": 4, "d_model": 128}


def problems(folder: Path, text: str, *, name: str = "ioi.yaml", unbound: Unbound = "refused") -> list[str]:
    """What is wrong with a suite, without its path in front."""
    file = write(folder, {name: "suite: x\n" + text}) / name
    try:
        load_suite(file, circuits_beside(file, own=folder), unbound=unbound)
    except SuiteError as error:
        return [line.removeprefix(f"{file}:") for line in str(error).splitlines()]
    return []


def edits(word: str) -> list[str]:
    """Every word that one slip of the finger makes of it: a letter dropped, doubled, swapped or replaced."""
    cuts = [(word[:place], word[place:]) for place in range(len(word))]
    dropped = [a + b[1:] for a, b in cuts if len(word) > 3]
    doubled = [a + b[0] + b for a, b in cuts]
    swapped = [a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1 and b[0] != b[1]]
    replaced = [a + "x" + b[1:] for a, b in cuts]
    return sorted({*dropped, *doubled, *swapped, *replaced} - {word})


@settings(max_examples=40, deadline=None)
@given(
    slip=st.sampled_from([(name, typo) for name in known_circuits() for typo in edits(name)]),
    assertions=st.sampled_from([ROLE, NO_ROLE]),
)
def test_a_slip_in_the_circuits_name_is_an_error_with_the_name_that_was_meant(
    slip: tuple[str, str], assertions: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    meant, typo = slip
    (said,) = problems(tmp_path_factory.mktemp("suite"), f"circuit: {typo}\n{TASKS}{assertions}")
    assert said.startswith(f"2:1: unknown circuit {typo!r} (did you mean {meant!r}?)")


@pytest.mark.parametrize("name", known_circuits())
def test_what_discover_finds_is_known(tmp_path: Path, name: str) -> None:
    assert problems(tmp_path, f"circuit: {name}\n{TASKS}{ROLE}") == []
    assert problems(tmp_path, TASKS + ROLE, name=f"{name}.small.yaml") == []


def test_the_known_names_are_those_of_the_chains() -> None:
    chains = [chain_for(find_task(kind)[1], "own").name for kind in kinds() if kinds()[kind].circuit]
    assert sorted(chains) == sorted(known_circuits())


@pytest.mark.parametrize(
    ("assertions", "key"),
    [(ROLE, "heads"), (WHOLE, "heads"), (WITHOUT, "without"), (RECEIVER, "receiver"), (NO_ROLE, "")],
)
def test_without_a_circuit_the_files_name_must_be_known_where_a_role_is_used(
    tmp_path: Path, assertions: str, key: str
) -> None:
    found = problems(tmp_path, TASKS + assertions, name="gifts.yaml")
    if not key:
        assert found == []
        return
    (said,) = found
    assert said.startswith(f"3:{assertions.index(key) + 1}: ")
    assert says(said, "'gifts'", f"known: {', '.join(KNOWN_CIRCUITS)}")
    assert "`circuit:" in said


@pytest.mark.parametrize("folder", ["", "own/"])
def test_a_circuit_file_makes_its_name_known(tmp_path: Path, folder: str) -> None:
    text = f"circuit: mine\n{TASKS}{ROLE}"
    (said,) = problems(tmp_path, text, name="suites/x.yaml")
    assert said.startswith("2:1: ")
    assert says(said, "'mine'", f"known: {', '.join(KNOWN_CIRCUITS)}")
    place = {"": "suites/circuits/m.yaml", "own/": "circuits/m.yaml"}[folder]  # beside the suite; the person's own
    write(tmp_path, {place: circuit_text(SHAPE, {"name-mover": [(3, 0)]}, "mine")})
    assert problems(tmp_path, text, name="suites/x.yaml") == []
    (said,) = problems(tmp_path, text.replace("mine", "mien"), name="suites/x.yaml")
    assert "(did you mean 'mine'?)" in said


def test_the_command_that_is_named_reads_the_suite_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (said,) = problems(tmp_path, f"circuit: mine\n{TASKS}{ROLE}", name="my suite.yaml")
    command = re.search("`(.*)`", said)
    assert command is not None
    program, *arguments = shlex.split(command[1])
    assert program == "circuit-assertions"
    monkeypatch.chdir(tmp_path)
    # As far as the model, which is a placeholder: the suite was read.
    assert main(arguments) == 2
    assert "no such path: path/" in capsys.readouterr().err
    assert main(["show-task", "my suite.yaml", "--model", str(HEALTHY)]) == 0
    assert main(["validate", "my suite.yaml"]) == 1


def test_without_a_task_to_find_it_by_the_circuit_file_is_the_way_out(tmp_path: Path) -> None:
    plain = "tasks: {own: {kind: prompts, pairs: [{clean: One two, right: three}]}}\n"
    loss = "assertions: [{id: a, measure: loss, task: own, expect: {at-most: 9}}]\n"
    for unbound in ("refused", "discovered"):  # nothing can be discovered by such a task either
        (said,) = problems(tmp_path, f"circuit: mine\n{plain}{loss}", unbound=unbound)
        assert "/circuits/NAME.mine.yaml" in said


def test_where_circuits_are_discovered_on_the_spot_any_name_will_do(tmp_path: Path) -> None:
    assert problems(tmp_path, f"circuit: mine\n{TASKS}{ROLE}", unbound="discovered") == []
    assert problems(tmp_path, TASKS + ROLE, name="gifts.yaml", unbound="discovered") == []


def test_other_problems_of_the_file_are_told_with_it(tmp_path: Path) -> None:
    said = problems(tmp_path, f"circuit: iio\n{TASKS.replace('prompts', 'promts')}{ROLE.replace('mover', 'mver')}")
    assert [line.split(": ")[1][:15] for line in said] == ["unknown circuit", "unknown key 'pr", "unknown role 'n"]


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize("args", [(), ("--circuit-unresolved=fail",)])
def test_a_gate_does_not_pass_on_a_misspelt_circuit(
    pytester: pytest.Pytester, tiny_folder: Path, args: tuple[str, ...]
) -> None:
    write(pytester.path, {"suites/x.yaml": f"suite: x\ncircuit: iio\n{TASKS}{ROLE}"})
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", *args)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "suites/x.yaml:2:1: unknown circuit 'iio' (did you mean 'ioi'[?])*",
            "GATE: FAIL (1 file *)",
        ]
    )
    found = pytester.runpytest_inprocess(
        f"--model={tiny_folder}", f"--baseline={tiny_folder}", "--discover", "--collect-only", "-q"
    )
    assert found.ret == 0
