"""How long a diagnosis and a discovery take, stage by stage, in seconds and in forward passes of the same prompts.

    python -m benchmarks.diagnosis [--prompts N] [--threads N] [--quick] [--json]

On a model of GPT-2 small's shape with seeded random weights that was given the answers (`benchmarks/situations.py`),
beside copies with three heads negated and with all weights noised. docs/speed.md says how to read the table.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import Machine
from benchmarks.models import SHAPES
from benchmarks.situations import CIRCUIT, Situation, heads_of, make_situation
from circuit_assertions.assertions import load_circuit
from circuit_assertions.assertions.chains import Chain
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening, find_checkpoints
from circuit_assertions.diagnosis.discovery.follow_chain import follow
from circuit_assertions.diagnosis.discovery.thresholds import propose
from circuit_assertions.diagnosis.lenses import diagnose
from circuit_assertions.diagnosis.view import View
from circuit_assertions.report.tables import Column, table
from circuit_assertions.tasks import IoiTask, RepeatedTokensTask

_LEAST = 0.02  # the smallest effect that discovery counts, as a share of the logit difference; as in `discover`
_AIMS = {"diagnosis": 180.0, "discovery": 300.0}  # seconds on two cores
_COLUMNS = (Column(72, gap=0), Column(9, "right", gap=0), Column(10, "right", gap=0))
_LENSES = {
    "what each component breaks and restores": "origin, each part alone",
    "which components are not needed": "origin, parts together",
    "what components restore together": "origin, parts together",
    "matched random sets": "origin, random sets",
    "transplants into the model": "expression",
    "transplants into the baseline": "expression",
    "patterns into the model": "expression",
    "transplants together": "expression",
}


@dataclass
class Job:
    """One diagnosis or discovery.

    Attributes:
        seconds: by stage.
        forward_seconds: of one clean forward pass of all prompts, vocabulary included.
        found: what it came to, in a few words.
    """

    name: str
    forward_seconds: float
    found: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class _Watch:
    """Adds the time since it was last told to the stage that was going on."""

    machine: Machine
    job: Job
    stage: str
    since: float = 0.0

    def __post_init__(self) -> None:
        self.since = self.machine.now()

    def __call__(self, stage: str) -> None:
        now = self.machine.now()
        self.job.seconds[self.stage] = self.job.seconds.get(self.stage, 0.0) + now - self.since
        self.stage, self.since = stage, now


def measure(situation: Situation, machine: Machine, done: Callable[[Job], None]) -> list[Job]:
    """Diagnose every damaged copy, then discover in the healthy model."""
    jobs = []
    healthy = _one(situation.healthy)
    audit = Audit(Opening(device="cpu", dtype="float32"), healthy)
    forward = min(machine.seconds(lambda: _forward(audit, healthy, situation.task)) for _ in range(2))
    for name, folder in situation.damaged.items():
        job = Job(f"diagnosis, {name}", forward)
        _diagnose(audit, _one(folder), healthy, situation.task, _Watch(machine, job, "function"))
        audit.forget(_one(folder))
        done(job)
        jobs.append(job)
    audit.close()
    jobs.append(Job("discovery", forward))
    _discover(audit, healthy, situation.task, _Watch(machine, jobs[-1], "behaviour"))
    done(jobs[-1])
    return jobs


def _diagnose(audit: Audit, model: Checkpoint, baseline: Checkpoint, task: IoiTask, watch: _Watch) -> None:
    layout = audit.model(model).layout
    audit.prompts(task, model)
    roles = {role: heads_of(layout.layers, layout.heads, role) for role in load_circuit(CIRCUIT).roles}
    watch.since = watch.machine.now()  # opening is no part of it
    found = diagnose(audit, model, baseline, task, roles, tell=lambda what, done, total: watch(_LENSES[what]))
    watch("")
    best = found.origin.found
    names = ", ".join(map(str, best.parts)) if best else "nothing"
    healed = f", {best.healed.mean:.0%} restored by {names}" if best else ""
    watch.job.found = f"{found.behaviour.retained.mean:.0%} of the behaviour left, {found.origin.verdict}{healed}"


def _discover(audit: Audit, model: Checkpoint, task: IoiTask, watch: _Watch) -> None:
    """All stages of a discovery, whatever the heads that are found look at: random heads play no role."""
    view = View(audit, model, task)
    room = audit.model(model).layout.positions
    asked = {"kind": "repeated-tokens", "length": min(24, (room - 2) // 2)}
    repeated = View(audit, model, RepeatedTokensTask.model_validate(asked))
    audit.prompts(task, model)
    watch.since = watch.machine.now()
    chain = _chain()
    view.plan("answer-rate")
    followed, *_ = follow(chain, (view, *view.halves()), repeated, _LEAST, watch)
    everyone = tuple(one.head for one in followed.placed)
    watch("faithfulness, thresholds")
    view.plan("faithfulness-over-random", set=everyone)
    view.reading("faithfulness", set=everyone)
    propose(chain, followed, view, repeated, everyone)
    watch("")
    found = ", ".join(f"{len(heads)} by {name}" for name, heads in followed.groups.items())
    watch.job.found = f"heads with an effect: {found}"


def _chain() -> Chain:
    """The stages of the IOI chain, each receiving where the one before found an effect, not a role."""
    queries = "queries of logits at end"
    stages = [
        {"to": "logits"},
        {"to": {"queries-of": "logits", "at": "end"}},
        {"to": {"values-of": queries, "at": "subject-2"}},
        {"to": {"keys-of": queries, "at": "after-subject-1"}},
        {"to": "anywhere"},
        {"knocked-out": "logits"},
    ]
    return Chain.model_validate({"chain": "ioi", "stages": stages})


def _forward(audit: Audit, checkpoint: Checkpoint, task: IoiTask) -> None:
    model = audit.model(checkpoint)
    with torch.no_grad():
        for _, batch in audit.prompts(task, checkpoint).batches(64):
            model.bridge(torch.tensor([prompt.tokens for prompt in batch]))


def _one(folder: Path) -> Checkpoint:
    return find_checkpoints(str(folder))[0]


def lines(job: Job) -> list[str]:
    """A job as text: one line per stage."""
    shown = [(job.name, sum(job.seconds.values())), *((f"  {stage}", took) for stage, took in job.seconds.items())]
    rows = [(name, f"{seconds:.1f}", f"{seconds / job.forward_seconds:.1f}") for name, seconds in shown]
    return [*table(rows, *_COLUMNS), *textwrap.wrap(job.found, 100, initial_indent="  ", subsequent_indent="  ")]


def main() -> int:
    """Print the table, job after job."""
    given = _arguments()
    torch.set_num_threads(given.threads)
    machine = Machine(torch.device("cpu"), twice=False)
    shape = SHAPES["tiny" if given.quick else "gpt2-small"]
    config = shape.config(shape.quick_layers if given.quick else shape.layers)
    prompts = given.prompts or (16 if given.quick else 64)
    setting = {
        "layers": config.n_layer,
        "heads": config.n_head,
        "d_model": config.n_embd,
        "vocabulary": config.vocab_size,
        "prompts": prompts,
        "threads": given.threads,
        "clock": machine.clock,
    }
    if not given.json:
        print(", ".join(f"{name} {value}" for name, value in setting.items()))
        print(*table([("", "time s", "forwards")], *_COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):  # progress bars
        situation = make_situation(config, Path(folder), IoiTask.model_validate({"kind": "ioi", "prompts": prompts}))
        jobs = measure(situation, machine, lambda job: None if given.json else print(*lines(job), sep="\n", flush=True))
    if given.json:
        print(json.dumps({"setting": setting, "jobs": [_as_json(job) for job in jobs]}, indent=2))
    return 0


def _as_json(job: Job) -> dict[str, Any]:
    total = sum(job.seconds.values())
    aim = _AIMS[job.name.split(",")[0]]
    return asdict(job) | {"total_seconds": total, "forwards": total / job.forward_seconds, "aim_seconds": aim}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, help="prompts of ioi (default: 64)")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default: 1)")
    parser.add_argument("--quick", action="store_true", help="16 prompts on a tiny model")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.prompts is not None and given.prompts < 4:
        parser.error("--prompts: half of them search and half confirm; give at least four")
    return given


if __name__ == "__main__":
    sys.exit(main())
