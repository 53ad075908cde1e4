"""The packaged suites hold on healthy models of other seeds, each beside the circuit files that `discover` writes.

One of the two has name movers, as the embedded model has; the other answers in another way, and its circuit has none.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from auditing import HEALTHY, Audited, ioi, repeated

from circuit_assertions.assertions.packaged import packaged_suites
from circuit_assertions.diagnosis.discovery import circuit_file, discover
from circuit_assertions.tasks import Task
from fixtures import planted

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("opened_once")]

SEEDS = {"seed-100": ("L1H1", "L1H2"), "seed-200": ("L3H0",)}  # with heads that push the answer
CASES = ["seed-100", pytest.param("seed-200", marks=pytest.mark.complete)]
OTHER_PROMPTS = ("seed: 1", "seed: 2")  # than those that the circuits were found on


@pytest.fixture(scope="module", params=CASES)
def found(request: pytest.FixtureRequest) -> tuple[Path, dict[str, str]]:
    """A model, and what `discover` writes for it."""
    folder = HEALTHY.with_name(request.param)
    audited = Audited(folder)
    tasks: dict[str, Task] = {"ioi": ioi(), "induction": repeated()}
    return folder, {
        name: circuit_file(discover(audited.audit, audited.checkpoint, task)) for name, task in tasks.items()
    }


def with_circuits(pytester: pytest.Pytester, files: dict[str, str], seed: str = "seed: 0") -> list[str]:
    """The packaged suites, asking other prompts, in a project that holds these circuit files."""
    for name, text in files.items():
        circuit = pytester.path / "suites" / "circuits" / f"own.{name}.yaml"
        circuit.parent.mkdir(parents=True, exist_ok=True)
        circuit.write_text(text, encoding="utf-8")
        suite = (packaged_suites() / f"{name}.yaml").read_text(encoding="utf-8")
        assert "seed: 0" in suite
        (pytester.path / "suites" / f"{name}.yaml").write_text(suite.replace("seed: 0", seed), encoding="utf-8")
    return [f"suites/{name}.yaml" for name in files]


@pytest.mark.complete
@pytest.mark.parametrize("seed", ["seed: 0", *OTHER_PROMPTS])
def test_nothing_is_broken_on_a_healthy_model_beside_its_own_circuit(
    pytester: pytest.Pytester, found: tuple[Path, dict[str, str]], seed: str
) -> None:
    model, files = found
    suites = with_circuits(pytester, files, seed)
    result = pytester.runpytest_inprocess(f"--model={model}", f"--baseline={model}", *suites)
    counts = result.parseoutcomes()
    assert "failed" not in counts
    assert "errors" not in counts
    assert counts["passed"] >= 12  # of the 28 assertions; the others are about roles that these models do not have
    result.stdout.fnmatch_lines(["circuit   own.induction.yaml", "circuit   own.ioi.yaml"])
    result.stdout.fnmatch_lines(
        ["*HELD       prefers-the-indirect-object *expected at least *% of *, from own.ioi.yaml)*"]
    )


@pytest.mark.complete  # mutants of the reference model are tested in the normal run
def test_a_damaged_copy_is_broken_by_the_same_files(
    pytester: pytest.Pytester, found: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bounds that a healthy model holds are not held by one whose heads work against the answer."""
    model, files = found
    arguments = ["planted", str(model), str(pytester.path / "damaged"), "--negate", *SEEDS[model.name]]
    monkeypatch.setattr(sys, "argv", arguments)
    planted.main()
    result = pytester.runpytest_inprocess(
        "--model=damaged", f"--baseline={model}", *with_circuits(pytester, files), "--no-diagnosis"
    )
    assert result.parseoutcomes()["failed"] >= 2


@pytest.mark.parametrize("name", CASES)
def test_another_models_circuit_is_said_to_be_another_models(pytester: pytest.Pytester, name: str) -> None:
    """By shape alone the embedded model's circuit fits, and what breaks by its roles says whose they are."""
    model = HEALTHY.with_name(name)
    options = ["-k", "previous-token-heads-look-one-back or prefers"]
    result = pytester.runpytest_inprocess(f"--model={model}", str(packaged_suites()), *options)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "  circuit   embedded.induction.yaml (*lineage*assumed*fixtures/checkpoints/healthy*)*",
            "  HELD       prefers-the-indirect-object *expected at least 2; *",
        ]
    )
