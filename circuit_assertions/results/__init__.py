"""Results: one versioned record for each kind of result, which every output renders. They need no torch."""

from __future__ import annotations

from collections.abc import Mapping

from circuit_assertions.results.audit import AssertionResult, AuditedModel, AuditResult, Reported
from circuit_assertions.results.base import SCHEMA_VERSION, PolicyUsed, Result
from circuit_assertions.results.calibration import CalibrationResult
from circuit_assertions.results.comparison import ComparisonResult, TrendResult
from circuit_assertions.results.diagnosis import DiagnosisResult
from circuit_assertions.results.discovery import DiscoveryResult
from circuit_assertions.results.edges import EdgesResult
from circuit_assertions.results.graft import GraftResult
from circuit_assertions.results.hunt import HuntResult
from circuit_assertions.results.masks import MasksResult
from circuit_assertions.results.mutation import MutationResult
from circuit_assertions.results.plan import PlanResult
from circuit_assertions.results.policy import PolicyResult
from circuit_assertions.results.sweep import SweepResult
from circuit_assertions.results.traces import TracesResult
from circuit_assertions.results.trajectory import TrajectoryResult
from circuit_assertions.results.values import CheckpointFacts, Figure, Reading
from circuit_assertions.results.wrapped import WrappedResult

__all__ = [
    "RESULTS",
    "SCHEMA_VERSION",
    "AssertionResult",
    "AuditResult",
    "AuditedModel",
    "CalibrationResult",
    "CheckpointFacts",
    "ComparisonResult",
    "DiagnosisResult",
    "DiscoveryResult",
    "EdgesResult",
    "Figure",
    "GraftResult",
    "MasksResult",
    "HuntResult",
    "PlanResult",
    "PolicyResult",
    "PolicyUsed",
    "MutationResult",
    "Reading",
    "Reported",
    "Result",
    "SweepResult",
    "TracesResult",
    "TrajectoryResult",
    "TrendResult",
    "WrappedResult",
]

RESULTS: Mapping[str, type[Result]] = {
    "audit": AuditResult,
    "calibration": CalibrationResult,
    "comparison": ComparisonResult,
    "diagnosis": DiagnosisResult,
    "discovery": DiscoveryResult,
    "edges": EdgesResult,
    "graft": GraftResult,
    "masks": MasksResult,
    "hunt": HuntResult,
    "plan": PlanResult,
    "policy": PolicyResult,
    "mutation": MutationResult,
    "sweep": SweepResult,
    "traces": TracesResult,
    "trajectory": TrajectoryResult,
    "trend": TrendResult,
    "wrapped": WrappedResult,
}
