"""The policy: one object with every threshold, its origin, its named forms and its files; each decides what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import HEALTHY, ioi
from pydantic import ValidationError
from said import says
from test_diagnosis_function import AS_BEFORE, HEAD, TRIFLE, figure, role
from test_recovering import of_heads

from circuit_assertions.assertions import SuiteError
from circuit_assertions.assertions.policy_file import PolicyError, policy_named
from circuit_assertions.assertions.recovered_share import recovered
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening
from circuit_assertions.cli import main
from circuit_assertions.diagnosis.function import Function
from circuit_assertions.diagnosis.head_change import Seen, change_of
from circuit_assertions.diagnosis.overall_verdict import overall
from circuit_assertions.diagnosis.recovery import _how
from circuit_assertions.diagnosis.view import ByHead, View, check_enough
from circuit_assertions.measures.figures import Figure, has_lost, what_is_lost
from circuit_assertions.measures.intervals import Level
from circuit_assertions.policy import CHANGES, DEFAULT, POLICIES, SECTIONS, Policy, Threshold
from circuit_assertions.results import RESULTS, AuditResult, PolicyResult
from circuit_assertions.results.audit import GateVerdict
from circuit_assertions.tasks import Prompt, PromptSet

ROOT = Path(__file__).parents[1]
THRESHOLDS = list(DEFAULT.thresholds())


@pytest.mark.parametrize("one", THRESHOLDS, ids=lambda one: one.key)
def test_every_threshold_says_what_it_decides_and_where_its_number_comes_from(one: Threshold) -> None:
    assert one.decides.endswith(".")
    assert len(one.decides.split()) >= 6
    assert one.unit
    kind, _, told = one.origin.partition(": ")
    assert kind in ("measured", "paper", "argument")
    assert len(told.split()) >= 3
    if kind == "measured":
        assert (ROOT / told.partition(",")[0]).is_file()


def test_every_field_is_listed_once() -> None:
    fields = [name for part in SECTIONS.values() for name in part.model_fields]
    assert sorted(fields) == sorted(set(Policy.model_fields) - {"name"})
    assert len(fields) == len(set(fields)) == len(DEFAULT.values)


def test_it_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DEFAULT.least_lost = 0.2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"corrupted_below": 1.2}, "equal"),
        ({"least_lost": "a little"}, "number"),
        ({"fewest_prompts": 8.5}, "integer"),
        ({"figure_confidence": 1.0}, "less than 1"),
        ({"least_lost": float("nan")}, "finite"),
        ({"nothing": 1}, "nothing"),
    ],
)
def test_a_value_outside_of_its_range_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DEFAULT.changed(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"corrupted_below": 0.97},
        {"corrupted_below": 0.95, "degraded_below": 0.99},  # a loss of a twentieth has no origin to be searched
        {"corrupted_role_below": 0.8},
        {"degraded_role_below": 0.7},
        {"head_silenced_below": 0.75},
        {"partial_above": 0.8},
        {"origin_restores": 0.03},
        {"compared_prompts": 8},
    ],
)
def test_thresholds_that_contradict_each_other_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="must be"):
        DEFAULT.changed(**values)


@pytest.mark.parametrize("name", CHANGES)
def test_a_named_policy_differs_from_default_in_what_it_says(name: str) -> None:
    policy, usual = POLICIES[name], DEFAULT.values
    assert policy.name == name
    differ = {key: value for key, value in policy.values.items() if value != usual[key]}
    assert differ == dict(CHANGES[name].values)
    assert len(CHANGES[name].why.split()) >= 8


def test_strict_asks_more_and_lenient_less() -> None:
    for name in CHANGES["strict"].values:
        assert getattr(POLICIES["strict"], name) > getattr(DEFAULT, name)
    for name in CHANGES["lenient"].values:
        assert getattr(POLICIES["lenient"], name) < getattr(DEFAULT, name)


# What each threshold decides.


@pytest.mark.parametrize(
    ("kept", "verdicts"),  # by default, strict, lenient
    [
        (figure(1.0, 0.99, 1.01), ("INTACT", "INTACT", "INTACT")),
        (figure(0.97, 0.965, 0.98), ("INTACT", "DEGRADED", "INTACT")),
        (figure(0.93, 0.92, 0.94), ("DEGRADED", "DEGRADED", "INTACT")),
        (figure(0.85, 0.82, 0.88), ("DEGRADED", "CORRUPTED", "DEGRADED")),
        (figure(0.6, 0.55, 0.65), ("CORRUPTED", "CORRUPTED", "DEGRADED")),
        (figure(0.2, 0.15, 0.25), ("CORRUPTED", "CORRUPTED", "CORRUPTED")),
    ],
)
def test_one_behaviour_has_another_verdict_under_another_policy(kept: Figure, verdicts: tuple[str, ...]) -> None:
    behaviour = replace(AS_BEFORE, retained=kept)
    assert tuple(overall(behaviour, Function(()), policy)[0] for policy in POLICIES.values()) == verdicts


@pytest.mark.parametrize(
    ("kept", "changes", "before", "after"),
    [
        (figure(0.8, 0.76, 0.84), {"corrupted_below": 0.85}, "DEGRADED", "CORRUPTED"),
        (figure(0.97, 0.965, 0.98), {"degraded_below": 0.99}, "INTACT", "DEGRADED"),
        (figure(1.2, 1.15, 1.25), {"amplified_above": 1.1}, "INTACT", "AMPLIFIED"),
        (figure(0.7, 0.5, 0.92), {"least_lost": 0.05}, "DEGRADED", "CORRUPTED"),
    ],
)
def test_a_threshold_of_the_behaviour_changes_its_verdict(
    kept: Figure, changes: dict[str, float], before: str, after: str
) -> None:
    behaviour, changed = replace(AS_BEFORE, retained=kept), DEFAULT.changed(**changes)
    assert [overall(behaviour, Function(()), policy)[0] for policy in (DEFAULT, changed)] == [before, after]


@pytest.mark.parametrize(
    ("kept", "changes", "before", "after"),
    [
        (figure(0.55, 0.5, 0.6), {"corrupted_role_below": 0.65}, "DEGRADED", "CORRUPTED"),
        (figure(0.94, 0.93, 0.95), {"degraded_role_below": 0.96}, "INTACT", "DEGRADED"),
        (figure(1.2, 1.15, 1.25), {"amplified_above": 1.1}, "INTACT", "AMPLIFIED"),
    ],
)
def test_a_threshold_of_roles_changes_the_verdict(
    kept: Figure, changes: dict[str, float], before: str, after: str
) -> None:
    behaviour = replace(AS_BEFORE, retained=figure(1.0, 0.99, 1.01))
    found = []
    for policy in (DEFAULT, DEFAULT.changed(**changes)):
        one = replace(role(kept), policy=policy)
        found.append(overall(behaviour, Function((one,)), policy)[0])
    assert found == [before, after]


@pytest.mark.parametrize(
    ("share", "changes", "before", "after"),
    [
        (0.9, {"head_weakened_below": 0.95}, "intact", "weakened"),
        (0.3, {"head_silenced_below": 0.4}, "weakened", "silenced"),
        (1.2, {"head_amplified_above": 1.1}, "intact", "amplified"),
    ],
)
def test_a_threshold_of_heads_changes_what_a_head_is_called(
    share: float, changes: dict[str, float], before: str, after: str
) -> None:
    then = np.linspace(1.9, 2.1, 24)
    before_it, after_it = (Seen(ByHead((HEAD,), (times * then)[:, None])) for times in (1.0, share))
    kinds = [
        change_of(HEAD, "name-mover", before_it, after_it, TRIFLE, Level(0.95, 4), policy).kind
        for policy in (DEFAULT, DEFAULT.changed(**changes))
    ]
    assert kinds == [before, after]


def test_how_much_must_be_lost_is_asked_of_origin_and_of_recovery() -> None:
    then = np.linspace(4.9, 5.1, 24)
    finer = DEFAULT.changed(least_lost=0.05)
    assert [has_lost(then, 0.93 * then, policy) for policy in (DEFAULT, finer)] == [False, True]
    assert says(what_is_lost(then, 0.93 * then, DEFAULT), "a tenth")
    assert says(what_is_lost(then, 0.97 * then, finer), "5%")
    baseline, corrupted = of_heads(2.0, 2.0, 2.0), of_heads(1.86, 1.86, 1.86)
    found = [recovered(baseline, baseline, corrupted, "each", policy=policy) for policy in (DEFAULT, finer)]
    assert found[0] is None
    assert found[1] is not None


def test_thresholds_of_recovery_change_its_verdict() -> None:
    most = figure(0.8, 0.76, 0.85)
    strict = POLICIES["strict"]
    assert [_how(most, True, [True], policy) for policy in (DEFAULT, strict)] == ["RECOVERED", "PARTIAL"]
    some = figure(0.3, 0.2, 0.4)
    assert _how(some, True, [True], DEFAULT.changed(partial_above=0.4)) == "NOT RECOVERED"


def test_the_level_of_figures_widens_their_intervals() -> None:
    values = np.random.default_rng(0).normal(size=64)
    narrow, wide = Figure.of_values(values).interval, Figure.of_values(values, Level(0.99)).interval
    assert wide.low < narrow.low < narrow.high < wide.high
    view = View(
        Audit(Opening(device="cpu"), policy=DEFAULT.changed(figure_confidence=0.99)), Checkpoint("m"), ioi(prompts=16)
    )
    assert view.figure(values) == Figure.of_values(values, Level(0.99))
    assert view.figure(values, 3).interval.low < view.figure(values).interval.low


def test_the_fewest_prompts_of_a_diagnosis_are_those_of_the_policy() -> None:
    prompts = PromptSet(tuple(Prompt((number,), "", {}) for number in range(20)))
    check_enough(prompts, "to diagnose by", DEFAULT)
    with pytest.raises(Exception, match=r"20 different prompts .* 32"):
        check_enough(prompts, "to diagnose by", DEFAULT.changed(fewest_compared_prompts=32))


# Files.


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text("extends: strict\ncorrupted-below: 85%\ncompared-prompts: 64\nexpression-prompts: 32\n")
    policy = policy_named(str(file))
    assert policy.name == str(file)
    expected = POLICIES["strict"].values | {"corrupted_below": 0.85, "compared_prompts": 64, "expression_prompts": 32}
    assert policy.values == expected
    assert policy_named("ours.yaml", tmp_path).name == "ours.yaml"


@pytest.mark.parametrize("name", POLICIES)
def test_a_name_is_its_policy(name: str) -> None:
    assert policy_named(name) is POLICIES[name]


@pytest.mark.parametrize("said", ["strct", "nothing", "missing.yaml", ""])
def test_what_is_no_policy_is_refused_with_those_that_there_are(said: str) -> None:
    with pytest.raises(PolicyError) as refused:
        policy_named(said)
    assert says(str(refused.value), *POLICIES, "path.yaml")
    assert says(str(refused.value), "did you mean 'strict'") == (said == "strct")


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("extends: default\ncorupted-below: 0.8\n", "2:1", ("corupted-below", "'corrupted-below'")),
        ("extends: default\ncorrupted_below: 0.8\n", "2:1", ("'corrupted-below'",)),
        ("extends: strickt\n", "1:1", ("strickt", "'strict'")),
        ("corrupted-below: 0.8\n", "1:1", ("extends",)),
        ("extends: default\nleast-lost: 1.5\n", "2:1", ("1.5", "less than 1")),
        ("extends: default\nleast-lost: some\n", "2:1", ("some", "number")),
        ("extends: default\nleast-lost: yes\n", "2:1", ("True", "number")),
        ("extends: default\nfewest-prompts: 8.5\n", "2:1", ("8.5", "integer")),
        ("extends: default\n\ncorrupted-below: 97%\n", "3:1", ("corrupted-below", "degraded-below")),
        ("extends: default\nleast-lost: 0.1\nleast-lost: 0.2\n", "3:1", ("duplicate",)),
        ("- default\n", "1:1", ("extends",)),
        ("", "1:1", ("extends",)),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(
    tmp_path: Path, text: str, place: str, said: tuple[str, ...]
) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text(text)
    with pytest.raises(SuiteError) as refused:
        policy_named(str(file))
    told = [line for line in refused.value.args if f"{file}:{place}: " in line]
    assert told, refused.value.args
    assert says(told[0], *said)


# The command, and records.


def test_the_command_lists_every_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "strict"]) == 0
    out = capsys.readouterr().out
    for one in THRESHOLDS:
        assert says(out, one.key)
        assert says(" ".join(out.split()), " ".join(one.decides.split()))
    assert says(out, "corrupted-below", "0.9", "(default 0.75)", *POLICIES)


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text("extends: lenient\nleast-lost: 0.2\n")
    assert main(["policy", str(file), "--json"]) == 0
    text = capsys.readouterr().out
    result = PolicyResult.model_validate_json(text)
    assert result.policy.name == str(file)
    assert {one.key: one.value for one in result.thresholds if one.value != one.default} == {
        key.replace("_", "-"): value for key, value in CHANGES["lenient"].values.items()
    } | {"least-lost": 0.2}
    assert json.loads(text)["policy"]["values"]["least_lost"] == 0.2


@pytest.mark.parametrize("verb", [("policy", "strct"), ("diagnose", "--baseline", str(HEALTHY)), ("discover",)])
def test_a_command_refuses_an_unknown_policy_before_any_work(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("circuit_assertions.audit.Audit.model", lambda *asked: pytest.fail("a model was opened"))
    more = [] if verb[0] == "policy" else ["--model", str(HEALTHY), "--policy", "strct"]
    assert main([*verb, *more]) == 2
    assert says(capsys.readouterr().err, "strct", "'strict'", "path.yaml")


@pytest.mark.parametrize("kind", RESULTS)
def test_every_kind_of_result_carries_a_policy(kind: str) -> None:
    schema = RESULTS[kind].model_json_schema(mode="serialization")
    assert "policy" in schema["properties"]
    assert {"name", "values"} <= set(schema["$defs"]["PolicyUsed"]["required"])


def test_a_record_that_is_read_back_keeps_its_policy() -> None:
    gate = GateVerdict(passed=True, exit_code=0, line="GATE: PASS")
    used = PolicyResult.of(POLICIES["strict"]).policy
    written = AuditResult(gate=gate, policy=used).to_json()
    again = AuditResult.model_validate_json(written)
    assert again.policy == used
    assert again.policy.values == POLICIES["strict"].values
    assert AuditResult(gate=gate).policy.values == DEFAULT.values
    older = json.loads(written)
    del older["policy"]  # of a version that had one policy only
    assert AuditResult.model_validate(older).policy.is_default
