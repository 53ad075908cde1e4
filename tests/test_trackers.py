"""MLflow on a real local SQLite store, Weights & Biases offline, and what is said where an extra is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import Said
from result_cases import line
from said import says

from circuit_assertions.results import AuditResult, Figure
from circuit_assertions.results.audit import AssertionResult, GateVerdict, HeadFinding
from circuit_assertions.trackers import TRACKERS, TrackerError, figures_of, open_tracker, run_and_step
from circuit_assertions.verdict_words import Outcome

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")


def results(model: str, mean: float) -> tuple[AssertionResult, ...]:
    """The results of one checkpoint: what held, and what was skipped."""
    row = HeadFinding(name="", figure=Figure(mean=mean, low=mean - 1, high=mean + 1), verdict=Outcome.HELD)
    suite = "suites/ioi.yaml"
    return (
        line(model, suite, "holds", Outcome.HELD, rows=(row,)),
        line(model, suite, "skips", Outcome.SKIPPED, reason="no baseline"),
    )


@pytest.fixture
def audits(tmp_path: Path) -> list[Path]:
    """Two files of audits, of three checkpoints of one training run."""
    gate = GateVerdict(passed=True, exit_code=0, line="GATE")
    files = []
    for number, steps in enumerate(((5, 10), (20,))):
        lines = [one for step in steps for one in results(f"run/checkpoint-{step}", float(step))]
        file = tmp_path / f"{number}.json"
        file.write_text(AuditResult(assertions=tuple(lines), gate=gate).to_json())
        files.append(file)
    return files


def test_figures_are_numbers_by_name_and_nothing_of_what_was_not_judged() -> None:
    found = figures_of(results("m", 0.5))
    assert found["circuit/ioi/holds/mean"] == 0.5
    assert found["circuit/ioi/holds/held"] == 1.0
    assert not any("skips" in name for name in found)
    assert sum(value for name, value in found.items() if name.startswith("circuit/verdicts/")) == 2


@pytest.mark.parametrize(
    ("model", "run", "step"),
    [("a/b/checkpoint-40", "a/b", 40), ("a/checkpoint-40/x", "a/checkpoint-40/x", 0), ("org/name", "org/name", 0)],
)
def test_the_step_is_that_of_the_folders_name(model: str, run: str, step: int) -> None:
    assert run_and_step(model) == (run, step)


def test_audits_are_logged_to_a_local_store_of_mlflow_step_by_step(audits: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from mlflow import MlflowClient

    store = f"sqlite:///{tmp_path / 'store.db'}"
    said = Said.by("track", *audits, "--to", "mlflow", "--where", store, "--project", "mine")
    assert said.code == 0, said.err
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    history = client.get_metric_history(run.info.run_id, "circuit/ioi/holds/mean")
    assert [(one.step, one.value) for one in history] == [(5, 5.0), (10, 10.0), (20, 20.0)]


@pytest.mark.complete
def test_audits_are_logged_to_wandb_offline(
    audits: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    command = [sys.executable, "-m", "circuit_assertions", "track", *map(str, audits), "--to", "wandb"]
    done = subprocess.run([*command, "--where", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"circuit/ioi/holds/mean" in written.read_bytes()


@pytest.mark.parametrize("tracker", TRACKERS)
def test_an_extra_that_is_missing_is_one_sentence_with_the_command(
    audits: list[Path], monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)
    said = Said.by("track", audits[0], "--to", tracker)
    assert said.code == 2
    assert says(said.err, f"pip install 'circuit-assertions[{tracker}]'")
    assert len(said.err.strip().splitlines()) == 1


def test_a_store_that_cannot_be_opened_and_a_file_that_is_no_audit_are_one_sentence(
    audits: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    refused = Said.by("track", audits[0], "--to", "mlflow", "--where", "nonsense://x")
    (tmp_path / "other.json").write_text("{}")
    other = Said.by("track", tmp_path / "other.json", "--to", "mlflow")
    assert (refused.code, other.code) == (2, 2)
    assert says(other.err, "other.json", "--circuit-json")
    with pytest.raises(TrackerError, match="mlflow"):
        open_tracker("mlfow", "x")


@pytest.mark.complete
def test_nothing_of_a_tracker_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys, circuit_assertions.trackers, circuit_assertions.cli.track\n"
        "print([name for name in ('mlflow', 'wandb', 'sqlalchemy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
