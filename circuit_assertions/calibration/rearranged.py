"""An audit that asks some checkpoints their prompts in another order; the readings are in the order of the task."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from circuit_assertions.audit import Audit
from circuit_assertions.calibration.errors import CalibrationError
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.measures import Reading
from circuit_assertions.request import Request
from circuit_assertions.tasks import PromptSet, Task

__all__ = ["RearrangingAudit"]


@dataclass
class RearrangingAudit(Audit):
    """An audit of one model under many settings, each of which is a checkpoint of its own.

    Attributes:
        orders: the order of the prompts by checkpoint, `reversed` or `shuffled`; that of the task for all others.
    """

    orders: dict[Checkpoint, str] = field(default_factory=dict)

    def prompts(self, task: Task, checkpoint: Checkpoint) -> PromptSet:
        """The task's prompts in the order that the checkpoint is asked them."""
        prompts = super().prompts(task, checkpoint)
        return prompts.some(_rows(self.orders.get(checkpoint, ""), len(prompts)))

    def read(self, request: Request, checkpoint: Checkpoint) -> Reading:
        """Take a reading, or remember it; its prompts are in the order of the task.

        Raises:
            CalibrationError: if the measure reads other prompts when they come in another order.
        """
        reading = super().read(request, checkpoint)
        order = self.orders.get(checkpoint)
        if order is None:
            return reading
        prompts = super().prompts(request.task, checkpoint)
        if reading.prompts != len(prompts):
            raise CalibrationError(
                f"{reading.measure} searches one half of the prompts and reads the other; in another order these are "
                f"other prompts"
            )
        place = {row: index for index, row in enumerate(_rows(order, len(prompts)))}
        back = reading.of_prompts([place[row] for row in range(len(prompts))])
        return replace(back, settings={**reading.settings, "token_hash": prompts.token_hash})


def _rows(order: str, count: int) -> Sequence[int]:
    rows = list(range(count))
    if order == "reversed":
        rows.reverse()
    elif order == "shuffled":
        random.Random(0).shuffle(rows)
    return rows
