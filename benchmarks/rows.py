"""Take the jobs of one shape on both sides, as rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from benchmarks.jobs import Job, Jobs
from benchmarks.machine import Machine, Taken
from benchmarks.sides import LensCall, seconds_of_lens
from circuit_assertions.engine import Model
from circuit_assertions.engine.patching import Patching
from circuit_assertions.tasks import IoiTask
from circuit_assertions.tasks.words import TEMPLATES

__all__ = ["Bench", "Row", "Setting", "open_bench"]

SWEEP = "five-stage sweep"
_TEMPLATE = TEMPLATES[2]  # one template, so that all prompts are of one length


@dataclass(frozen=True)
class Setting:
    """What all rows of a shape share. `cut` says what a quick run leaves out."""

    shape: str
    device: str
    threads: int
    clock: str
    layers: int
    heads: int
    d_model: int
    vocabulary: int
    prompts: int
    tokens: int
    cut: str


@dataclass(frozen=True)
class Row:
    """One job on both sides.

    Attributes:
        seconds, peak_mb: the fast side; memory beyond weights and captured runs.
        loop_seconds, loop_peak_mb: the plain loop, scaled from `passes_timed` of its `passes`.
        lens_seconds: TransformerLens's functions, scaled too; None where they cannot, `lens_note` says why.
        floor_seconds: the job's matrix products at the rate that such products reached beside it.
        forward_seconds: one clean forward pass of the same prompts, vocabulary included, beside it.
        difference: the largest between both sides' values on the timed passes, as a share of the job's largest value.
    """

    job: str
    seconds: float
    peak_mb: float | None
    loop_seconds: float
    loop_peak_mb: float | None
    passes: int
    passes_timed: int
    lens_seconds: float | None
    lens_note: str
    floor_seconds: float
    forward_seconds: float
    difference: float

    @property
    def times_loop(self) -> float:
        """How many times faster than the plain loop."""
        return self.loop_seconds / self.seconds

    @property
    def times_lens(self) -> float | None:
        """How many times faster than TransformerLens's functions."""
        return None if self.lens_seconds is None else self.lens_seconds / self.seconds

    @property
    def forwards(self) -> float:
        """Cost in forward passes."""
        return self.seconds / self.forward_seconds

    @property
    def times_floor(self) -> float:
        """Cost over the floor."""
        return self.seconds / self.floor_seconds

    def as_json(self) -> dict[str, Any]:
        """Fields and what follows from them."""
        derived = ("times_loop", "times_lens", "forwards", "times_floor")
        return asdict(self) | {name: getattr(self, name) for name in derived}


@dataclass
class Bench:
    """A model and a batch, ready to be timed.

    Attributes:
        samples: items of each job that the slow sides are timed on.
    """

    setting: Setting
    patching: Patching
    machine: Machine
    samples: int
    _lens: dict[LensCall, float | None] = field(default_factory=dict)

    def measure(self, tell: Callable[[Row], None]) -> list[Row]:
        """Take all jobs; each row is told as soon as it is there."""
        rows: list[Row] = []

        def add(row: Row) -> None:
            rows.append(row)
            tell(row)

        jobs = Jobs(self.patching)
        for job in jobs.singles():
            add(self._take(job)[0])
        stages: list[Row] = []

        def take(job: Job) -> Taken:
            row, taken = self._take(job)
            stages.append(row)
            return taken

        jobs.sweep(take)
        for row in (_together(stages), *(replace(stage, job=f"  {stage.job}") for stage in stages)):
            add(row)
        return rows

    def forward(self) -> float:
        """Seconds of a clean forward pass."""
        bridge, tokens = self.patching.model.bridge, self.patching.base.tokens
        with torch.no_grad():
            return self.machine.seconds(lambda: bridge(tokens))

    def _take(self, job: Job) -> tuple[Row, Taken]:
        forward, rate = self.forward(), self.machine.rate(self.patching.model.layout.d_model)
        fast = self.machine.take(job.work)
        some = _spread(job.sample, self.samples)
        slow = self.machine.take(lambda: job.loop(some))
        lens, note = self._lens_seconds(job)
        difference = (slow.result - fast.result[some]).abs().max() / fast.result.abs().max()
        row = Row(
            job.name,
            fast.seconds,
            fast.peak_mb,
            slow.seconds / len(some) * job.items,
            slow.peak_mb,
            job.items * job.passes,
            len(some) * job.passes,
            lens,
            note,
            job.products / rate,
            forward,
            float(difference),
        )
        return row, fast

    def _lens_seconds(self, job: Job) -> tuple[float | None, str]:
        if job.lens is None:
            return None, "TransformerLens ablates one set per pass and has no function for it"
        call, passes = job.lens
        if call not in self._lens:
            self._lens[call] = seconds_of_lens(call, self.patching, self.machine, self.samples)
        each = self._lens[call]
        if each is None:
            return None, "TransformerLens refuses keys and values of grouped queries"
        note = "TransformerLens's nearest is total effects" if call == "out" else ""
        return each * passes, note


def open_bench(model: Model, shape: str, prompts: int, samples: int, cut: str = "") -> Bench:
    """Build the prompts; run them and their counterfactuals once. With one sample, the fast side too is timed once."""
    task = IoiTask.model_validate({"kind": "ioi", "prompts": prompts, "templates": [_TEMPLATE]})
    patching = Patching.of(model, task.build(model.source.tokenizer).prompts)
    machine = Machine(model.device, twice=samples > 1)
    named = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else str(model.device)
    layout = model.layout
    setting = Setting(
        shape,
        named,
        torch.get_num_threads(),
        machine.clock,
        layout.layers,
        layout.heads,
        layout.d_model,
        layout.vocabulary,
        prompts,
        patching.base.positions,
        cut,
    )
    return Bench(setting, patching, machine, samples)


def _together(stages: Sequence[Row]) -> Row:
    """The whole sweep as a row."""
    lens = [stage.lens_seconds for stage in stages]
    memory = [(stage.peak_mb, stage.loop_peak_mb) for stage in stages]
    fast, slow = ([size for size in side if size is not None] for side in zip(*memory, strict=True))
    return Row(
        SWEEP,
        sum(stage.seconds for stage in stages),
        max(fast, default=None),
        sum(stage.loop_seconds for stage in stages),
        max(slow, default=None),
        sum(stage.passes for stage in stages),
        sum(stage.passes_timed for stage in stages),
        None if None in lens else sum(seconds or 0.0 for seconds in lens),
        next((stage.lens_note for stage in reversed(stages) if stage.lens_note), ""),
        sum(stage.floor_seconds for stage in stages),
        sum(stage.forward_seconds for stage in stages) / len(stages),
        max(stage.difference for stage in stages),
    )


def _spread(sample: Sequence[int], count: int) -> list[int]:
    """Some of these, evenly spread."""
    return [sample[number * len(sample) // count] for number in range(min(count, len(sample)))]
