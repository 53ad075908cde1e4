"""`pytest --baseline base --discover`: roles found on the baseline, the model tested on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference_model import CAST
from suite_texts import REFERENCE_SUITE, circuit_text, write

pytestmark = pytest.mark.usefixtures("opened_once")

SUITE = REFERENCE_SUITE.replace("prompts: 64", "prompts: 48")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    write(pytester.path, {"suites/ioi.yaml": SUITE})
    return pytester


@pytest.mark.complete
def test_the_model_is_tested_on_the_heads_that_the_baseline_has(
    project: pytest.Pytester, reference_folder: Path, flipped_folder: Path
) -> None:
    result = project.runpytest_inprocess(
        f"--model={flipped_folder}", f"--baseline={reference_folder}", "--discover", "-k", "push"
    )
    result.stdout.fnmatch_lines(
        [
            f"circuit   ioi (found on {reference_folder})",
            "  BROKEN     name-movers-push * L4H1 -*(1 of 3 heads broken)*",
            "  HELD       negative-name-movers-push-back * L5H2 *",
        ]
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_without_it_they_are_skipped_with_a_command_that_finds_them(
    project: pytest.Pytester, reference_folder: Path
) -> None:
    result = project.runpytest_inprocess(f"--model={reference_folder}", "-k", "name-movers-push")
    result.assert_outcomes(skipped=2)
    command = f"circuit-assertions discover --model {reference_folder} --task {project.path}/suites/ioi.yaml::ioi"
    assert f"{command} --circuit ioi" in result.stdout.str().replace("\n", " ")


def test_roles_cannot_be_found_on_the_very_model_that_is_tested(
    project: pytest.Pytester, reference_folder: Path
) -> None:
    result = project.runpytest_inprocess(f"--model={reference_folder}", "--discover")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--discover *--baseline=path/*"])


def test_a_baseline_without_the_circuit_is_an_error_not_a_pass(project: pytest.Pytester, tiny_folder: Path) -> None:
    result = project.runpytest_inprocess(
        f"--model={tiny_folder}", f"--baseline={tiny_folder}", "--discover", "-k", "name-movers-push"
    )
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines([f"*circuit 'ioi' *{tiny_folder}: *the task*"])


@pytest.mark.complete
def test_a_circuit_file_of_the_baselines_own_weights_is_preferred(
    project: pytest.Pytester, reference_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from circuit_assertions.checkpoints import fingerprint

    weights = fingerprint([reference_folder / "model.safetensors"])
    shape = {"architecture": "GPT2LMHeadModel", "layers": 7, "heads": 4, "d_model": 512}
    text = circuit_text(shape, CAST, base=f"base: {{id: reference, fingerprint: {weights}}}")
    write(project.path, {"suites/circuits/own.ioi.yaml": text})
    result = project.runpytest_inprocess(
        f"--model={reference_folder}", f"--baseline={reference_folder}", "--discover", "-k", "name-movers-push"
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["circuit   own.ioi.yaml"])


@pytest.mark.complete
def test_the_configuration_can_ask_for_it_and_workers_find_the_same(
    project: pytest.Pytester, reference_folder: Path
) -> None:
    project.makeini("[pytest]\ncircuit_discover = true\n")
    result = project.runpytest_subprocess(
        f"--model={reference_folder}", f"--baseline={reference_folder}", "-n", "2", "-k", "push"
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"circuit   ioi (found on {reference_folder})"])
