"""The sentences of `make real`: each states what the results have, and none states more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from circuit_assertions.policy import DEFAULT
from circuit_assertions.results import AuditResult
from circuit_assertions.results.base import PolicyUsed
from circuit_assertions.verdict_words import Outcome, RecoveryVerdict
from fixtures.real.lab import RESULTS
from fixtures.real.story import story_lines

ROWS: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
_NOT_KEPT: dict[str, Any] = {"settings": {}, "curve": [], "assertions": {}, "settings_changed": [], "notes": []}
_OF_LAB = ("row", "made", "loss", "minutes")


def diagnosis(name: str, **changes: Any) -> dict[str, Any]:
    """A kept row of the laboratory as the diagnosis that it was."""
    policy = PolicyUsed.of(DEFAULT).model_dump()
    row = {key: value for key, value in ROWS[name].items() if key not in _OF_LAB}
    return row | _NOT_KEPT | {"policy": policy} | changes


def audit(*diagnoses: dict[str, Any], outcomes: tuple[str, ...] = ()) -> AuditResult:
    assertions = [{"model": "m", "suite": "s.yaml", "id": str(at), "outcome": one} for at, one in enumerate(outcomes)]
    return AuditResult.model_validate(
        {
            "policy": PolicyUsed.of(DEFAULT).model_dump(),
            "versions": {},
            "assertions": assertions,
            "diagnoses": list(diagnoses),
            "gate": {"passed": True, "exit_code": 0, "line": ""},
        }
    )


def story(poisoned: dict[str, Any], recovered: dict[str, Any], outcomes: tuple[str, ...] = ()) -> dict[str, str]:
    """The paragraphs by their headings, each on one line."""
    lines = list(story_lines(audit(outcomes=outcomes), audit(poisoned), audit(recovered)))
    assert all(len(line) <= 100 for line in lines)
    text = "\n".join(lines[1:]).replace("\n    ", " ")
    return dict(line.strip().split(": ", 1) for line in text.splitlines())


def test_the_outcomes_of_the_source_are_counted() -> None:
    said = story(diagnosis("poisoned"), diagnosis("recovered"), (Outcome.HELD, Outcome.HELD, Outcome.SKIPPED))
    assert "3 assertions, 2 HELD, 1 SKIPPED" in said["As it comes"]


def test_every_head_that_turned_is_named_and_no_other() -> None:
    row = diagnosis("poisoned")
    heads = {name: one for role in row["roles"].values() for name, one in role["heads"].items()}
    turned = [name for name, one in heads.items() if one["kind"] == "sign flipped"]
    assert turned
    said = story(row, diagnosis("recovered"))
    assert all(f"{name} " in said["Poisoned"] for name in turned)
    assert not any(f"{name} " in said["Poisoned"] for name in heads if name not in turned)
    assert not any(f"{name} " in said["Retrained"] for name in heads)
    assert f"{row['inside_the_circuit']['circuit']['mean']:.0%}" in said["Poisoned"]
    for role, one in row["roles"].items():
        assert (f"{role} {one['retained']['mean']:.0%}" in said["Poisoned"]) <= one["weaker"]


@pytest.mark.parametrize("how", [RecoveryVerdict.BYPASSED, RecoveryVerdict.RECOVERED, RecoveryVerdict.UNDECIDED])
def test_only_a_bypass_is_said_to_pass_a_test_of_the_answers(how: str) -> None:
    row = diagnosis("recovered")
    said = story(diagnosis("poisoned"), row | {"recovery": row["recovery"] | {"how": how}})["Retrained"]
    assert f"Recovery: {how}." in said
    assert ("mechanism is not" in said) == (how == RecoveryVerdict.BYPASSED)


def test_where_recovery_was_not_judged_the_reason_is_told() -> None:
    row = diagnosis("recovered", recovery=None, recovery_not_told="nothing was lost")
    said = story(diagnosis("poisoned", healed=None), row)
    assert "nothing was lost" in said["Retrained"]
    assert "restore" not in said["Poisoned"]
