"""What keeps what was read of checkpoints from one run to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from circuit_assertions.checkpoints import Checkpoint, Opening
from circuit_assertions.engine import Opened
from circuit_assertions.measures import Reading
from circuit_assertions.request import Request
from circuit_assertions.tasks import PromptSet, Task

__all__ = ["Cache"]


class Cache(Protocol):
    """Readings and what they need of a checkpoint, known by the files that the checkpoint is read from.

    Whatever it does not have is None, and nothing that it cannot read or write is an error.
    """

    def opened(self, checkpoint: Checkpoint, opening: Opening) -> Opened | None:
        """The facts of a checkpoint, which need not be opened for them."""

    def keep_opened(self, checkpoint: Checkpoint, opening: Opening, opened: Opened) -> None:
        """Keep the facts of a checkpoint that was just opened."""

    def prompts(self, task: Task, checkpoint: Checkpoint, owner: Checkpoint, opening: Opening) -> PromptSet | None:
        """The prompts of a task, made with the tokenizer of `owner`, which reads them as that of the checkpoint."""

    def keep_prompts(
        self, task: Task, checkpoint: Checkpoint, owner: Checkpoint, opening: Opening, prompts: PromptSet
    ) -> None:
        """Keep them, after the two tokenizers were compared."""

    def reading(
        self, request: Request, names: tuple[str, ...], prompts: PromptSet, checkpoint: Checkpoint, opening: Opening
    ) -> Reading | None:
        """A reading of these components, of exactly these prompts; it may be of more components."""

    def keep_reading(
        self, request: Request, reading: Reading, prompts: PromptSet, checkpoint: Checkpoint, opening: Opening
    ) -> None:
        """Keep a reading."""

    def other(self, what: str, key: Mapping[str, Any], checkpoint: Checkpoint, opening: Opening) -> Any:
        """Something else that was read of a checkpoint, as JSON."""

    def keep_other(
        self, what: str, key: Mapping[str, Any], value: Any, checkpoint: Checkpoint, opening: Opening
    ) -> None:
        """Keep it."""
