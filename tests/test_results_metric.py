"""Results name the answer metric of their task, and the texts made from them are in its unit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from auditing import Audited
from said import says
from test_diagnosed_report import BROKEN, HEALED
from test_metric_units import task
from test_trajectory_report import trajectory
from tiny_models import save_tiny

from circuit_assertions.diagnosis.edges import find_edges
from circuit_assertions.report.diagnosed import diagnosis_lines
from circuit_assertions.report.edges import edges_lines
from circuit_assertions.report.trajectory import trajectory_lines
from circuit_assertions.results import TrajectoryResult
from circuit_assertions.results.from_diagnosis import diagnosis_result
from circuit_assertions.results.from_edges import edges_result
from circuit_assertions.tasks import METRICS

METRIC = {"name": "probability-difference", "called": "probability difference", "unit": "probability"}


def test_a_diagnosis_is_in_the_unit_of_its_metric() -> None:
    for case in (BROKEN, HEALED):
        result = diagnosis_result(replace(case, metric=METRICS["probability-difference"]))
        assert json.loads(result.to_json())["metric"] == METRIC
        text = "\n".join(line for line, _ in diagnosis_lines(result))
        assert says(text, METRIC["called"])
        assert "logit" not in text


def test_a_trajectory_has_its_metric_and_the_colours_of_roles() -> None:
    found = replace(trajectory("....."), metric=METRICS["probability-difference"], colours={"name-mover": "blue"})
    result = TrajectoryResult.of(found)
    said = json.loads(result.to_json())
    assert (said["metric"], said["colours"]) == (METRIC, {"name-mover": "blue"})
    text = "\n".join(line for line, _ in trajectory_lines(result))
    assert says(text, METRIC["called"])
    assert "logit" not in text


def test_scores_of_edges_are_in_the_unit_of_the_metric(tmp_path: Path) -> None:
    audited = Audited(save_tiny(tmp_path))
    for metric, unit in (("probability-difference", "probability"), ("logit-difference", "logits")):
        found = find_edges(audited.audit, audited.checkpoint, task(metric=metric), called="gifts", steps=1)
        result = edges_result(found, 3)
        assert result.unit == unit
        assert says(next(iter(edges_lines(result))), "gifts", unit)
