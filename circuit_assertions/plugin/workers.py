"""pytest-xdist: a checkpoint is opened by as few workers as possible, and node ids stay what they are without workers.

xdist's own `--dist=loadgroup` appends the group to node ids, and `--lf` then does not find what failed. Where the
user asks for nothing but `-n N`, this plugin's own scheduler keeps the items of one suite and checkpoint together; who
says `--dist=loadgroup` has those of one checkpoint and task together, on the mark that items carry.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

__all__ = ["group_of", "keep_checkpoints_together", "make_scheduler"]

_TOGETHER = pytest.StashKey[bool]()


def keep_checkpoints_together(config: pytest.Config) -> None:
    """Remember that `-n N` came without a `--dist` of the user's own, before xdist fills in one."""
    config.stash[_TOGETHER] = bool(getattr(config.option, "numprocesses", None)) and config.option.dist == "no"


def make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The scheduler that keeps checkpoints together, or None where the user chose another."""
    if not config.stash.get(_TOGETHER, False):
        return None
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped, unused-ignore]

    class CheckpointScheduling(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
        """Work units are the items of one suite and checkpoint, and single tests otherwise."""

        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    return CheckpointScheduling(config, log)


def scope_of(nodeid: str) -> str:
    """What an item is scheduled with: `suites/ioi.yaml[checkpoint-10]`; a test of another kind goes alone."""
    name, bracket, label = nodeid.partition("[")
    file = name.partition("::")[0]
    return f"{file}{bracket}{label}" if file.endswith((".yaml", ".yml")) else nodeid


def group_of(checkpoint: str, task: str) -> str:
    """The xdist group of a checkpoint and a task. Short and without separators: it becomes part of node ids."""
    return hashlib.sha256(f"{checkpoint}\0{task}".encode()).hexdigest()[:10]
