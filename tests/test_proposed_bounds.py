"""Bounds out of circuit files: typed, taken over where they were measured on the reference, never asking nothing."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from auditing import HEALTHY, Audited
from said import says
from suite_texts import write

from circuit_assertions.assertions import (
    Judgement,
    LoadedSuite,
    SuiteError,
    Verdict,
    bind,
    load_circuit,
    load_suite,
)
from circuit_assertions.assertions.circuits import Circuit
from circuit_assertions.assertions.runner import NotApplicable, PlannedAssertion, SuiteRunner
from circuit_assertions.assertions.yaml_source import read_source
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening, find_checkpoints
from fixtures import planted

pytestmark = pytest.mark.usefixtures("opened_once")

CIRCUITS = Path(__file__).parents[1] / "suites" / "circuits"
EMBEDDED = CIRCUITS / "embedded.ioi.yaml"
POISONED = HEALTHY.with_name("poisoned")
CPU = Opening(device="cpu", dtype="float32")
TASKS = "suite: x\ncircuit: ioi\ntasks:\n  ioi: {kind: ioi, prompts: 64, seed: 3}\n  few: {kind: ioi, prompts: 64, "
TASKS += "names: [Anna, Carl, Leo, Ruth, Sam, Tom]}\n  again: {kind: repeated-tokens}\n"
TASKS += "assertions:\n"

Change = Mapping[tuple[str | int, ...], Any]


def file_with(folder: Path, change: Change, name: str = "own.ioi.yaml") -> Path:
    """The embedded circuit file, with some of its values replaced."""
    content = yaml.safe_load(EMBEDDED.read_text(encoding="utf-8"))
    for path, value in change.items():
        place = content
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value
    return write(folder, {name: yaml.safe_dump(content, sort_keys=False)}) / name


def said(folder: Path, *lines: str, circuits: tuple[Circuit, ...]) -> LoadedSuite:
    text = TASKS + "".join(f"  - {{id: a{number}, {line}}}\n" for number, line in enumerate(lines))
    return load_suite(write(folder, {"x.yaml": text}) / "x.yaml", circuits)


@cache
def healthy_audit() -> Audit:
    """The embedded model in an audit that remembers what was read: most lines here differ in their bounds alone."""
    return Audit(CPU)


def put(
    folder: Path, line: str, *files: Path, model: Path = HEALTHY, baseline: Path | None = None
) -> Judgement | NotApplicable:
    """One assertion, put to a model."""
    circuits = tuple(load_circuit(file) for file in files)
    suite = said(folder, line, circuits=circuits)
    other: Checkpoint | None = find_checkpoints(str(baseline))[0] if baseline is not None else None
    audit = healthy_audit() if (model, baseline) == (HEALTHY, None) else Audit(CPU, other)
    asked = PlannedAssertion(suite, suite.suite.assertions[0], find_checkpoints(str(model))[0], circuits)
    return SuiteRunner(audit, other).judge(asked)


def judged(folder: Path, line: str, *files: Path, **models: Path) -> Judgement:
    judgement = put(folder, line, *files, **models)
    assert isinstance(judgement, Judgement)
    return judgement


RATE = "measure: answer-rate, task: ioi, expect: {at-least: %s}"
MOVERS = "measure: path-effect, heads: name-mover, quantifier: mean, task: ioi, expect: {at-least: %s}"


# -- taking over -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (RATE % "proposed", "at least 0.95 (from embedded.ioi.yaml)"),
        (RATE % "{proposed: 90%, otherwise: 50%}", "at least 0.855 (90% of 0.95, from embedded.ioi.yaml)"),
        (MOVERS % "{proposed: 0.5}", "at least 0.3 (50% of 0.6, from embedded.ioi.yaml)"),
        # Defaults that are written out mean the same.
        (MOVERS.replace("task", "semantics: through-mlps, receiver: logits, task") % "proposed", "0.6 (from"),
        (
            "measure: path-effect, heads: s-inhibition, quantifier: mean, receiver: {query: name-mover}, task: ioi, "
            "expect: {at-least: proposed}",
            "at least 0.19 (from",
        ),
        (
            "measure: attention, heads: backup-name-mover, without: name-mover, quantifier: mean, query: end, "
            "key: indirect-object, task: ioi, expect: {at-least: proposed}",
            "at least 0.57 (from",
        ),
        (
            "measure: faithfulness, heads: circuit, task: ioi, expect: {at-least: {proposed: 75%}}",
            "at least 0.75 (75% of",
        ),
    ],
)
def test_a_model_beside_its_own_circuit_file_takes_its_bounds(tmp_path: Path, line: str, expected: str) -> None:
    judgement = judged(tmp_path, line, EMBEDDED)
    assert expected in judgement.expected
    assert judgement.rows[0].findings[0].expected in judgement.expected


@pytest.mark.parametrize(
    "line",
    [
        MOVERS.replace("mean", "each") % "{proposed: 100%, otherwise: 0.123}",
        MOVERS.replace("quantifier: mean", "at-least-heads: 2") % "{proposed: 100%, otherwise: 0.123}",
        MOVERS.replace("task", "layers: [3, 3], task") % "{proposed: 100%, otherwise: 0.123}",
        MOVERS.replace("name-mover", "[L3H0, L3H1]") % "{proposed: 100%, otherwise: 0.123}",
        MOVERS.replace("name-mover", "unexplained") % "{proposed: 100%, otherwise: 0.123}",
        MOVERS.replace("task", "semantics: direct, task") % "{proposed: 100%, otherwise: 0.123}",
        MOVERS.replace("task", "direction: clean-into-counterfactual, task") % "{proposed: 100%, otherwise: 0.123}",
        MOVERS.replace("task", "receiver: {query: backup-name-mover}, task") % "{proposed: 100%, otherwise: 0.123}",
        MOVERS.replace("path-effect", "direct-effect") % "{proposed: 100%, otherwise: 0.123}",
        MOVERS.replace("at-least", "at-most") % "{proposed: 100%, otherwise: 0.123}",
        (RATE % "{proposed: 100%, otherwise: 0.123}").replace("task: ioi", "task: few"),
        (RATE % "{proposed: 100%, otherwise: 0.123}").replace("task: ioi", "task: again"),
    ],
)
@pytest.mark.complete
def test_what_is_not_the_same_reading_is_not_taken_over(tmp_path: Path, line: str) -> None:
    """Other heads, quantifiers, operands, sides or prompts: the suite's own number stands."""
    judgement = judged(tmp_path, line, EMBEDDED)
    assert "0.123" in judgement.expected
    assert "embedded" not in judgement.expected


def test_without_a_bound_the_assertion_is_skipped_or_only_what_is_left_is_judged(tmp_path: Path) -> None:
    bare = file_with(tmp_path, {("found", "thresholds"): []})
    skipped = put(tmp_path, RATE % "proposed", bare)
    assert isinstance(skipped, NotApplicable)
    assert says(skipped.reason, "at-least", "circuit file", "bound")
    left = judged(tmp_path, (MOVERS % "proposed").replace("{at-least", "{sign: positive, at-least"), bare)
    assert left.expected == "positive"
    assert left.not_judged[0].startswith("at-least (no circuit file")
    assert judged(tmp_path, RATE % "{proposed: 90%, otherwise: 0.5}", bare).expected == "at least 0.5"


# -- whose bounds ------------------------------------------------------------------------------------------------------


def _fingerprint(folder: Path) -> str:
    audited = Audited(folder)
    return audited.audit.model(audited.checkpoint).source.fingerprint


def test_a_model_under_test_does_not_propose_its_own_bounds(tmp_path: Path) -> None:
    """A file that was made from a poisoned checkpoint asks nothing of it; beside a baseline it is not even read."""
    lenient = {("found", "thresholds", 1, "at-least"): 0.001, ("base", "fingerprint"): _fingerprint(POISONED)}
    own = file_with(tmp_path, lenient)
    line = RATE % "{proposed: 100%, otherwise: 0.9}"
    for files, expected in (((own,), "at least 0.9"), ((own, EMBEDDED), "at least 0.95 (from embedded.ioi.yaml)")):
        judgement = judged(tmp_path, line, *files, model=POISONED, baseline=HEALTHY)
        assert (judgement.expected, judgement.verdict) == (expected, Verdict.BROKEN)
    alone = judged(tmp_path, line, own, model=POISONED)  # it is the base, and nothing is said of another model
    assert alone.expected == "at least 0.001 (from own.ioi.yaml)"


@pytest.mark.complete
def test_a_file_that_only_fits_by_shape_proposes_nothing_and_is_named_in_a_failure(tmp_path: Path) -> None:
    judgement = judged(tmp_path, RATE % "{proposed: 100%, otherwise: 0.9}", EMBEDDED, model=POISONED)
    assert judgement.expected == "at least 0.9"
    assert judgement.assumed == ""  # of the whole model: no role was bound
    no_base = file_with(tmp_path, {("base",): None})  # as the published circuits are written
    assert judged(tmp_path, RATE % "{proposed: 100%, otherwise: 0.9}", no_base).expected == "at least 0.9"
    by_role = judged(tmp_path, MOVERS % "{proposed: 100%, otherwise: 0.9}", EMBEDDED, model=POISONED)
    assert by_role.expected == "at least 0.9"
    assert by_role.assumed.startswith("embedded.ioi.yaml (")
    assert says(by_role.assumed, "lineage", "assumed", "fixtures/checkpoints/healthy")
    assert says(by_role.assumed, "`circuit-assertions discover`", "--baseline")
    assert judged(tmp_path, MOVERS % "0.1", EMBEDDED, model=POISONED, baseline=HEALTHY).assumed == ""


def test_the_baselines_circuit_goes_before_the_models_own(tmp_path: Path) -> None:
    own = load_circuit(file_with(tmp_path, {("base", "fingerprint"): "a" * 64}))
    baselines = load_circuit(EMBEDDED)
    assert baselines.base is not None
    shape, known = own.fits.shape, ["a" * 64, str(baselines.base.fingerprint)]
    for files in ((own, baselines), (baselines, own)):
        bound = bind(files, "ioi", shape, known)
        assert bound is not None
        assert (bound.certain, bound.circuit) == (True, baselines)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({("found", "thresholds", 2, "at-least"): 0}, MOVERS),
        ({("found", "thresholds", 2, "at-least"): -0.5}, MOVERS),
        ({("found", "thresholds", 0, "at-least"): 0.0}, RATE.replace("answer-rate", "logit-difference")),
    ],
)
def test_a_bound_that_asks_nothing_is_not_taken_over(tmp_path: Path, change: Change, line: str) -> None:
    file = file_with(tmp_path, change)
    assert judged(tmp_path, line % "{proposed: 80%, otherwise: 0.25}", file).expected == "at least 0.25"


@pytest.mark.sample(1)
@pytest.mark.parametrize("head", ["L3H0", "L3H1", "L3H2", "L3H3"])
def test_a_negated_name_mover_is_seen_with_the_bounds_of_the_healthy_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    monkeypatch.setattr("sys.argv", ["planted", str(HEALTHY), str(tmp_path / "flipped"), "--negate", head])
    planted.main()
    line = "measure: copy-score, heads: name-mover, quantifier: mean, task: ioi, expect: {at-least: {proposed: 90%}}"
    for model, verdict in ((HEALTHY, Verdict.HELD), (tmp_path / "flipped", Verdict.BROKEN)):
        assert judged(tmp_path, line, EMBEDDED, model=model, baseline=HEALTHY).verdict is verdict


# -- circuit files -----------------------------------------------------------------------------------------------------

THRESHOLD = ("found", "thresholds", 3)  # attention of the name movers from end to the indirect object


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({(*THRESHOLD, "measure"): "atention"}, ["'atention'", "'attention'"]),
        ({(*THRESHOLD, "heads"): "name-movr"}, ["role 'name-movr'", "'name-mover'"]),
        ({(*THRESHOLD, "heads"): "induction"}, ["role 'induction'"]),
        ({(*THRESHOLD, "without"): "nobody"}, ["role 'nobody'"]),
        ({(*THRESHOLD, "heads"): None}, ["attention", "`heads:`"]),
        ({("found", "thresholds", 0, "heads"): "circuit"}, ["logit-difference", "no heads"]),
        ({(*THRESHOLD, "at-least"): 95}, ["attention", "between 0 and 1", "at-least 95", "hold"]),
        ({(*THRESHOLD, "at-least"): 0}, ["attention", "between 0 and 1", "at-least 0", "fail"]),
        ({(*THRESHOLD, "at-least"): "much"}, ["'much'", "number"]),
        ({(*THRESHOLD, "at-least"): float("nan")}, ["nan", "finite"]),
        ({(*THRESHOLD, "at-most"): 0.9}, ["one bound", "at-least", "at-most"]),
        ({(*THRESHOLD, "at-lest"): 0.9}, ["key 'at-lest'", "'at-least'"]),
        ({(*THRESHOLD, "quantifier"): "some"}, ["'some'"]),
        ({(*THRESHOLD, "ablation"): "mean"}, ["attention", "`ablation`"]),
        ({("found", "thresholds", 5, "semantics"): "derect"}, ["'derect'", "'direct'"]),
        ({("found", "thresholds", 5, "receiver"): {"query": "nobody"}}, ["role 'nobody'"]),
        ({("found", "thresholds", 5, "receiver"): {"qury": "name-mover"}}, ["key 'qury'"]),
        ({("found", "thresholds", 5, "receiver"): "logit"}, ["receiver 'logit'"]),
        ({("found", "thresholds"): "none"}, ["text", "list"]),
        ({("found", "thresholds", 1): 0.98}, ["number", "mapping"]),
        ({("found", "thresholds", 1): {"measure": "logit-difference", "at-least": 3}}, ["same reading", "threshold 1"]),
        ({("found",): ["evidence"]}, ["list", "mapping"]),
    ],
)
def test_a_mistake_in_a_threshold_is_told_where_it_stands(tmp_path: Path, change: Change, named: list[str]) -> None:
    file = file_with(tmp_path, change)
    with pytest.raises(SuiteError) as raised:
        load_circuit(file)
    (line,) = [text for text in str(raised.value).splitlines() if says(text, *named)]
    path = next(iter(change))
    where = read_source(file).place
    first, last = where(path[:3])[0], where((*path[:2], int(path[2]) + 1))[0] if len(path) > 2 else where(path)[0]
    number = int(line.removeprefix(f"{file}:").split(":")[0])
    assert first <= number <= max(first, last)  # within the threshold


def test_evidence_may_be_anything_and_none_is_needed(tmp_path: Path) -> None:
    for found in (None, {}, {"by": "hand", "heads": {"L0H0": {"seen": True}}, "thresholds": []}):
        circuit = load_circuit(file_with(tmp_path, {("found",): copy.deepcopy(found)}))
        assert circuit.found is None or circuit.found.thresholds == ()


def test_the_packaged_thresholds_are_read(tmp_path: Path) -> None:
    for name, count in (("embedded.ioi.yaml", 15), ("embedded.induction.yaml", 10)):
        circuit = load_circuit(CIRCUITS / name)
        assert circuit.found is not None
        assert len(circuit.found.thresholds) == count
