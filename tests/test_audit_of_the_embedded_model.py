"""The packaged suites hold on the embedded model, and name the head that was damaged in a copy of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from circuit_assertions.assertions.packaged import packaged_suites
from fixtures import planted

pytestmark = pytest.mark.usefixtures("opened_once")

HEALTHY = Path(__file__).parents[1] / "fixtures" / "checkpoints" / "healthy"


def audit(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(*options, str(packaged_suites()))


def test_everything_that_can_be_asked_holds(pytester: pytest.Pytester) -> None:
    result = audit(pytester, f"--model={HEALTHY}", f"--baseline={HEALTHY}")
    result.assert_outcomes(passed=22, skipped=6)
    result.stdout.fnmatch_lines(["circuit   embedded.ioi.yaml", "*verdicts  22 held, 6 skipped"])


@pytest.mark.complete
def test_a_name_mover_turned_around_is_named(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    flipped = pytester.path / "flipped"
    monkeypatch.setattr(sys, "argv", ["planted", str(HEALTHY), str(flipped), "--negate", "L3H2"])
    planted.main()
    result = audit(pytester, f"--model={flipped}", f"--baseline={HEALTHY}", "-k", "push or copy or prefers")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "  HELD       prefers-the-indirect-object *",
            "  BROKEN     name-movers-copy-what-they-read * L3H2 0 *(1 of 4 heads broken)*",
            "  BROKEN     name-movers-push-the-right-way * L3H2 -*(1 of 4 heads broken)*",
        ]
    )
