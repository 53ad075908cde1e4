"""The embedded model's circuit files are what `discover` writes today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from auditing import HEALTHY, Audited, ioi, repeated

from circuit_assertions.assertions import load_circuit
from circuit_assertions.diagnosis.discovery import circuit_content, discover
from circuit_assertions.tasks import Task

CIRCUITS = Path(__file__).parents[1] / "suites" / "circuits"


def same(written: Any, today: Any, where: str = "") -> None:
    """Words and roles exactly; figures nearly: sums, and so edges of resamples, differ between machines."""
    if isinstance(written, dict):
        assert list(written) == list(today), where
        for key, value in written.items():
            same(value, today[key], f"{where}/{key}")
    elif isinstance(written, list):
        assert len(written) == len(today), where
        for index, value in enumerate(written):
            same(value, today[index], f"{where}/{index}")
    elif isinstance(written, float):
        # A bound has two digits, and may fall to the next.
        near = pytest.approx(written, rel=2e-2, abs=0.02)
        assert today == near, where
    else:
        assert written == today, where


@pytest.mark.parametrize(
    ("name", "task"),
    [
        # The README shows this discovery, and test_documented_output compares.
        pytest.param("ioi", ioi(), marks=pytest.mark.complete, id="ioi"),
        pytest.param("induction", repeated(), id="induction"),
    ],
)
def test_they_are_what_is_found_today(name: str, task: Task) -> None:
    written = load_circuit(CIRCUITS / f"embedded.{name}.yaml")
    audited = Audited(HEALTHY)
    today = circuit_content(discover(audited.audit, audited.checkpoint, task), written.notes)
    assert {role: [str(head) for head in heads] for role, heads in written.roles.items()} == today["roles"]
    assert written.base is not None
    assert written.base.fingerprint == today["base"]["fingerprint"]
    same(yaml.safe_load((CIRCUITS / f"embedded.{name}.yaml").read_text(encoding="utf-8"))["found"], today["found"])
