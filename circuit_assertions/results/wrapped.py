"""The result of the `wrapped` verb: whether a behaviour is removed, or only wrapped."""

from __future__ import annotations

from typing import Any, Literal

from circuit_assertions.results.base import Part, Result
from circuit_assertions.results.values import CheckpointFacts, Figure, MetricFacts

__all__ = ["ProbeResult", "PrunedPoint", "PrunedResult", "RevivalResult", "RevivedModel", "WrappedResult"]


class ProbeResult(Part):
    """What a linear read-out finds in one checkpoint, as shares of prompts.

    Attributes:
        of: `model`, `control` or `baseline`.
        by_layer: after each block, from the first.
        best: after the block that is best on the prompts that the probe learns from; `shuffled` is the same with
            shuffled answers.
    """

    of: str
    by_layer: tuple[Figure, ...]
    best: Figure
    shuffled: float


class PrunedPoint(Part):
    """The behaviour without some units, as shares of the baseline's, on the prompts that report.

    Attributes:
        random: without as many random units of the same layers.
    """

    units: int
    revived: float
    random: float


class PrunedResult(Part):
    """What is revived as neurons, or heads, are pruned.

    Attributes:
        limit: up to how many units are a wrapper.
        units: those of the point that is judged.
        revived: the behaviour at that point, and `random` that without random units of the same layers.
        text_lost: what ordinary text loses there, in nats.
        holds: whether these units hold a wrapper.
    """

    kind: Literal["neuron", "head"]
    limit: int
    points: tuple[PrunedPoint, ...]
    units: tuple[str, ...]
    revived: Figure
    random: float
    text_lost: Figure
    holds: bool


class RevivedModel(Part):
    """One model that was fine-tuned in memory.

    Attributes:
        of: `model`, `control` or `original`, the baseline.
        to_half: steps to half of the baseline's behaviour, by seed; None where it was not reached.
        curves: by seed, the number of steps and the behaviour at each look, as a share of the baseline's.
    """

    of: str
    to_half: tuple[float | None, ...]
    curves: tuple[tuple[tuple[int, float], ...], ...]


class RevivalResult(Part):
    """Revival by fine-tuning.

    Attributes:
        rate, batch, steps: how it was fine-tuned, on `prompts` prompts.
        ratio: steps to half, the model's over the control's: the geometric mean over seeds. `at_most` says that the
            control, and `at_least` that the model, did not get there in some run.
    """

    rate: float
    batch: int
    steps: int
    prompts: int
    models: tuple[RevivedModel, ...]
    ratio: Figure | None = None
    at_most: bool = False
    at_least: bool = False


class WrappedResult(Result):
    """Whether a behaviour of the baseline is removed from the model.

    Attributes:
        called: the task's name, as a suite would write it.
        kept: the behaviour, as a share of the baseline's; `control_kept` that of the control.
        verdict: a word of `WrappingVerdict`, and `why` it is said.
        missing: what to give so that more can be said; empty where nothing is missing.
        probe_gap: how much more often the old answer is read from the model than from the control.
    """

    kind: Literal["wrapped"] = "wrapped"
    model: CheckpointFacts
    baseline: CheckpointFacts
    control: CheckpointFacts | None
    called: str
    task: dict[str, Any]
    token_hash: str
    prompts: int
    metric: MetricFacts
    behaviour: Figure
    baseline_behaviour: Figure
    kept: Figure
    control_kept: Figure | None
    verdict: str
    why: str
    missing: str
    probes: tuple[ProbeResult, ...] = ()
    probe_gap: Figure | None = None
    pruned: tuple[PrunedResult, ...] = ()
    revival: RevivalResult | None = None
