"""Trackers: the figures of audits in MLflow and in Weights & Biases, step by step. Each is an extra."""

from __future__ import annotations

from circuit_assertions.trackers.figures import figures_of, run_and_step
from circuit_assertions.trackers.opening import TRACKERS, open_tracker
from circuit_assertions.trackers.tracker import Tracker, TrackerError

__all__ = ["TRACKERS", "Tracker", "TrackerError", "figures_of", "open_tracker", "run_and_step"]
