"""pytest-xdist: items of one checkpoint and task stay on one worker, and workers share out the caller's GPUs."""

from __future__ import annotations

import hashlib

import pytest

__all__ = ["group_of", "is_controller", "keep_checkpoints_together"]


def keep_checkpoints_together(config: pytest.Config) -> None:
    """With `-n N` and no `--dist` of the user's own, distribute by group instead of item by item."""
    if getattr(config.option, "numprocesses", None) and config.getoption("dist", "no") == "no":
        config.option.dist = "loadgroup"


def is_controller(config: pytest.Config) -> bool:
    """Whether this process only distributes: it collects nothing and must not open a model."""
    distributes = getattr(config.option, "numprocesses", None) or getattr(config.option, "tx", None)
    return bool(distributes) and not hasattr(config, "workerinput")


def group_of(checkpoint: str, task: str) -> str:
    """The xdist group of a checkpoint and a task. Short and without separators: it becomes part of node ids."""
    return hashlib.sha256(f"{checkpoint}\0{task}".encode()).hexdigest()[:10]
