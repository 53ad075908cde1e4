"""The trackers by name. What a tracker needs is imported when a run of it begins."""

from __future__ import annotations

from circuit_assertions.tasks.schema import closest
from circuit_assertions.trackers.tracker import Tracker, TrackerError

__all__ = ["TRACKERS", "open_tracker"]

TRACKERS = ("mlflow", "wandb")


def open_tracker(tracker: str, name: str, *, where: str | None = None, project: str = "circuit-assertions") -> Tracker:
    """Begin a run.

    Args:
        tracker: one of `TRACKERS`.
        name: of the run.
        where: a tracking URI of MLflow; the folder of Weights & Biases.
        project: the experiment of MLflow, the project of Weights & Biases.

    Raises:
        TrackerError: if there is no such tracker, its extra is not installed, or it does not begin.
    """
    if tracker not in TRACKERS:
        raise TrackerError(f"no tracker {tracker!r}{closest(tracker, list(TRACKERS))}")
    if tracker == TRACKERS[0]:
        from circuit_assertions.trackers.mlflow_runs import MlflowRun

        return MlflowRun(where, project, name)
    from circuit_assertions.trackers.wandb_runs import WandbRun

    return WandbRun(where, project, name)
