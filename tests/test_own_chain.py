"""A user's own prompts and chain file: the reference model's cast is found under the names that the chain gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from auditing import HEALTHY, Audited, ioi
from own_chain import POSITIONS, ROLES, own_chain, own_suite, write_project
from reference_model import CAST, word_tokenizer
from said import says

from circuit_assertions.assertions import SuiteError, load_circuit, load_suite
from circuit_assertions.assertions.packaged import circuits_beside
from circuit_assertions.assertions.task_lookup import find_task
from circuit_assertions.cli import main
from circuit_assertions.diagnosis.discovery import Discovery, circuit_content, discover
from circuit_assertions.report.discovered import map_of
from circuit_assertions.results import DiscoveryResult

RENAMED = {ROLES[role]: tuple(f"L{layer}H{head}" for layer, head in heads) for role, heads in CAST.items()}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = own_suite(word_tokenizer(), chain="gifts")
    return write_project(tmp_path_factory.mktemp("project"), text, own_chain())


@pytest.fixture(scope="module")
def found(suite: Path, reference_folder: Path) -> Discovery:
    name, task = find_task(f"{suite}::gifts")
    audited = Audited(reference_folder)
    return discover(audited.audit, audited.checkpoint, task, name=name)


@pytest.mark.complete
def test_the_cast_is_found_under_the_chains_names(found: Discovery) -> None:
    roles = {role: tuple(map(str, heads)) for role, heads in found.followed.roles.items()}
    assert roles == RENAMED


@pytest.mark.complete
def test_stages_and_evidence_have_the_chains_names(found: Discovery) -> None:
    stages = {one.role: one.telling.stage for one in found.followed.placed}
    named = {
        "writer": ["logits"],
        "eraser": ["logits"],
        "blocker": ["queries", "writer", "end"],
        "matcher": ["values", "blocker", "giver-again"],
        "continuer": ["values", "blocker", "giver-again"],
        "looker-back": ["keys", "continuer", "after-giver"],
        "stand-in": ["writer", "knocked out"],
    }
    assert stages.keys() == named.keys()
    assert [role for role, parts in named.items() if not says(stages[role], *parts)] == []
    writer = next(one for one in found.followed.placed if one.role == "writer")
    assert list(writer.evidence) == ["attention end -> receiver", "copy-score"]


@pytest.mark.complete
def test_the_circuit_file_is_one_that_suites_take(found: Discovery, tmp_path: Path) -> None:
    content = circuit_content(found)
    assert content["circuit"] == "gifts"
    assert content["found"]["settings"]["chain"] == "gifts"
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    circuit = load_circuit(tmp_path / "own.yaml")
    assert circuit.found is not None
    assert {threshold.heads for threshold in circuit.found.thresholds} >= {*RENAMED, "circuit"}


@pytest.mark.complete
def test_the_head_map_has_the_chains_abbreviations(found: Discovery) -> None:
    named = map_of(DiscoveryResult.of(found, "own.yaml")).named
    assert named["NM"] == "writer"
    assert list(named.values()) == [ROLES[role] for role in ("name-mover", "negative-name-mover")] + [
        "stand-in",
        "blocker",
        "continuer",
        "matcher",
        "looker-back",
    ]


@pytest.mark.complete  # the same option of diagnose and trajectory is in the normal run, below
def test_the_command_follows_a_chain_that_is_given_as_a_file(
    reference_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, own_suite(word_tokenizer()), own_chain())
    monkeypatch.chdir(tmp_path)
    asked = ["--model", str(reference_folder), "--task", "suites/gifts.yaml", "--chain", "suites/chains/own.yaml"]
    assert main(["discover", *asked, "--device", "cpu", "--json", "-o", "found.yaml"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {role: tuple(heads) for role, heads in said["found"]["roles"].items()} == RENAMED


@pytest.mark.parametrize(
    ("verb", "chosen"), [("diagnose", True), ("trajectory", True), pytest.param("trajectory", False, id="no chain")]
)
@pytest.mark.complete
def test_comparing_with_a_baseline_follows_the_chain_that_is_given(
    verb: str,
    chosen: bool,
    found: Discovery,
    reference_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stand-ins have an effect once writers are knocked out, which only the chain knows: by default it is none."""
    stable = {"id": "stable", "measure": "role-stability", "heads": "stand-in", "task": "gifts"}
    asked = yaml.safe_load(own_suite(word_tokenizer()))
    asked["assertions"] = [{**stable, "expect": {"at-least": 0.5}}]
    write_project(tmp_path, yaml.safe_dump(asked), own_chain())
    (tmp_path / "circuit.yaml").write_text(yaml.safe_dump(circuit_content(found)))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint-1").symlink_to(reference_folder)
    monkeypatch.chdir(tmp_path)
    model = "run" if verb == "trajectory" else str(reference_folder)
    options = ["--suite", "suites/gifts.yaml", "--circuit", "circuit.yaml", "--device", "cpu", "--json"]
    options += ["--chain", "suites/chains/own.yaml"] if chosen else []
    assert main([verb, "--model", model, "--baseline", str(reference_folder), *options]) == (0 if chosen else 2)
    said = json.loads(capsys.readouterr().out)
    if verb == "diagnose":
        assert set(said["roles"]) == set(RENAMED)
        assert said["assertions"]["stable"]["verdict"] == "HELD"
        return
    (step,) = said["steps"]
    assert (set(step["roles"]), set(step["roles_not_compared"])) == ((set(RENAMED), set())[:: 1 if chosen else -1])
    assert step["verdicts"] == {"stable": "HELD" if chosen else "SKIPPED"}


@pytest.mark.complete
def test_without_a_chain_the_same_prompts_give_heads_without_roles(suite: Path, reference_folder: Path) -> None:
    _, task = find_task(f"{suite}::gifts")
    audited = Audited(reference_folder)
    without = discover(audited.audit, audited.checkpoint, task.model_copy(update={"chain": None}), name="gifts")
    assert set(without.followed.roles) == {"unexplained"}
    assert without.circuit == "gifts"


def problems(folder: Path, named: str) -> list[str]:
    """What is wrong with a suite whose task names a chain."""
    file = write_project(folder, own_suite(word_tokenizer(), 2, chain=named), own_chain())
    with pytest.raises(SuiteError) as raised:
        load_suite(file, circuits_beside(file, own=folder))
    return [line.removeprefix(f"{file}:") for line in str(raised.value).splitlines()]


def test_an_unknown_chain_is_told_with_the_one_that_was_meant(tmp_path: Path) -> None:
    (said,) = problems(tmp_path, "gift")
    assert said.endswith("unknown chain 'gift' (did you mean 'gifts'?)")


def test_positions_that_the_task_does_not_label_are_named(tmp_path: Path) -> None:
    (said,) = problems(tmp_path, "ioi")
    missing = ", ".join(sorted(POSITIONS))
    assert says(said, f"chain 'ioi' reads the positions {missing}", "task 'gifts'")
    assert says(said.partition(missing)[2], "after-giver, end, giver, giver-again, receiver")


def test_a_chain_for_another_task_is_refused_before_a_model_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["discover", "--model", str(HEALTHY), "--chain", "induction"]) == 2
    assert "reads the positions after-earlier, earlier" in capsys.readouterr().err
    assert main(["discover", "--model", str(HEALTHY), "--chain", "oii"]) == 2
    assert "unknown chain 'oii' (did you mean 'ioi'?)" in capsys.readouterr().err


def test_a_users_chain_of_the_same_name_comes_before_the_packaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference_folder: Path
) -> None:
    chain = {"chain": "ioi", "roles": {"any-writer": {}}, "stages": [{"to": "logits", "rules": []}]}
    chain["stages"][0]["rules"] = [{"role": "any-writer", "attends": {"from": "end", "to": "indirect-object"}}]  # type: ignore[index]
    (tmp_path / "suites" / "chains").mkdir(parents=True)
    (tmp_path / "suites" / "chains" / "ioi.yaml").write_text(yaml.safe_dump(chain))
    monkeypatch.chdir(tmp_path)
    audited = Audited(reference_folder)
    found = discover(audited.audit, audited.checkpoint, ioi(prompts=16))
    assert set(found.followed.roles) <= {"any-writer", "unexplained"}
    assert {f"L{layer}H{head}" for layer, head in CAST["name-mover"]} <= set(
        map(str, found.followed.roles["any-writer"])
    )
