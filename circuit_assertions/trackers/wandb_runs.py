"""Weights & Biases: https://docs.wandb.ai. `WANDB_MODE=offline` needs no account; `wandb sync` sends the run later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from circuit_assertions.trackers.tracker import TrackerError, needed

__all__ = ["WandbRun"]

_EXTRA = "wandb"


class WandbRun:
    """A run in a project. Offline or online is wandb's own setting.

    Args:
        where: the folder in which wandb puts `wandb/`; default the working directory.
        project: its project.
        name: of the run.

    Raises:
        TrackerError: if wandb is missing, or refuses to begin.
    """

    def __init__(self, where: str | None, project: str, name: str) -> None:
        wandb = needed("wandb", _EXTRA)
        try:
            self.run: Any = wandb.init(
                project=project, name=name, dir=where, reinit="create_new", settings=wandb.Settings(silent=True)
            )
        except Exception as error:  # of wandb, or of the network
            raise TrackerError(
                f"Weights & Biases does not begin a run: {error} (WANDB_MODE=offline needs no account)"
            ) from error

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Log the figures of one step."""
        self.run.log(dict(figures), step=step)

    def end(self, failed: bool = False) -> None:
        """Close the run."""
        self.run.finish(exit_code=int(failed))
