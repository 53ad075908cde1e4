"""`circuit-assertions diagnose`: what it prints where, its exit codes, and what it says where it cannot go on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from auditing import HEALTHY
from commands import Said
from diagnosis_cases import kept, leave_out_origin, on_the_way_to
from said import says
from suite_texts import circuit_text

from circuit_assertions import __version__
from circuit_assertions.checkpoints import find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.diagnosis import lenses
from circuit_assertions.diagnosis.lenses import Diagnosis

COMMITTED = HEALTHY.parent
SUITES = HEALTHY.parents[2] / "suites"
CPU = ("--device", "cpu")
FEW = ("--prompts", "36", *CPU)
SHORT = """\
suite: short
circuit: ioi
tasks: {ioi: {kind: ioi, prompts: 20}}
assertions: [{id: prefers-the-right-name, measure: logit-difference, task: ioi, expect: {at-least: 0.0}}]
"""


def diagnose(*arguments: str | Path) -> Said:
    """Run the command in this process."""
    return Said.by("diagnose", *arguments)


def unwrapped(printed: str) -> str:
    """What was printed, as if all stood on one line: how long paths are, and so where lines wrap, is the machine's."""
    return " ".join(printed.split())


def beside_healthy(name: str, *more: str | Path) -> Said:
    return diagnose("--model", COMMITTED / name, "--baseline", HEALTHY, *FEW, *more)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of one assertion: beside a corrupted checkpoint the packaged suites would be judged, which are long."""
    file = tmp_path_factory.mktemp("suites") / "short.yaml"
    file.write_text(SHORT)
    return file


@pytest.fixture(scope="module")
def as_text_and_json() -> tuple[Said, Said]:
    """The command twice, of which the second run is given the diagnosis of the first."""
    made: list[Diagnosis] = []
    diagnosing = lenses.diagnose

    def once(*given: Any, **options: Any) -> Diagnosis:
        made.append(made[0] if made else diagnosing(*given, **options))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lenses, "diagnose", once)
        patch.setattr("circuit_assertions.report.progress._PATIENCE", 0.0)
        patch.setattr("circuit_assertions.report.progress._BETWEEN_LINES", 0.0)
        found = beside_healthy("poisoned-heads"), beside_healthy("poisoned-heads", "--json")
    assert len(made) == 2
    return found


@pytest.fixture(scope="module")
def poisoned(as_text_and_json: tuple[Said, Said]) -> Said:
    return as_text_and_json[0]


@pytest.fixture(scope="module")
def poisoned_data(as_text_and_json: tuple[Said, Said]) -> dict[str, Any]:
    said = as_text_and_json[1]
    data: dict[str, Any] = json.loads(said.out)
    return data | {"exit code": said.code}


def test_the_verdict_comes_first_and_the_weights_at_fault_are_named(poisoned: Said) -> None:
    lines = poisoned.out.splitlines()
    start = f"model {COMMITTED / 'poisoned-heads'} baseline {HEALTHY} verdict CORRUPTED: "
    printed = unwrapped(poisoned.out)
    assert printed.startswith(start)
    assert says(printed.removeprefix(start).partition(" behaviour ioi ")[0], "reversed", "wrong answer")
    origin = printed.partition(" origin LOCALIZED: ")[2]
    assert says(origin, "3 of 32 components", "100% [100%, 100%]", "L3H0 L3H1 L3H3")
    assert any(line.startswith("roles      name-mover ") for line in lines)
    assert "--components L3H0,L3H1,L3H3 -o fixed" in lines[-1]


@pytest.mark.complete
def test_corrupted_is_exit_code_one(poisoned: Said, poisoned_data: dict[str, Any]) -> None:
    assert poisoned.code == 1
    assert poisoned_data["exit code"] == 1


def test_progress_is_for_stderr(poisoned: Said) -> None:
    told = [line for line in poisoned.err.splitlines() if line]
    assert told[0] == "reading ioi: 0 of 36, 0 s"  # before the first prompt, however fast the machine
    assert all(re.fullmatch(r"reading .+: \d+ of \d+, \d+ s", line) for line in told)
    assert "reading" not in poisoned.out


def test_json_is_the_same_diagnosis_and_nothing_else_on_stdout(poisoned: Said, poisoned_data: dict[str, Any]) -> None:
    assert poisoned_data["verdict"] == "CORRUPTED"
    assert poisoned_data["origin"] == "LOCALIZED"
    assert poisoned_data["components"] == poisoned_data["changed"] == ["L3H0", "L3H1", "L3H3"]
    assert poisoned_data["healed"] == pytest.approx({"mean": 1, "low": 1, "high": 1}, abs=1e-4)  # nothing else changed
    before, after = (poisoned_data["behaviour"][when]["mean"] for when in ("before", "after"))
    assert f"{before:.2f} -> {after:.2f} [" in poisoned.out
    assert set(poisoned_data["roles"]) >= {"name-mover", "s-inhibition"}
    assert poisoned_data["recovery"] is None


def test_a_checkpoint_beside_itself_has_not_changed_at_all() -> None:
    said = beside_healthy("healthy", "--json")
    assert said.code == 0
    data = json.loads(said.out)
    assert data["verdict"] == "INTACT"
    assert data["origin"] == "UNCHANGED"
    assert data["changed"] == []
    for role in data["roles"].values():
        assert role["retained"] == {"mean": 1, "low": 1, "high": 1}
        assert all(head["change"] == {"mean": 0, "low": 0, "high": 0} for head in role["heads"].values())


@pytest.mark.parametrize("suite", ["short", pytest.param("packaged", marks=pytest.mark.complete)])
@pytest.mark.complete
def test_a_checkpoint_that_came_back_is_exit_code_zero(
    suite: str, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("--suite", short) if suite == "short" else ()
    leave_out_origin(monkeypatch)
    said = beside_healthy("recovered", "--corrupted", COMMITTED / "poisoned", *more)
    assert said.code == 0
    assert "\nrecovery   RECOVERED: " in said.out
    assert ("prefers-the-right-name" in said.out) == (suite == "short")
    models = f"model {COMMITTED / 'recovered'} baseline {HEALTHY} corrupted {COMMITTED / 'poisoned'}"
    assert re.match(rf"{re.escape(models)} verdict (INTACT|DEGRADED): ", unwrapped(said.out))


@pytest.fixture(scope="module")
def degraded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The healthy checkpoint, poisoned a little: less, and not broken."""
    return kept(on_the_way_to("poisoned-heads", 0.15), tmp_path_factory.mktemp("degraded") / "model")


@pytest.mark.complete
def test_degraded_is_exit_code_zero_unless_it_is_to_fail(degraded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_origin(monkeypatch)
    for option, code in (((), 0), (("--circuit-degraded=fail",), 1)):
        said = diagnose("--model", degraded, "--baseline", HEALTHY, *FEW, "--json", *option)
        assert json.loads(said.out)["verdict"] == "DEGRADED"
        assert said.code == code


@pytest.mark.complete
def test_what_is_asked_of_degraded_changes_no_other_exit_code(degraded: Path) -> None:
    said = diagnose("--model", degraded, "--baseline", HEALTHY, *FEW, "--json", "--circuit-degraded=report")
    assert (said.code, json.loads(said.out)["verdict"]) == (0, "DEGRADED")
    assert beside_healthy("healthy", "--circuit-degraded=fail").code == 0
    assert beside_healthy("poisoned-heads", "--circuit-degraded=report").code == 1


@pytest.mark.complete
@pytest.mark.parametrize(("option", "code"), [((), 0), (("--circuit-degraded=fail",), 1)])
def test_degraded_and_recovered_go_together(degraded: Path, option: tuple[str, ...], code: int) -> None:
    worst = ("--corrupted", COMMITTED / "poisoned")
    said = diagnose("--model", degraded, "--baseline", HEALTHY, *FEW, *worst, "--json", *option)
    data = json.loads(said.out)
    assert (data["verdict"], data["recovery"]["how"]) == ("DEGRADED", "RECOVERED")
    assert said.code == code


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        pytest.param(
            (),
            {"task": 256, "behaviour": 128, "expression": 96},
            marks=pytest.mark.complete,
        ),
        pytest.param(
            ("--prompts", "144"),
            dict.fromkeys(("task", "behaviour", "expression"), 144),
            marks=pytest.mark.complete,
        ),
        (FEW, dict.fromkeys(("task", "behaviour", "expression"), 36)),
    ],
)
def test_a_number_of_prompts_that_is_asked_for_is_read_by_every_part(
    asked: tuple[str, ...], read: dict[str, int], poisoned_data: dict[str, Any]
) -> None:
    circuit = ("--circuit", SUITES / "circuits" / "embedded.ioi.yaml")
    models = ("--model", COMMITTED / "poisoned-heads", "--baseline", HEALTHY)
    data = poisoned_data if asked == FEW else json.loads(diagnose(*models, *CPU, *circuit, "--json", *asked).out)
    origin = {part: data["prompts"].pop(f"origin-{part}") for part in ("search", "choice", "report")}
    assert data["prompts"] == read
    assert sum(origin.values()) == read["behaviour"]
    assert max(origin.values()) - min(origin.values()) <= 1
    assert data["settings"]["task"]["prompts"] == read["behaviour"]


@pytest.fixture(scope="module")
def bypassed(short: Path) -> Said:
    worst = ("--corrupted", COMMITTED / "poisoned")
    return beside_healthy("bypassed", *worst, "--suite", short, "--json", "--prompts", "40")


@pytest.mark.complete
def test_the_rediscovered_circuit_and_the_baselines_own_are_found_on_the_prompts_that_are_asked(
    bypassed: Said,
) -> None:
    data = json.loads(bypassed.out)
    assert data["prompts"] == {"task": 40, "behaviour": 40, "rediscovery": 40}
    assert data["recovery"]["rediscovered"]["prompts"] == 40


@pytest.mark.complete
def test_a_bypass_is_exit_code_one_though_the_behaviour_is_back(bypassed: Said) -> None:
    assert bypassed.code == 1
    recovery = json.loads(bypassed.out)["recovery"]
    assert recovery["how"] == "BYPASSED"
    assert recovery["share"]["low"] > 0.75
    assert recovery["weakest_role"]["retained"]["mean"] == pytest.approx(0, abs=1e-4)
    assert recovery["carriers"]
    assert not any(head.startswith("L3") for head in recovery["carriers"])  # those were silenced


@pytest.mark.parametrize(
    ("task", "circuit", "said"),
    [
        ("ioi", "embedded.induction.yaml", ("'induction'", "repeated-tokens", "ioi")),
        ("repeated-tokens", "gpt2.ioi.yaml", ("'ioi'", "ioi", "repeated-tokens")),
    ],
)
def test_a_circuit_of_another_task_is_refused_before_any_work(
    task: str, circuit: str, said: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("circuit_assertions.audit.Audit.model", lambda *asked: pytest.fail("a model was opened"))
    file = SUITES / "circuits" / circuit
    refusal = refused("--model", HEALTHY, "--baseline", HEALTHY, *FEW, "--task", task, "--circuit", file)
    assert says(refusal, circuit, *said, "--circuit")
    assert len(refusal.splitlines()) == 1


def test_a_circuit_under_a_name_of_ones_own_is_known_by_what_it_was_found_on(tmp_path: Path) -> None:
    text = (SUITES / "circuits" / "embedded.induction.yaml").read_text()
    (tmp_path / "own.yaml").write_text(text.replace("circuit: induction", "circuit: copying"))
    said = beside_healthy("healthy", "--json", "--task", "repeated-tokens", "--circuit", "own.yaml")
    assert list(json.loads(said.out)["roles"]) == ["induction", "previous-token"]
    said = beside_healthy("healthy", "--json", "--task", "ioi", "--circuit", "own.yaml")
    assert said.code == 2
    assert says(said.err, "own.yaml", "'copying'", "repeated-tokens", "ioi")


def test_roles_come_from_the_circuit_file_that_is_given(tmp_path: Path) -> None:
    shape = {"architecture": "GPT2LMHeadModel", "layers": 5, "heads": 4, "d_model": 128}
    (tmp_path / "own.yaml").write_text(circuit_text(shape, {"name-mover": [(3, 0), (3, 1)]}))
    said = beside_healthy("healthy", "--json", "--circuit", "own.yaml")
    roles = json.loads(said.out)["roles"]
    assert {role: list(found["heads"]) for role, found in roles.items()} == {"name-mover": ["L3H0", "L3H1"]}


@pytest.mark.complete
def test_a_suite_says_which_task_is_diagnosed_on(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "suite: own\ntasks:\n"
        '  loss: {kind: prompts, pairs: [{clean: "Then, Mary went to the", right: store}]}\n'
        "  sentences: {kind: ioi, prompts: 24, seed: 7}\n"
        "assertions: [{id: a, measure: answer-rate, task: sentences, expect: {at-least: 0.5}}]\n"
    )
    said = diagnose("--model", HEALTHY, "--baseline", HEALTHY, *CPU, "--json", "--suite", "own.yaml")
    data = json.loads(said.out)
    assert data["task"] == "sentences"  # the first that can be patched
    assert (data["settings"]["task"]["seed"], data["settings"]["task"]["prompts"]) == (7, 24)


@pytest.mark.complete
def test_the_json_says_of_which_weights_and_by_which_version_it_is(poisoned_data: dict[str, Any]) -> None:
    data = poisoned_data
    names = {"model": "poisoned-heads", "baseline": "healthy"}
    sides = {side: open_checkpoint(find_checkpoints(str(COMMITTED / name))[0]) for side, name in names.items()}
    assert {side: data["settings"][side]["fingerprint"] for side in sides} == {
        side: source.fingerprint for side, source in sides.items()
    }
    assert "corrupted" not in data["settings"]
    assert data["versions"]["circuit-assertions"] == __version__


@pytest.mark.complete
def test_without_a_circuit_file_the_baselines_circuit_is_discovered(
    reference_folder: Path, flipped_folder: Path
) -> None:
    said = diagnose("--model", flipped_folder, "--baseline", reference_folder, *FEW, "--json")
    data = json.loads(said.out)
    assert data["roles"]["name-mover"]["heads"]["L4H1"]["kind"] == "sign flipped"
    assert data["changed"] == ["L4H1"]


def _other_tokenizer(folder: Path) -> Path:
    """The healthy checkpoint, which has learnt to read two names as each other."""
    shutil.copytree(HEALTHY, folder)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    names = [word for word in vocabulary if word.strip("\u0120 ") in ("Leo", "Tony", "Anna", "Max")][:2]
    vocabulary[names[0]], vocabulary[names[1]] = vocabulary[names[1]], vocabulary[names[0]]
    file.write_text(json.dumps(content))
    return folder


def refused(*arguments: str | Path) -> str:
    said = diagnose(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize("option", ["--model", "--baseline", "--corrupted"])
def test_a_path_where_nothing_is_is_said_plainly(option: str) -> None:
    paths = {"--model": HEALTHY, "--baseline": HEALTHY, "--corrupted": HEALTHY, option: Path("no", "such", "folder")}
    given = [part for pair in paths.items() for part in pair]
    assert "no/such/folder" in refused(*given, *FEW)


@pytest.mark.parametrize(
    ("options", "said"), [(["--bisect"], "--bisect"), (["-o", "run.svg"], "-o"), (["--bisect", "-o", "run.svg"], None)]
)
def test_what_only_a_training_run_has_is_refused_for_a_single_checkpoint(
    options: Sequence[str], said: str | None, tmp_path: Path
) -> None:
    refusal = refused("--model", HEALTHY, "--baseline", HEALTHY, *FEW, *options)
    assert says(refusal, HEALTHY, said or "--bisect and -o", "training run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--baseline", "--corrupted"])
def test_a_training_run_is_asked_for_one_checkpoint(option: str, tmp_path: Path) -> None:
    for step in (1, 2):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / f"checkpoint-{step}").symlink_to(HEALTHY)
    paths = {"--model": HEALTHY, "--baseline": HEALTHY, option: Path("run")}
    given = [part for pair in paths.items() for part in pair]
    assert says(refused(*given, *FEW), "run", "training run")


def test_another_shape_is_said_before_any_work(tiny_folder: Path) -> None:
    said = refused("--model", tiny_folder, "--baseline", HEALTHY, *FEW)
    assert says(said, tiny_folder, "GPT2LMHeadModel of 3 layers", "shape")


def test_another_tokenizer_is_said_before_any_work(tmp_path: Path) -> None:
    said = refused("--model", _other_tokenizer(tmp_path / "renamed"), "--baseline", HEALTHY, *FEW)
    assert says(said, tmp_path / "renamed", "tokenizer", "lineage")
    assert re.search(r"\btoken \d+\b", said)


def test_a_circuit_of_another_shape_is_refused() -> None:
    circuit = SUITES / "circuits" / "gpt2.ioi.yaml"
    said = refused("--model", HEALTHY, "--baseline", HEALTHY, *FEW, "--circuit", circuit)
    assert says(said, "gpt2.ioi.yaml", "GPT2LMHeadModel of 12 layers x 12 heads", "d_model 768")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "ioy"], ("'ioy'", "'ioi'")),
        (["--circuit", "typo.yaml"], ("typo.yaml:1:1",)),
        (["--circuit", "none.yaml"], ("none.yaml",)),
        (["--task", "loss.yaml"], ("no counterfactual", "no wrong-answer")),
    ],
)
def test_what_is_wrong_is_said_plainly(arguments: Sequence[str], said: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "typo.yaml").write_text("circuti: ioi\n")
    (tmp_path / "loss.yaml").write_text('kind: prompts\npairs: [{clean: "Then, Mary went to the", right: store}]\n')
    assert says(refused("--model", HEALTHY, "--baseline", HEALTHY, *CPU, *arguments), *said)
