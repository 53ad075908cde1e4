"""The command line: what each verb prints, and the exit code that a script may rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import copy_of
from said import says
from syrupy.assertion import SnapshotAssertion
from tiny_models import save_tiny

from circuit_assertions import __version__
from circuit_assertions.assertions.chains import chains_beside
from circuit_assertions.assertions.packaged import circuits_beside, packaged_suites
from circuit_assertions.assertions.task_lookup import find_task
from circuit_assertions.cli import main
from circuit_assertions.components import KINDS
from circuit_assertions.measures import MEASURES

PROGRAM = "import sys; from circuit_assertions.cli import main; sys.exit(main())"
SUITE = """
suite: what this model does
tasks:
  sentences: {kind: ioi, prompts: 4, templates: ["Then, {first} and {second} had fun. {subject} said to"]}
  mine:
    kind: prompts
    pairs:
      - {clean: "Then, {giver:Mary} went to the", counterfactual: "Then, Tom went to the", right: store, wrong: park}
      - {clean: "{giver:John} gave it to", right: Mary}
assertions:
  - {id: answers, measure: logit-difference, task: sentences, expect: {at-least: -1000}}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A valid suite."""
    (tmp_path / "mine.yaml").write_text(SUITE)
    return tmp_path / "mine.yaml"


def _run(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


# -- measures, schema, version ------------------------------------------------------------------------------------


def test_measures_lists_every_measure_with_its_operands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["measures"]) == 0
    printed = capsys.readouterr().out
    for name, spec in MEASURES.items():
        whole = "a set of heads" if spec.joint else "the model"
        of = ", ".join(KINDS[kind] for kind in spec.components) if spec.by_head else whole
        assert f"{name}  (of {of}; {spec.unit})" in printed
        part = " ".join(printed.split(f"{name}  (of")[1].split("\n\n")[0].split())
        assert spec.help in part
        keys = spec.operands.by_key()
        assert all(f"{key}: " in part for key in {*keys} - {"without", "set"})
        assert ("receiver: heads" in part) == ("receiver" in keys and keys["receiver"].is_required())


def test_the_schema_describes_suites_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"suite", "tasks", "assertions"}
    tasks = schema["properties"]["tasks"]["additionalProperties"]
    assert set(tasks["discriminator"]["mapping"]) == {
        "entity-tracking",
        "ioi",
        "repeated-tokens",
        "prompts",
        "templates",
    }
    assertion = schema["$defs"]["Assertion"]
    assert {"id", "measure", "task", "expect", "heads", "at-least-heads"} <= set(assertion["properties"])
    assert "at_least_heads" not in assertion["properties"]
    for definition in schema["$defs"].values():
        for name, described in definition.get("properties", {}).items():
            assert described.get("description") or "$ref" in described or "const" in described, name


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"circuit-assertions {__version__}\n"


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["schema"], ["validate", "no.yaml"], ["frobnicate"], []]
)
def test_the_module_is_the_same_program(tmp_path: Path, arguments: list[str]) -> None:
    script = str(Path(sys.executable).parent / "circuit-assertions")
    ran = [
        subprocess.run([*program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        for program in ([script], [sys.executable, "-m", "circuit_assertions"])
    ]
    assert ran[0].stdout == ran[1].stdout
    assert ran[0].stderr == ran[1].stderr
    assert ran[0].returncode == ran[1].returncode


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], ["VERB"]),
        (["frobnicate"], ["'frobnicate'"]),
        (["measures", "--frob"], ["--frob"]),
        (["show-task", "mine.yaml"], ["--model"]),
        (["show-task", "mine.yaml", "--model", "m", "--most", "-1"], ["--most", "'-1'"]),
        (["audit"], ["model"]),
        (["audit", "-k", "induction", "model/"], ["model first"]),
        (["validate"], ["paths"]),
    ],
)
def test_a_wrong_command_exits_with_2_and_says_why(
    arguments: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert says(capsys.readouterr().err, *said)


@pytest.mark.parametrize("verb", ["schema", "measures"])
def test_a_reader_that_has_seen_enough_causes_no_traceback(verb: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", PROGRAM, verb]
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == ""


# -- validate -----------------------------------------------------------------------------------------------------


def test_the_suites_that_come_with_the_package_are_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(packaged_suites())]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"ioi.yaml: valid", "induction.yaml: valid"} <= {line.split("/")[-1] for line in lines}
    assert any("circuits/gpt2.ioi.yaml: valid" in line for line in lines)


def test_validate_names_every_problem_with_its_place_and_exits_with_1(
    suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = suite.with_name("wrong.yaml")
    wrong.write_text(SUITE.replace("logit-difference", "logit-diference").replace("prompts: 4", "promts: 4"))
    assert main(["validate", str(suite), str(wrong)]) == 1
    good, key, *measure = capsys.readouterr().out.splitlines()
    assert good == f"{suite}: valid"
    assert key.startswith(f"{wrong}:4:")
    assert "unknown key 'promts' (did you mean 'prompts'?)" in key
    assert any(line.startswith(f"{wrong}:11:") and "did you mean 'logit-difference'?" in line for line in measure)


def test_validate_refuses_a_circuit_that_nobody_knows(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {*chains_beside().names, *(circuit.circuit for circuit in circuits_beside(suite))}
    known = f" (known: {', '.join(sorted(names))})"
    for name, hint in (("iio", " (did you mean 'ioi'?)"), ("zzz", known)):
        suite.write_text(f"circuit: {name}\n" + SUITE)
        assert main(["validate", str(suite)]) == 1
        assert capsys.readouterr().out.startswith(f"{suite}:1:1: unknown circuit {name!r}{hint}; ")


@pytest.mark.parametrize("name", ["nowhere.yaml", "empty"])
def test_validate_exits_with_2_where_there_is_nothing_to_check(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["validate", str(tmp_path / name)]) == 2
    assert str(tmp_path / name) in capsys.readouterr().err


def test_validate_checks_circuit_files_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_of(packaged_suites(), tmp_path / "suites")
    circuit = tmp_path / "suites" / "circuits" / "gpt2.ioi.yaml"
    circuit.write_text(circuit.read_text().replace("L9H9", "L12H9"))
    assert main(["validate", str(circuit)]) == 1
    assert "L12H9 is outside the 12 layers of 12 heads" in capsys.readouterr().out


# -- show-task ----------------------------------------------------------------------------------------------------


def test_show_task_prints_prompts_as_the_model_reads_them(
    model: Path, suite: Path, capsys: pytest.CaptureFixture[str], snapshot: SnapshotAssertion
) -> None:
    assert main(["show-task", str(suite), "mine", "--model", str(model)]) == 0
    assert capsys.readouterr().out == snapshot


def test_show_task_takes_the_first_task_and_prints_as_many_as_asked(
    model: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for most, rest in (("1", "and 3 more"), ("0", "and 4 more"), ("4", "")):
        assert main(["show-task", str(suite), "--model", str(model), "--most", most]) == 0
        printed = capsys.readouterr().out
        assert says(printed.splitlines()[0], "4 prompts", "11 tokens")
        assert printed.count("counterfactual") == int(most)
        assert rest in printed


TASK = """\
kind: prompts
pairs:
  - {clean: "Then, {giver:Mary} went to the", counterfactual: "Then, Tom went to the", right: store, wrong: park}
"""


@pytest.mark.parametrize(
    ("said", "prompts"),
    [
        (["ioi"], 256),
        (["repeated-tokens"], 64),
        (["task.yaml"], 1),
        (["of-a-file.yaml"], 1),
        (["mine.yaml::mine"], 2),
        (["mine.yaml", "mine"], 2),
        (["mine.yaml"], 4),
    ],
)
def test_every_verb_reads_a_task_alike(
    model: Path,
    suite: Path,
    said: list[str],
    prompts: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What `discover`, `diagnose`, `edges` and `trajectory` take for --task, show-task takes as well."""
    monkeypatch.chdir(suite.parent)
    Path("task.yaml").write_text(TASK)
    Path("of-a-file.yaml").write_text("kind: prompts\nfile: pairs.jsonl\n")
    Path("pairs.jsonl").write_text('{"clean": "Then, Mary went to the", "right": "store"}\n')
    assert main(["show-task", *said, "--model", str(model), "--most", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{prompts} prompts ")
    _, task = find_task("::".join(said))
    from circuit_assertions.checkpoints import Opening, find_checkpoints
    from circuit_assertions.checkpoints.opening import open_tokenizer

    assert task.build(open_tokenizer(find_checkpoints(str(model))[0], Opening())).token_hash[:16] in shown


def test_show_task_takes_another_tokenizer_where_the_model_has_none(
    model: Path, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = copy_of(model, tmp_path / "bare", without="tokenizer.json")
    assert main(["show-task", str(suite), "--model", str(bare)]) == 2
    assert "has no tokenizer: give one with --tokenizer=path/" in capsys.readouterr().err
    assert main(["show-task", str(suite), "--model", str(bare), "--tokenizer", str(model)]) == 0


def test_show_task_says_what_is_missing_in_one_line(
    model: Path, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        ([str(suite), "sentence", "--model", str(model)], "has no task 'sentence' (did you mean 'sentences'?)"),
        ([str(tmp_path / "no.yaml"), "--model", str(model)], "no.yaml: cannot be read"),
        ([str(suite), "--model", str(tmp_path / "nowhere")], "no such path"),
    ):
        assert main(["show-task", *arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert said in printed.err
        assert len(printed.err.splitlines()) == 1


# -- audit --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.complete
def test_audit_puts_the_packaged_suites_to_a_model_and_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    # The project that the user stands in has a configuration of its own, which is not about these suites.
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "--no-such-option"\n')
    (tmp_path / "conftest.py").write_text("raise SystemExit('not about the audit')")
    before = sorted(tmp_path.iterdir())
    relative = os.path.relpath(model, tmp_path)
    done = _run("audit", relative, "-k", "some-head-does-induction", "--model-device=cpu", folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr  # a model of random numbers does no induction
    assert "some-head-does-induction" in done.stdout
    assert "prefers-the-indirect-object" not in done.stdout
    assert "warnings summary" not in done.stdout
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("arguments", "code"), [(["-k", "nothing-is-called-so"], 5), (["--no-such-option"], 4)])
@pytest.mark.complete
def test_the_exit_code_of_audit_is_pytests(arguments: list[str], code: int, model: Path, tmp_path: Path) -> None:
    assert _run("audit", model, *arguments, folder=tmp_path).returncode == code


def test_audit_of_a_path_that_is_not_there_says_so(tmp_path: Path) -> None:
    done = _run("audit", "./nowhere", folder=tmp_path)
    assert done.returncode == 4
    assert "no such path: ./nowhere" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
