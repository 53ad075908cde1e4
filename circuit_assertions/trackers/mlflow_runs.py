"""MLflow: https://mlflow.org/docs/latest/tracking. Runs are made by its client, so that nothing global is set."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from circuit_assertions.trackers.tracker import TrackerError, needed

__all__ = ["MlflowRun"]

_EXTRA = "mlflow"
_MOST_METRICS = 1000  # of one call: MLflow's own limit
_DEFAULT = "sqlite:///mlflow.db"


class MlflowRun:
    """A run in an experiment.

    Args:
        where: a tracking URI, `sqlite:///mlflow.db` or a server's; default $MLFLOW_TRACKING_URI, else that file.
        project: the experiment, which is made if there is none.
        name: of the run.

    Raises:
        TrackerError: if mlflow is missing, or the store cannot be opened.
    """

    def __init__(self, where: str | None, project: str, name: str) -> None:
        self._mlflow = needed("mlflow", _EXTRA)
        self._entities = needed("mlflow.entities", _EXTRA)
        try:
            uri = where or (self._mlflow.get_tracking_uri() if self._mlflow.is_tracking_uri_set() else _DEFAULT)
            self._client: Any = self._mlflow.MlflowClient(tracking_uri=uri)
            known = self._client.get_experiment_by_name(project)
            experiment = known.experiment_id if known is not None else self._client.create_experiment(project)
            self.run_id: str = self._client.create_run(experiment, run_name=name).info.run_id
        except Exception as error:  # of MLflow, of its database, of the network
            raise _refused(error) from error

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Log the figures of one step."""
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(name, value, now, step) for name, value in figures.items()]
        try:
            for some in _pieces(metrics):
                self._client.log_batch(self.run_id, metrics=some)
        except Exception as error:
            raise _refused(error) from error

    def end(self, failed: bool = False) -> None:
        """Close the run."""
        self._client.set_terminated(self.run_id, status="FAILED" if failed else "FINISHED")


def _pieces(metrics: list[Any]) -> Iterator[list[Any]]:
    return (metrics[start : start + _MOST_METRICS] for start in range(0, len(metrics), _MOST_METRICS))


def _refused(error: Exception) -> TrackerError:
    return TrackerError(f"MLflow does not take the figures: {' '.join(str(error).split())[:300]}")
