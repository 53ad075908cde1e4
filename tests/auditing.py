"""Short ways into an audit, for tests that measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening, find_checkpoints
from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading
from circuit_assertions.request import Request
from circuit_assertions.tasks import GivenPromptsTask, IoiTask, RepeatedTokensTask, Task

SHARED = Path(__file__).parents[2] / "shared" / "data"
STORIES = SHARED / "stories260K"
HEALTHY = Path(__file__).parents[1] / "fixtures" / "checkpoints" / "healthy"


class Audited:
    """One checkpoint in an audit of its own."""

    def __init__(self, folder: Path, dtype: str = "float32") -> None:
        self.audit = Audit(Opening(device="cpu", dtype=dtype))
        self.checkpoint: Checkpoint = find_checkpoints(str(folder))[0]

    def read(self, measure: str, task: Task, *heads: Head, **operands: Any) -> Reading:
        """Of these heads; of all, where none is named."""
        return self.audit.read(Request(measure, task, tuple(operands.items()), heads or None), self.checkpoint)

    def plan(self, *requests: Request) -> None:
        self.audit.plan(self.checkpoint, requests)


def ioi(**options: Any) -> IoiTask:
    return IoiTask.model_validate({"kind": "ioi", **options})


def repeated(**options: Any) -> RepeatedTokensTask:
    return RepeatedTokensTask.model_validate({"kind": "repeated-tokens", **options})


def given(*pairs: dict[str, str]) -> GivenPromptsTask:
    return GivenPromptsTask.model_validate({"kind": "prompts", "pairs": list(pairs)})
