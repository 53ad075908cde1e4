"""Where no head passes a role's rules, the stages that start from the role go on from heads that could have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from auditing import Audited, ioi
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_model import CAST
from said import says

from circuit_assertions.assertions import load_circuit
from circuit_assertions.assertions.chains import Chain, chain_named
from circuit_assertions.cli import main
from circuit_assertions.diagnosis.discovery import Discovery, circuit_content, circuit_file, discover
from circuit_assertions.diagnosis.discovery.unnamed_starts import starts_of
from circuit_assertions.heads import Head
from circuit_assertions.places import packaged_suites
from circuit_assertions.report.discovered import discovery_lines
from circuit_assertions.results import DiscoveryResult

MOVERS = tuple(Head(*head) for head in CAST["name-mover"])
QUERIES, KNOCKED_OUT = "queries of name-mover at end", "name-mover knocked out"


def chain_without_movers() -> str:
    """The packaged chain of `ioi`, whose name movers would have to attend to the subject, which no head does.

    No negative name mover passes the first of its two rules either.
    """
    chain = yaml.safe_load((packaged_suites() / "chains" / "ioi.yaml").read_text(encoding="utf-8"))
    for rule in chain["stages"][0]["rules"]:
        if rule["role"] == "name-mover":
            rule["attends"] = {"from": "end", "to": "subject-1", "more-than": ["indirect-object"]}
        if "negative-copy-score" in rule["scores"]:
            rule["scores"]["copy-score"] = "75%"
    return yaml.safe_dump(chain, sort_keys=False)


@pytest.fixture(scope="module")
def chain_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("chains") / "strict.yaml"
    file.write_text(chain_without_movers(), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def found(reference_folder: Path, chain_file: Path) -> Discovery:
    audited = Audited(reference_folder)
    return discover(audited.audit, audited.checkpoint, ioi(prompts=16), chain=str(chain_file))


@pytest.mark.complete
def test_the_rest_of_the_cast_is_found_from_movers_without_a_name(found: Discovery) -> None:
    roles = {role: tuple((head.layer, head.head) for head in heads) for role, heads in found.followed.roles.items()}
    named = {role: heads for role, heads in CAST.items() if role != "name-mover"}
    assert {role: heads for role, heads in roles.items() if role != "unexplained"} == named
    assert roles["unexplained"] == CAST["name-mover"]
    assert found.followed.went_on_from == {QUERIES: MOVERS, KNOCKED_OUT: MOVERS}


@pytest.mark.complete
def test_a_head_has_a_role_by_the_rule_that_it_passes(found: Discovery) -> None:
    for one in found.followed.placed:
        if one.role == "negative-name-mover":
            assert list(one.evidence) == ["attention end -> indirect-object", "negative-copy-in-context"]
    said = [proposal.says for proposal in found.thresholds if proposal.says.get("heads") == "negative-name-mover"]
    assert [says["measure"] for says in said] == ["path-effect", "attention", "negative-copy-in-context"]
    assert said[-1]["at"] == "indirect-object"  # where it was read


@pytest.mark.complete
def test_thresholds_name_no_receiver_that_has_no_heads(found: Discovery) -> None:
    said = [proposal.says for proposal in found.thresholds]
    assert not [says for says in said if "name-mover" in str({**says, "heads": ""})]
    of_inhibition = [says["measure"] for says in said if says.get("heads") == "s-inhibition"]
    assert of_inhibition == ["attention"]
    of_backups = [says["measure"] for says in said if says.get("heads") == "backup-name-mover"]
    assert of_backups == ["copy-score"]
    assert found.not_proposed == ("s-inhibition", "backup-name-mover")
    assert "path-effect" in [says["measure"] for says in said if says.get("heads") == "induction"]


@pytest.mark.complete
def test_the_circuit_file_says_so_and_is_one_that_suites_take(found: Discovery, tmp_path: Path) -> None:
    text = circuit_file(found)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    for stage in (QUERIES, KNOCKED_OUT):
        (place,) = (place for place, line in enumerate(comments) if stage in line)
        assert says(comments[place + 1], *MOVERS)
    (tmp_path / "found.yaml").write_text(text, encoding="utf-8")
    circuit = load_circuit(tmp_path / "found.yaml")
    assert "name-mover" not in circuit.roles
    assert {"s-inhibition", "unexplained"} <= set(circuit.roles)


@pytest.mark.complete
def test_record_and_report_say_so(found: Discovery) -> None:
    record = DiscoveryResult.model_validate_json(DiscoveryResult.of(found, "found.yaml").to_json())
    assert record.found is not None
    assert record.found.went_on_from == {stage: tuple(map(str, MOVERS)) for stage in (QUERIES, KNOCKED_OUT)}
    assert record.found.not_proposed == ("s-inhibition", "backup-name-mover")
    lines = list(discovery_lines(record))
    (first,) = (line for line in lines if line.startswith("went on "))
    assert says(first, QUERIES, *MOVERS)
    assert [line for line in lines if says(line, "threshold", "s-inhibition, backup-name-mover", "suites")]


@pytest.mark.complete
def test_a_head_without_a_role_says_what_it_missed(found: Discovery) -> None:
    record = DiscoveryResult.of(found, "found.yaml").found
    assert record is not None
    for head in map(str, MOVERS):
        nearest = record.heads[head].nearest
        assert nearest is not None
        assert all(criterion.reads is not None for criterion in nearest.criteria)
        assert not all(criterion.met for criterion in nearest.criteria)
    assert all((one.nearest is None) == (one.role != "unexplained") for one in record.heads.values())
    lines = list(discovery_lines(DiscoveryResult.of(found, "found.yaml")))
    assert sum("nearest: " in line for line in lines) == len(MOVERS)
    heads = circuit_content(found)["found"]["heads"]
    assert [head for head, one in heads.items() if "nearest" in one] == list(map(str, MOVERS))


@pytest.mark.complete
def test_a_diagnosis_and_a_run_are_compared_with_such_a_circuit(
    found: Discovery, reference_folder: Path, chain_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circuit.yaml").write_text(circuit_file(found), encoding="utf-8")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint-1").symlink_to(reference_folder)
    options = ["--baseline", str(reference_folder), "--circuit", "circuit.yaml", "--chain", str(chain_file)]
    options += ["--task", "ioi", "--prompts", "32", "--device", "cpu"]
    assert main(["diagnose", "--model", str(reference_folder), *options]) == 0
    assert main(["trajectory", "--model", "run", *options]) == 0


# -- who could have a role ---------------------------------------------------------------------------------------------

IOI: Chain = chain_named("ioi")
LOGITS, TO_QUERIES = IOI.stages[:2]
HEADS = st.builds(Head, st.integers(0, 3), st.integers(0, 3))
EFFECTS = st.dictionaries(HEADS, st.floats(-3, 3, allow_nan=False))


@given(EFFECTS, EFFECTS, st.sets(HEADS))
@settings(deadline=None)
def test_they_have_the_effect_at_the_stage_that_gives_the_role_and_no_other_role(
    at_logits: dict[Head, float], elsewhere: dict[Head, float], named: set[Head]
) -> None:
    found = starts_of(IOI, TO_QUERIES, {LOGITS.name: at_logits, "elsewhere": elsewhere}, named)
    assert found == tuple(sorted(head for head, mean in at_logits.items() if mean > 0 and head not in named))


@given(EFFECTS)
@settings(deadline=None)
def test_a_stage_that_starts_from_no_role_goes_on_from_nobody(at_logits: dict[Head, float]) -> None:
    assert starts_of(IOI, LOGITS, {LOGITS.name: at_logits}, ()) == ()


def test_a_role_of_heads_that_lower_the_answer_is_started_from_such_heads() -> None:
    plain: dict[str, Any] = {"from": "end", "to": "indirect-object"}
    stages = [
        {"to": "logits", "rules": [{"role": "eraser", "sign": "negative", "attends": plain}]},
        {"knocked-out": "eraser"},
    ]
    chain = Chain.model_validate({"chain": "x", "roles": {"eraser": {}}, "stages": stages})
    at_logits = {Head(0, 0): 1.0, Head(0, 1): -1.0}
    assert starts_of(chain, chain.stages[1], {"logits": at_logits}, ()) == (Head(0, 1),)
