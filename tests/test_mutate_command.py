"""`circuit-assertions mutate`: what it finds, what it keeps, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import pytest
from auditing import Audited, ioi
from checkpoint_files import hashes
from said import says
from suite_texts import REFERENCE_SUITE, circuit_text, write
from tiny_models import save_tiny
from transformers import GPT2LMHeadModel

from circuit_assertions.assertions import load_suite
from circuit_assertions.assertions.packaged import circuits_beside
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.cli import main
from circuit_assertions.diagnosis.suite_verdicts import named
from circuit_assertions.heads import Head
from circuit_assertions.measures.figures import Figure, share_of
from circuit_assertions.mutation.kinds import KINDS
from circuit_assertions.mutation.testing import MutantTest, judge_undamaged
from circuit_assertions.results import RESULTS, MutationResult
from circuit_assertions.results.mutation import MutantResult
from fixtures.planted import plant

SUITE = "suites/ioi.yaml"
CPU = ("--device", "cpu")
FEW = ("--heads", "L4H1,L3H0", "--only", "negate,zero,zero-mlp,rescale,nudge")
USELESS = """
  - id: never-fails
    measure: logit-difference
    task: ioi
    expect: {at-least: -1000.0}

  - id: broken-before
    measure: logit-difference
    task: ioi
    expect: {at-least: 1000.0}

  - id: waived
    measure: logit-difference
    task: ioi
    waive: {until: 2999-01-01, reason: the bound is under review}
    expect: {at-least: 2.0}

  - id: without-heads
    measure: direct-effect
    heads: other
    task: ioi
    expect: {sign: positive}
"""


class Said(commands.Said):
    """The same, with the result of `--json`."""

    @property
    def result(self) -> MutationResult:
        return MutationResult.model_validate_json(self.out)


@pytest.fixture
def project(tmp_path: Path, reference_project: Path, reference_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reference model's suite, in the working directory; the model is `model`."""
    folder = tmp_path / "project"
    shutil.copytree(reference_project, folder)
    (folder / "model").symlink_to(reference_folder)
    monkeypatch.chdir(folder)
    return folder


def mutate(*arguments: str | Path, suite: str = SUITE, model: str | Path = "model") -> Said:
    """Run the command in this process."""
    return Said.by("mutate", suite, "--model", model, *CPU, *arguments)


def by_name(result: MutationResult) -> dict[str, MutantResult]:
    return {one.name: one for one in result.mutants}


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int, error: type[BaseException]) -> list[str]:
    """Let the test of this mutant fail; the names of those that were begun."""
    test: Callable[[MutantTest, Any], Any] = MutantTest.test
    begun: list[str] = []

    def fail(self: MutantTest, mutant: Any) -> Any:
        begun.append(str(mutant))
        if len(begun) == number:
            raise error
        return test(self, mutant)

    monkeypatch.setattr(MutantTest, "test", fail)
    return begun


# -- what it finds ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, reference_project: Path, reference_folder: Path
) -> tuple[Said, Path, dict[str, str]]:
    """One run of a suite with assertions of every sort, its folder, and the checkpoint's files before it."""
    folder = tmp_path_factory.mktemp("found")
    shutil.copytree(reference_project, folder, dirs_exist_ok=True)
    (folder / "model").symlink_to(reference_folder)
    (folder / SUITE).write_text(REFERENCE_SUITE + USELESS.replace("heads: other", "heads: previous-token"))
    circuit = folder / "suites" / "circuits" / "reference.ioi.yaml"
    lines = [line for line in circuit.read_text().splitlines() if "previous-token" not in line]
    circuit.write_text("\n".join(lines) + "\n")
    before = hashes(reference_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return mutate(*FEW, "--json"), folder, before


@pytest.mark.complete
def test_damage_is_caught_by_the_assertion_about_it(found: tuple[Said, Path, dict[str, str]]) -> None:
    result = found[0].result
    assert found[0].code == 0
    mutants = by_name(result)
    assert mutants["negate L4H1"].found == "caught"
    assert mutants["negate L4H1"].outcomes["name-movers-push"] == "BROKEN"
    assert mutants["negate L4H1"].outcomes["s-inhibition-reads-the-subject"] == "HELD"
    (movers,) = (one for one in result.assertions if one.name == "name-movers-push")
    assert {"negate L4H1"} <= set(movers.caught)
    assert set(movers.alone) <= set(movers.caught)
    assert movers.reached["negate"] > 0.5


def test_what_is_left_out_is_shown_first_with_its_reason(found: tuple[Said, Path, dict[str, str]]) -> None:
    left_out = {one.name: one for one in found[0].result.left_out}
    assert set(left_out) == {"broken-before", "waived", "without-heads"}
    assert left_out["broken-before"].outcome == "BROKEN"
    assert says(left_out["broken-before"].reason, "at least 1000")
    assert (left_out["waived"].outcome, left_out["without-heads"].outcome) == ("HELD", "SKIPPED")
    assert says(left_out["waived"].reason, "2999-01-01", "under review")
    assert says(left_out["without-heads"].reason, "previous-token")
    tested = {one.name for one in found[0].result.assertions}
    assert not tested & set(left_out)
    assert all(set(one.outcomes) == tested for one in found[0].result.mutants)


def test_an_assertion_that_never_fails_is_named_with_what_reaches_it(found: tuple[Said, Path, dict[str, str]]) -> None:
    result = found[0].result
    assert "never-fails" in result.never_failed
    assert "name-movers-push" not in result.never_failed
    (useless,) = (one for one in result.assertions if one.name == "never-fails")
    assert useless.caught == ()
    assert "negate" in useless.reached  # it could have failed: the logit difference changes


def test_scores_are_the_counts_of_the_mutants(found: tuple[Said, Path, dict[str, str]]) -> None:
    result = found[0].result
    damage = [one for one in result.mutants if one.damage]
    caught = sum("BROKEN" in one.outcomes.values() for one in damage)
    noticed = sum(bool({"BROKEN", "UNRESOLVED"} & set(one.outcomes.values())) for one in damage)
    equivalent = sum(one.found == "equivalent" for one in damage)
    assert (result.score.caught, result.score.mutants) == (caught, len(damage))
    assert (result.with_unresolved.caught, result.with_unresolved.mutants) == (noticed, len(damage))
    assert (result.without_equivalent.caught, result.without_equivalent.mutants) == (caught, len(damage) - equivalent)
    assert result.score.share is not None
    assert result.score.share.low <= result.score.share.mean == caught / len(damage) <= result.score.share.high
    assert sum(one.made for one in result.kinds) == len(result.mutants)
    for kind in result.kinds:
        of_kind = [one.found for one in result.mutants if one.kind == kind.kind]
        counted = (kind.caught, kind.unresolved, kind.survived, kind.equivalent)
        assert counted == tuple(of_kind.count(w) for w in ("caught", "unresolved", "survived", "equivalent"))


def test_controls_raise_no_alarm(found: tuple[Said, Path, dict[str, str]]) -> None:
    result = found[0].result
    controls = [one for one in result.mutants if not one.damage]
    assert [one.name for one in controls] == ["nudge 1", "nudge 2", "nudge 3", "rescale L3H0", "rescale L4H1"]
    assert {one.found for one in controls} == {"quiet"}
    assert (result.controls.caught, result.controls.mutants) == (0, 5)
    for one in controls:
        assert max(one.moved.values()) < 1e-3
        assert abs(one.behaviour["ioi"].mean - 1) < 1e-4


def test_equivalent_is_what_changes_nothing_by_the_rule(found: tuple[Said, Path, dict[str, str]]) -> None:
    result = found[0].result
    for one in result.mutants:
        if one.found in ("survived", "equivalent"):
            changes = [*one.moved.values(), *(abs(kept.mean - 1) for kept in one.behaviour.values())]
            assert (max(changes) <= result.negligible) == (one.found == "equivalent"), one.name
    # The MLPs above the first say next to nothing.
    assert by_name(result)["zero-mlp MLP5"].found == "equivalent"


def test_the_checkpoint_and_the_folder_are_as_they_were(
    found: tuple[Said, Path, dict[str, str]], reference_folder: Path
) -> None:
    assert hashes(reference_folder) == found[2]
    assert sorted(path.name for path in found[1].iterdir()) == ["model", "suites"]


def test_the_result_is_a_record_of_its_kind(found: tuple[Said, Path, dict[str, str]]) -> None:
    said = json.loads(found[0].out)
    assert (said["kind"], said["schema_version"]) == ("mutation", 1)
    assert RESULTS["mutation"] is MutationResult
    assert said["suites"] == [SUITE]
    assert said["circuits"]
    assert said["heads"] == ["L3H0", "L4H1"]
    assert found[0].result.to_json() == found[0].out.rstrip("\n")


@pytest.mark.parametrize(("kind", "heads"), [("negate", [Head(4, 3)]), ("swap", [Head(3, 0), Head(4, 3)])])
@pytest.mark.complete
def test_a_mutant_is_the_checkpoint_with_that_damage(
    kind: str, heads: list[Head], project: Path, reference_folder: Path, tmp_path: Path
) -> None:
    """Outcomes and behaviour equal those of a checkpoint in which the same damage was written to the files."""
    result = mutate("--heads", ",".join(map(str, heads)), "--only", kind, "--json").result
    raw = GPT2LMHeadModel.from_pretrained(reference_folder)
    plant(raw, kind, heads)
    shutil.copytree(reference_folder, tmp_path / kind)
    raw.save_pretrained(tmp_path / kind)
    task = ioi(prompts=64)
    folders = (Path("model"), tmp_path / kind)
    before, after = (Audited(folder).read("logit-difference", task).values for folder in folders)
    share = Figure.of_values(share_of(after, before))
    mutant = by_name(result)[f"{kind} {','.join(map(str, heads))}"]
    assert mutant.behaviour["ioi"].mean == pytest.approx(share.mean, abs=1e-4)
    circuits = circuits_beside(Path(SUITE))
    audit = Audit(Opening(device="cpu"), find_checkpoints("model")[0])
    assert _judged(audit, load_suite(Path(SUITE), circuits), circuits, tmp_path / kind) == mutant.outcomes


def _judged(audit: Audit, suite: Any, circuits: Any, folder: Path) -> dict[str, str]:
    from circuit_assertions.assertions.runner import SuiteRunner
    from circuit_assertions.diagnosis.suite_verdicts import judge_all

    runner = SuiteRunner(audit, audit.baseline)
    judged = judge_all(runner, find_checkpoints(str(folder))[0], named([(suite, circuits)]))
    return {name: one.verdict for name, one in judged.items()}


def test_the_text_has_the_score_the_survivors_and_the_useless(project: Path) -> None:
    (project / SUITE).write_text(REFERENCE_SUITE + USELESS.partition("  - id: broken-before")[0])
    said = mutate("--heads", "L4H1", "--only", "negate,zero-mlp")
    assert said.code == 0
    lines = {line.split()[0]: line for line in said.out.splitlines() if line and not line.startswith(" ")}
    assert says(lines["score"], "caught", "BROKEN")
    assert says(lines["equivalent"], "ioi")
    never = said.out.partition("never failed")[2]
    assert says(never, "never-fails", "negate")
    assert "negate" in lines
    assert "zero-mlp" in lines
    assert "L4H1" in said.out.partition("caught by it")[2]


@pytest.mark.complete
def test_noise_of_no_strength_is_equivalent_and_counted_both_ways(project: Path) -> None:
    result = mutate("--heads", "L4H1", "--only", "noise,negate", "--strength", "1e-5", "--json").result
    mutants = by_name(result)
    assert (mutants["noise L4H1"].found, mutants["negate L4H1"].found) == ("equivalent", "caught")
    assert (result.score.caught, result.score.mutants) == (1, 2)
    assert (result.without_equivalent.caught, result.without_equivalent.mutants) == (1, 1)


@pytest.mark.complete
def test_the_circuits_heads_are_damaged_by_default(project: Path) -> None:
    result = mutate("--only", "round", "--json").result
    assert len(result.heads) == 13
    assert {"L4H1", "L6H2"} < set(result.heads)
    assert result.score.mutants == 0
    assert result.score.share is None
    assert result.never_failed == ()
    assert mutate("--only", "round", "--fail-under", "0").code == 1  # nothing was damaged


@pytest.mark.complete
def test_without_a_circuit_only_mlps_are_damaged_unless_heads_are_named(project: Path) -> None:
    (project / "suites" / "circuits" / "reference.ioi.yaml").write_text(
        circuit_text(
            {"architecture": "GPT2LMHeadModel", "layers": 1, "heads": 1, "d_model": 8}, {"name-mover": [(0, 0)]}
        )
    )
    (project / SUITE).write_text(ANY_SUITE)
    said = mutate("--only", "negate,zero-mlp")
    assert says(said.out.partition("heads")[2], "--heads=all")
    result = mutate("--only", "negate", "--heads", "all", "--json").result
    assert len(result.mutants) == 28
    (project / SUITE).write_text(
        f"{ANY_SUITE}  - {{id: named, measure: direct-effect, heads: [L4H1], task: ioi, expect: {{sign: positive}}}}\n"
    )
    assert mutate("--only", "negate", "--json").result.heads == ("L4H1",)


@pytest.mark.complete
def test_a_circuit_of_the_option_is_used(project: Path) -> None:
    (project / "suites" / "circuits" / "reference.ioi.yaml").rename(project / "mine.yaml")
    result = mutate("--only", "negate", "--heads", "L4H1", "--circuit", "mine.yaml", "--json").result
    assert by_name(result)["negate L4H1"].outcomes["name-movers-push"] == "BROKEN"


def test_what_a_model_cannot_have_is_listed_with_the_reason(project: Path, tmp_path: Path) -> None:
    """Values that are clamped are not rescaled without effect."""
    from patching_cases import CONFIGS
    from reference_model import word_tokenizer
    from tiny_models import random_model

    words = word_tokenizer()
    random_model(CONFIGS["olmo, clamped attention"](len(words))).save_pretrained(tmp_path / "clamped")
    words.save_pretrained(tmp_path / "clamped")
    suite = write(tmp_path, {"any.yaml": ANY_SUITE}) / "any.yaml"
    result = mutate(
        "--heads", "L1H0", "--only", "rescale,noise-query-key", "--json", suite=str(suite), model=tmp_path / "clamped"
    ).result
    (missing,) = result.not_made
    assert missing.name == "rescale L1H0,L1H1"
    assert says(missing.reason, "clamps", "values")
    assert [one.name for one in result.mutants] == ["noise-query-key L1H0"]


ANY_SUITE = """\
suite: any
tasks: {ioi: {kind: ioi, prompts: 48}}
assertions:
  - {id: answers, measure: logit-difference, task: ioi, expect: {at-least: -1000.0}}
"""


@pytest.mark.complete
def test_a_score_under_the_bound_fails(project: Path) -> None:
    given = ("--heads", "L4H1", "--only", "negate,zero-mlp", "--json")
    share = mutate(*given).result.score.share
    assert share is not None
    assert 0 < share.mean < 1
    assert mutate(*given, "--fail-under", f"{100 * share.mean - 1}%").code == 0
    assert mutate(*given, "--fail-under", f"{100 * share.mean + 1}").code == 1


# -- continuing -------------------------------------------------------------------------------------------------------


@pytest.mark.complete
def test_the_same_seed_gives_the_same_result_and_another_other_noise(project: Path) -> None:
    given = ("--heads", "L4H1", "--only", "noise,noise-query-key", "--json")
    first = mutate(*given)
    assert mutate(*given).out == first.out
    other = mutate(*given, "--seed", "1").result
    assert by_name(other)["noise L4H1"].moved != by_name(first.result)["noise L4H1"].moved


@pytest.mark.parametrize(
    ("error", "code", "option"),
    [
        (KeyboardInterrupt, 130, ()),
        pytest.param(MemoryError, 2, ("--resume", "work.jsonl"), marks=pytest.mark.complete),
    ],
)
@pytest.mark.complete
def test_an_interrupted_run_continues_with_the_same_result(
    project: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], code: int, option: tuple[str, ...]
) -> None:
    given = ("--heads", "L3H0,L4H1", "--only", "negate,zero,noise", "--json")
    whole = mutate(*given)
    with monkeypatch.context() as patch:
        begun = stop_at(patch, 4, error)
        stopped = mutate(*given, *option)
    assert (stopped.code, stopped.out) == (code, "")
    (kept,) = project.glob("*.jsonl")
    assert says(stopped.err, 3, kept.name)
    assert len(kept.read_text().splitlines()) == 1 + 3
    with monkeypatch.context() as patch:
        rest = stop_at(patch, -1, error)
        continued = mutate(*given, *option)
    assert continued.out == whole.out
    assert begun[3] == rest[0]
    assert not set(begun[:3]) & set(rest)
    assert len(begun) - 1 + len(rest) == len(whole.result.mutants)
    assert list(project.glob("*.jsonl")) == ([kept] if option else [])


@pytest.mark.complete
def test_a_finished_run_is_not_run_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("--heads", "L4H1", "--json", "--resume", "work.jsonl")
    first = mutate(*given, "--only", "negate,zero")
    begun = stop_at(monkeypatch, -1, KeyboardInterrupt)
    assert mutate(*given, "--only", "negate,zero").out == first.out
    assert begun == []
    more = mutate(*given, "--only", "negate,noise").result  # the others of the file are not of this run
    assert begun == ["noise L4H1"]
    assert [one.name for one in more.mutants] == ["negate L4H1", "noise L4H1"]


@pytest.mark.complete
def test_the_work_of_another_run_is_refused_by_what_differs(
    project: Path, flipped_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--heads", "L4H1", "--only", "zero", "--resume", "work.jsonl")
    assert mutate(*given).code == 0
    before = (project / "work.jsonl").read_bytes()

    def refused(*more: str, named: list[str], **other: Any) -> None:
        said = mutate(*given, *more, **other)
        assert (said.code, said.out) == (2, "")
        assert len(said.err.splitlines()) == 1
        assert says(said.err, "work.jsonl", "--resume FILE", *named)
        assert (project / "work.jsonl").read_bytes() == before

    refused("--seed", "3", named=["seed", "3"])
    refused("--strength", "1", named=["strength"])
    refused(named=["model"], model=flipped_folder)
    refused("--dtype", "float64", named=["setting", "float64"])
    shutil.copy(SUITE, "suites/other.yaml")
    refused(named=["suite suites/ioi.yaml"], suite="suites/other.yaml")
    text = (project / SUITE).read_text()
    (project / SUITE).write_text(text + "# a comment\n")
    refused(named=["suite suites/ioi.yaml"])
    (project / SUITE).write_text(text)
    monkeypatch.setattr("circuit_assertions.mutation.settings.versions", lambda: {"circuit-assertions": "0"})
    refused(named=["version"])


@pytest.mark.parametrize("content", ["", "not json\n", '{"kind": "audit"}\n', "[1]\n", "\x00\n"])
@pytest.mark.complete
def test_a_file_of_another_kind_is_refused(project: Path, content: str) -> None:
    (project / "work.jsonl").write_text(content)
    said = mutate("--only", "round", "--resume", "work.jsonl")
    assert said.code == 2
    assert says(said.err, "work.jsonl", "--resume FILE")
    assert (project / "work.jsonl").read_text() == content


@pytest.mark.complete
def test_a_line_that_is_no_mutant_is_refused(project: Path) -> None:
    given = ("--only", "round", "--resume", "work.jsonl")
    assert mutate(*given).code == 0
    file = project / "work.jsonl"
    file.write_text(file.read_text() + '{"name": "x"}\n')
    assert mutate(*given).code == 2


# -- what it refuses --------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_stated_in_one_line(project: Path, tiny_folder: Path) -> None:
    write(project, {"broken.yaml": REFERENCE_SUITE.replace("measure: attention", "measure: atention")})
    never = ANY_SUITE.replace("-1000", "1000")
    write(project, {"never.yaml": never})
    for arguments, options, words in (
        ((), {"suite": "nowhere.yaml"}, ["nowhere.yaml", "suite"]),
        ((), {"suite": "suites"}, ["suites", "suite"]),
        ((), {"suite": "broken.yaml"}, ["'atention'"]),
        ((), {"model": "nowhere"}, ["nowhere"]),
        (("--heads", "L9H0"), {}, ["L9H0", "7 layers"]),
        (("--resume", "suites"), {}, ["suites", "folder"]),
        ((), {"suite": "never.yaml"}, ["no assertion holds", "answers", "BROKEN"]),
    ):
        said = mutate(*arguments, **options)
        assert (said.code, said.out) == (2, "")
        assert says(said.err.splitlines()[-1], *words)
        assert not list(project.glob("*.jsonl"))


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--only", "negat", ["'negat'", "negate"]),
        ("--heads", "9.10", ["L9H10", "all"]),
        ("--strength", "0", ["'0'"]),
        ("--strength", "x", ["'x'"]),
        ("--fail-under", "101", ["'101'"]),
    ],
)
def test_an_option_that_cannot_be_read_is_refused(
    option: str, value: str, named: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["mutate", SUITE, "--model", "model", f"{option}={value}"])
    assert says(capsys.readouterr().err, option, *named)


@pytest.mark.complete
def test_progress_shows_the_mutant_how_many_there_are_and_the_time_left(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("circuit_assertions.report.progress._PATIENCE", 0.0)
    monkeypatch.setattr("circuit_assertions.report.progress._BETWEEN_LINES", 0.0)
    said = mutate("--heads", "L4H1", "--only", "negate,zero,noise", "--json")
    assert says(said.err, "undamaged", "negate L4H1", "1 of 3", "noise L4H1", "3 of 3", "about", "ioi")


def test_the_help_names_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["mutate", "--help"])
    assert says(capsys.readouterr().out, *KINDS)


@pytest.mark.complete
def test_a_mutant_is_judged_once_the_model_is_restored_again(project: Path) -> None:
    """Each mutant is of the undamaged model: their order does not matter."""
    suite, circuits = load_suite(Path(SUITE), circuits_beside(Path(SUITE))), circuits_beside(Path(SUITE))
    from circuit_assertions.checkpoints.opening import open_checkpoint
    from circuit_assertions.engine import Model
    from circuit_assertions.mutation.kinds import mutants_of

    base = find_checkpoints("model")[0]
    audit = Audit(Opening(device="cpu"), base)
    undamaged = judge_undamaged(audit, named([(suite, circuits)]))
    tester = MutantTest(audit, undamaged, Model.of(open_checkpoint(base, audit.opening)))
    mutants = mutants_of([Head(4, 1), Head(0, 3)], 7, lambda layer: 1, only=["negate", "noise", "round"])
    forth, back = (list(tester.run(some)) for some in (mutants, mutants[::-1]))
    assert forth == back[::-1]


@pytest.mark.complete
def test_a_tiny_model_of_another_architecture_is_tested(project: Path, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "llama", "llama")
    suite = write(tmp_path, {"any.yaml": ANY_SUITE}) / "any.yaml"
    before = hashes(folder)
    result = mutate("--heads", "L1H0,L2H3", "--json", suite=str(suite), model=folder).result
    assert result.not_made == ()
    assert {one.kind for one in result.mutants} == set(KINDS)
    assert hashes(folder) == before
