"""`circuit-assertions discover`: its options, its files, and what it says where it cannot go on."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from auditing import HEALTHY
from reference_model import CAST
from said import says

from circuit_assertions.assertions import load_circuit
from circuit_assertions.assertions.chains import chain_named
from circuit_assertions.cli import main

FEW = ("--prompts", "20", "--device", "cpu")
QUICK = ("--task", "repeated-tokens", "--prompts", "24", "--device", "cpu")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def discover(*arguments: str | Path) -> int:
    return main(["discover", *map(str, arguments)])


@dataclass(frozen=True)
class Found:
    """What one run of the command left behind."""

    file: Path
    out: str
    err: str


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """One quick discovery, as JSON, with the file that it wrote. Not to be changed."""
    file, out, err = tmp_path_factory.mktemp("found") / "found.yaml", io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr("circuit_assertions.report.progress._PATIENCE", 0.0)
        assert discover("--model", HEALTHY, *QUICK, "-o", file, "--json") == 0
    return Found(file, out.getvalue(), err.getvalue())


def test_a_circuit_file_and_a_head_map_are_written_where_suites_look_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert discover("--model", HEALTHY, *QUICK) == 0
    file = Path("suites", "circuits", "healthy.induction.yaml")
    circuit = load_circuit(tmp_path / file)
    assert circuit.circuit == "induction"
    assert list(circuit.roles)[:2] == ["induction", "previous-token"]
    assert (tmp_path / file.with_suffix(".svg")).read_text().startswith("<svg ")
    written = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("written "))
    assert says(written, file, file.with_suffix(".svg"))


@pytest.mark.complete
def test_twice_is_the_same_byte_for_byte(quick: Found, tmp_path: Path) -> None:
    assert discover("--model", HEALTHY, *QUICK, "-o", "second.yaml") == 0
    assert quick.file.read_bytes() == (tmp_path / "second.yaml").read_bytes()
    assert quick.file.with_suffix(".svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


def test_json_is_the_result_and_only_that(quick: Found) -> None:
    said = json.loads(quick.out)
    written = yaml.safe_load(quick.file.read_text())
    assert (said["kind"], said["schema_version"], said["file"]) == ("discovery", 1, str(quick.file))
    assert (said["circuit"], said["found"]["roles"]) == (written["circuit"], written["roles"])
    assert set(said["found"]["heads"]) == set(written["found"]["heads"])
    assert said["found"]["metric"] == {"name": "logit-difference", "called": "logit difference", "unit": "logits"}
    role = chain_named(said["circuit"]).roles["previous-token"]
    assert [said["found"][how]["previous-token"] for how in ("shorts", "colours")] == [role.short, role.colour]
    assert said["found"]["faithfulness"]["circuit"]["mean"] == pytest.approx(
        written["found"]["faithfulness"]["circuit"][0], rel=1e-2
    )


def test_json_gives_the_reason_where_there_is_no_circuit(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert discover("--model", tiny_folder, *QUICK, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["circuit"] is None
    assert says(said["reason"], "the task", "75%")


@pytest.mark.complete
def test_the_name_and_the_circuits_name_can_be_given(tmp_path: Path) -> None:
    assert discover("--model", HEALTHY, *QUICK, "--name", "ours", "--circuit", "copying", "--seed", "3") == 0
    circuit = load_circuit(tmp_path / "suites" / "circuits" / "ours.copying.yaml")
    assert circuit.circuit == "copying"
    assert circuit.found is not None
    assert circuit.found.task["seed"] == 3
    assert circuit.found.task["prompts"] == 24


@pytest.mark.complete
def test_notes_that_people_wrote_survive(quick: Found, tmp_path: Path) -> None:
    file = tmp_path / "found.yaml"
    shutil.copy(quick.file, file)
    notes = "two people saw it: it holds"
    file.write_text(file.read_text().replace("\nroles:", f"\nnotes: '{notes}'\nroles:"))
    for _ in range(2):
        assert discover("--model", HEALTHY, *QUICK, "-o", "found.yaml") == 0
        assert load_circuit(file).notes == notes


def test_what_is_no_circuit_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "suite.yaml").write_text("suite: mine\n")
    assert discover("--model", HEALTHY, "-o", "suite.yaml") == 2
    assert says(capsys.readouterr().err, "suite.yaml exists")
    assert (tmp_path / "suite.yaml").read_text() == "suite: mine\n"


@pytest.mark.complete
def test_names_and_templates_come_from_the_command_line(tmp_path: Path, reference_folder: Path) -> None:
    template = "Then, {first} and {second} went to the {place}. {subject} gave a {object} to"
    wording = ("--names", "Mary, John,Tom,Anna,James,Kate", "--template", template)
    assert discover("--model", reference_folder, *FEW, *wording, "-o", "found.yaml") == 0
    circuit = load_circuit(tmp_path / "found.yaml")
    assert circuit.found is not None
    assert circuit.found.task["names"] == 6
    assert circuit.found.task["templates"] == 1
    assert {role: tuple(heads) for role, heads in circuit.roles.items()} == dict(CAST)


@pytest.mark.complete
def test_the_least_effect_that_counts_can_be_raised(tmp_path: Path, reference_folder: Path) -> None:
    assert discover("--model", reference_folder, *FEW, "--least-effect", "40%", "-o", "found.yaml") == 0
    circuit = load_circuit(tmp_path / "found.yaml")
    assert circuit.found is not None
    assert circuit.found.settings["least-effect"] == 0.4
    everyone = {head for heads in CAST.values() for head in heads}
    assert {head for heads in circuit.roles.values() for head in heads} < everyone


@pytest.mark.complete
def test_prompts_of_ones_own_give_heads_without_role_names(
    tmp_path: Path, reference_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["Mary", "John", "Tom", "Anna", "James", "Kate"]
    lines = []
    for index in range(24):
        giver, taker, other = (names[(index * step + shift) % 6] for step, shift in ((1, 0), (1, 1), (1, 2)))
        place = ["store", "school", "garden", "office"][index // 6]
        clean = f"Then, {{giver:{giver}}} and {{taker:{taker}}} went to the {place}. {giver} gave a ring to"
        twin = f"Then, {giver} and {taker} went to the {place}. {other} gave a ring to"
        lines.append(json.dumps({"clean": clean, "counterfactual": twin, "right": taker, "wrong": giver}))
    (tmp_path / "gifts.jsonl").write_text("\n".join(lines))
    (tmp_path / "gifts.yaml").write_text("kind: prompts\nfile: gifts.jsonl\n")
    assert discover("--model", reference_folder, "--task", "gifts.yaml", "--device", "cpu") == 0
    circuit = load_circuit(tmp_path / "suites" / "circuits" / f"{reference_folder.name}.gifts.yaml")
    assert list(circuit.roles) == ["unexplained"]
    assert set(CAST["name-mover"]) <= set(circuit.roles["unexplained"])
    assert circuit.found is not None
    assert circuit.found.heads["L4H1"]["attention end -> taker"] > 0.5
    assert re.search(r"unexplained +L\d", capsys.readouterr().out)


def test_progress_is_for_stderr(quick: Found) -> None:
    assert "reading " not in quick.out
    assert len(re.findall("^reading repeated-tokens, ", quick.err, re.MULTILINE)) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "ioy"], ("'ioy'", "'ioi'")),
        (["--task", "typo.yaml"], ("typo.yaml:2:1",)),
        (["--task", "suite.yaml::gift"], ("suite.yaml", "'gift'", "'gifts'")),
        (["--prompts", "15"], ("15", "prompts", "16")),
        (["--task", "loss.yaml"], ("no counterfactual", "no wrong-answer")),
        (["-o", "."], (".", "folder", "-o")),
        (["-o", "found.json"], ("found.json", ".yaml")),
        (["-o", "drawn.yaml"], ("drawn.svg", "folder", "-o FILE")),
        (["-o", "typo.yaml/found.yaml"], ("typo.yaml", "-o FILE")),
        (["--task", "repeated-tokens", "--names", "Mary"], ("names",)),
        (["--names", "Mary,John"], ("'names'", 5, 2)),
        (["--names", "Mary"], ("'names'", 5, 1)),
    ],
)
def test_what_is_wrong_is_said_plainly(
    arguments: list[str],
    said: tuple[object, ...],
    tmp_path: Path,
    tiny_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "typo.yaml").write_text("kind: ioi\nprompst: 20\n")
    (tmp_path / "loss.yaml").write_text('kind: prompts\npairs: [{clean: "Then, Mary went to the", right: store}]\n')
    (tmp_path / "suite.yaml").write_text(
        "suite: s\ntasks: {gifts: {kind: ioi}}\n"
        "assertions: [{id: a, measure: answer-rate, task: gifts, expect: {at-least: 0.5}}]\n"
    )
    (tmp_path / "drawn.svg").mkdir()
    before = sorted(tmp_path.iterdir())
    assert discover("--model", tiny_folder, *arguments) == 2
    printed = capsys.readouterr()
    assert says(printed.err, *said)
    assert printed.out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_training_run_is_asked_for_one_checkpoint(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / f"checkpoint-{step}").symlink_to(tiny_folder)
    assert discover("--model", "run") == 2
    assert says(capsys.readouterr().err, "run", "training run")


@pytest.mark.parametrize("share", ["0", "100%", "-2%", "much"])
def test_the_least_effect_must_be_a_share(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        discover("--model", HEALTHY, f"--least-effect={share}")
    assert says(capsys.readouterr().err, "--least-effect", repr(share), "2%", "0.02")
