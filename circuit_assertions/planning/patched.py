"""About how much patched runs compute, from what is patched and where it is received. Passes are counted elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from circuit_assertions.engine.layout import Layout
from circuit_assertions.measures import Receiver
from circuit_assertions.measures.head_sets import RANDOM_SETS
from circuit_assertions.measures.reading_builder import ReadingBuilder
from circuit_assertions.request import Request
from circuit_assertions.tasks import PromptSet

__all__ = ["PatchedWork", "patched_work"]


@dataclass(frozen=True)
class PatchedWork:
    """Residual rows of patched runs, each going through one block.

    Attributes:
        rows: through MLPs alone, attention being frozen.
        live: through whole blocks.
        calls: of blocks.
    """

    rows: int = 0
    live: int = 0
    calls: int = 0

    def __add__(self, other: PatchedWork) -> PatchedWork:
        return PatchedWork(self.rows + other.rows, self.live + other.live, self.calls + other.calls)


def patched_work(request: Request, taking: ReadingBuilder, layout: Layout, prompts: PromptSet) -> PatchedWork:
    """What one reading patches on some prompts, beside the passes that it shares."""
    if not taking.measure.wants or "patching" not in taking.measure.wants:
        return PatchedWork()
    tokens = sum(len(prompt.tokens) for prompt in prompts.prompts)
    layers, count = layout.layers, len(prompts)
    if taking.measure.joint:
        # What sets have in common is computed once, and the last block at one position.
        sets = 1 + RANDOM_SETS * bool(taking.measure.shows_beside)
        return PatchedWork(live=sets * tokens * layers // 2, calls=sets * layers)
    told, senders = request.chosen, taking.heads
    above = [layers - sender.layer for sender in senders]
    receiver = told.get("receiver")
    if isinstance(receiver, Receiver):
        lowest = min(head.layer for head in receiver.heads)
        below = [lowest - sender.layer for sender in senders if sender.layer < lowest]
        live = len(below) * tokens * (layers - lowest)
        return PatchedWork(rows=count * sum(below), live=live, calls=layers + len(below))
    if "semantics" in told and told["semantics"] != "total":
        return PatchedWork(rows=count * sum(above), calls=layers)
    return PatchedWork(live=tokens // 2 * sum(above), calls=sum(above))
