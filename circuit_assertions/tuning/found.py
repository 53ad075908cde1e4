"""What `wrapped` is asked and what it found: probes, pruning, fine-tuning in memory, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.measures import Reading
from circuit_assertions.measures.figures import Figure
from circuit_assertions.measures.intervals import Interval, Level
from circuit_assertions.policy import Policy
from circuit_assertions.tasks import PromptSet, Task
from circuit_assertions.verdict_words import WrappingVerdict

if TYPE_CHECKING:
    from circuit_assertions.engine.training import Course
    from circuit_assertions.tuning.pruned import PrunedCurve
    from circuit_assertions.tuning.revived import Ratio, Revival

__all__ = ["Asked", "Probes", "Revivals", "Wrapping"]

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Asked:
    """What is asked.

    Attributes:
        called: the task's name.
        control: a model that never had the behaviour; None for none.
        revive: whether models are fine-tuned.
        course, seeds: how, and how often.
        text: ordinary text; None for text that the baseline writes.
    """

    model: Checkpoint
    baseline: Checkpoint
    control: Checkpoint | None
    task: Task
    called: str
    revive: bool
    course: Course
    seeds: int
    text: str | None = None
    tell: Tell = lambda what, done, total: None


@dataclass(frozen=True)
class Probes:
    """What can be read from one checkpoint linearly: hits of each prompt.

    Attributes:
        by_layer: after each block.
        best: after the block that is best on the prompts that the probe learns from.
    """

    by_layer: tuple[Reading, ...]
    best: Reading


@dataclass(frozen=True)
class Revivals:
    """Revival by fine-tuning.

    Attributes:
        original: of the baseline, which only shows that the fine-tuning does no harm.
        ratio: steps to half, the model's over the control's.
        beyond: how much more the model regained than the control, where neither got to half.
    """

    model: Revival
    original: Revival
    control: Revival | None = None
    ratio: Ratio | None = None
    beyond: Figure | None = None


@dataclass(frozen=True)
class Wrapping:
    """What was found.

    Attributes:
        kept: the behaviour, as a share of the baseline's; `control_kept` that of the control.
        why: the verdict in one sentence.
        missing: what to give so that more can be said.
        probes: by `model`, `control`, `baseline`.
        probe_gap: how much more often the old answer is read from the model than from the control.
        text_lost: what ordinary text loses by the pruning, in nats, by kind of unit.
    """

    asked: Asked
    prompts: PromptSet
    behaviour: Figure
    baseline_behaviour: Figure
    kept: Figure
    verdict: WrappingVerdict
    why: str
    policy: Policy
    audit: Audit
    missing: str = ""
    control_kept: Figure | None = None
    probes: dict[str, Probes] = field(default_factory=dict)
    probe_gap: tuple[float, Interval] | None = None
    curves: tuple[PrunedCurve, ...] = ()
    text_lost: dict[str, Figure] = field(default_factory=dict)
    revivals: Revivals | None = None

    @property
    def holding(self) -> tuple[PrunedCurve, ...]:
        """The curves whose few units hold the wrapper."""
        level = Level.of_figures(self.policy).among(len(self.curves))
        return tuple(curve for curve in self.curves if curve.revives(level, self.policy))
