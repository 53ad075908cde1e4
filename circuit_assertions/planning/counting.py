"""Passes are counted by an audit that takes none: the same requests, planned together by the same code, of a shape."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.planned import NotApplicable, PlannedAssertion
from circuit_assertions.assertions.readings_needed import Requesting
from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.components import Component
from circuit_assertions.engine import Model, Wanted
from circuit_assertions.engine.memory import budget
from circuit_assertions.engine.passes import bytes_a_prompt, prompts_together
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.measures.reading_builder import ReadingBuilder
from circuit_assertions.measures.sweeping import KNOCKOUT, Sweep
from circuit_assertions.planning.patched import PatchedWork, patched_work
from circuit_assertions.planning.shape_model import ShapeModel
from circuit_assertions.records.record import family_of
from circuit_assertions.request import Request
from circuit_assertions.tasks import PromptSet

__all__ = ["Counted", "CountingAudit", "count_passes"]

_HALVES = (torch.float16, torch.bfloat16)


@dataclass
class Counted:
    """What an audit would do.

    Attributes:
        passes: prompts that go through the model, as `engine.work` counts them.
        tokens: of all passes together.
        pairs: of positions, as attention has them, of all passes together.
        read_tokens: positions at which logits of the whole vocabulary are formed.
        batches: calls of the model.
        patched: of patched runs.
        readings: taken.
        values: of all readings together.
        judgements: assertions judged, once for each look.
        prompts: the most prompts that are read of each task, by its settings but their number.
        longest: tokens of the longest prompt of each.
        largest: bytes that the largest batch takes, with the runs of it that are kept.
        skipped: assertions that do not apply, by reason.
        comparing: assertions whose measure compares checkpoints; what these cost is not counted.
    """

    passes: int = 0
    tokens: int = 0
    pairs: int = 0
    read_tokens: int = 0
    batches: int = 0
    patched: PatchedWork = field(default_factory=PatchedWork)
    readings: int = 0
    values: int = 0
    judgements: int = 0
    prompts: dict[str, int] = field(default_factory=dict)
    longest: dict[str, int] = field(default_factory=dict)
    largest: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    comparing: list[str] = field(default_factory=list)


@dataclass
class CountingAudit(Audit):
    """An audit of shapes. What it reads is made up; what it would run to read it is counted."""

    counted: Counted = field(default_factory=Counted)
    _kept: dict[Hashable, Wanted] = field(default_factory=dict)  # of passes that stay for the next reading

    def _opened(self, checkpoint: Checkpoint) -> Model:
        return cast(Model, ShapeModel.of(checkpoint, self.opening))

    def _run(
        self, checkpoint: Checkpoint, asked: Request, wanted: Sequence[tuple[Request, tuple[Component, ...]]]
    ) -> None:
        model, prompts = self.model(checkpoint), self._read_prompts(asked, checkpoint)
        self._note_prompts(prompts)
        takings = [
            ReadingBuilder(request.measure, MEASURES[request.measure], heads, request.chosen, len(prompts))
            for request, heads in wanted
        ]
        sweep = _CountingSweep.of(model, prompts, lambda done, total: None)
        for taking in takings:
            taking.prepare(sweep)
        if cast(_CountingSweep, sweep).swept:
            self._pass(model, sweep.prompts, KNOCKOUT)
        by_first: dict[int, list[tuple[ReadingBuilder, Request]]] = {}
        for taking, (request, _) in zip(takings, wanted, strict=True):
            first = self._begun(taking, request, checkpoint, prompts)
            by_first.setdefault(first, []).append((taking, request))
        for first, some in by_first.items():
            self._pass_over_some(checkpoint, asked, prompts, first, some)
        for taking, (request, heads) in zip(takings, wanted, strict=True):
            self.counted.readings += 1
            self.counted.values += len(prompts) * max(1, len(heads))
            self._taken[(checkpoint, request.key)] = taking
            self._readings[(checkpoint, request.key)] = _made_up(request, heads, len(prompts))

    def _note_prompts(self, prompts: PromptSet) -> None:
        """Note what a record would have of these prompts."""
        task = family_of("", "", {}, prompts.settings)
        longest = max((len(prompt.tokens) for prompt in prompts.prompts), default=0)
        self.counted.prompts[task] = max(len(prompts), self.counted.prompts.get(task, 0))
        self.counted.longest[task] = max(longest, self.counted.longest.get(task, 0))

    def _pass_over_some(
        self,
        checkpoint: Checkpoint,
        asked: Request,
        prompts: PromptSet,
        first: int,
        some: Sequence[tuple[ReadingBuilder, Request]],
    ) -> None:
        """Count the passes that some readings share, as `Audit._pass_over` and `PassCache.run` take them."""
        model, everything = self.model(checkpoint), Wanted()
        for taking, _ in some:
            everything |= taking.wanted
        left = prompts.some(range(first, len(prompts)))
        key = (checkpoint, asked.task, asked.rows, first)
        kept = self._kept.get(key)
        wanted = everything if kept is None else everything | Wanted(patching=True)
        if kept is None or wanted | kept != kept:
            wanted |= kept or Wanted()
            self._pass(model, left, wanted)
            if wanted.patching:
                shown = Wanted(patterns=True, end_writes=True, after_block_0=True, entering=wanted.entering)
                self._kept[key] = wanted | shown
        together = prompts_together(model, left, wanted)
        behind = {frozenset(taking.operands["without"]) for taking, _ in some if taking.operands.get("without")}
        for _ in behind:
            self._run_once(left, wanted, together, 1)
        for taking, request in some:
            rows = range(first, len(prompts))
            taking._columns.update(dict.fromkeys(rows, np.zeros(max(1, len(taking.heads)))))
            self.counted.patched += patched_work(request, taking, model.layout, left)

    def _pass(self, model: Model, prompts: PromptSet, wanted: Wanted) -> None:
        together = prompts_together(model, prompts, wanted)
        runs = 1
        if wanted.patching:
            runs = 3 if model.source.dtype in _HALVES else 2
        self._run_once(prompts, wanted, together, runs)
        # A batch that runs, and runs that are kept: each at most as large as one piece of work may be.
        taken = min(len(prompts) * bytes_a_prompt(model, prompts, wanted), 2 * budget(model.device))
        self.counted.largest = max(self.counted.largest, taken)

    def _run_once(self, prompts: PromptSet, wanted: Wanted, together: int, runs: int) -> None:
        counted = self.counted
        for _, batch in prompts.batches(together, wanted.whole_templates):
            counted.batches += runs
            counted.passes += runs * len(batch)
            counted.tokens += runs * sum(len(prompt.tokens) for prompt in batch)
            counted.pairs += runs * sum(len(prompt.tokens) ** 2 for prompt in batch)
            if wanted.target_logits:
                counted.read_tokens += sum(len(prompt.read_at) for prompt in batch)


@dataclass
class _CountingSweep(Sweep):
    """A sweep that only notes that it would pass over its prompts."""

    swept: bool = False

    def means(self, sets: Sequence[Any], ablation: str) -> list[float]:
        """Nothing lost by any set."""
        self.swept = True
        return [0.0] * len(sets)

    def effects(self, ranked_by: Any) -> Any:
        """No effect of any head."""
        self.swept = True
        return np.zeros(self.model.layout.layers * self.model.layout.heads)


def count_passes(
    audit: CountingAudit,
    asked: Sequence[PlannedAssertion],
    baseline: Checkpoint | None = None,
    corrupted: Checkpoint | None = None,
    *,
    looks: Mapping[str, int] | None = None,
    every_look: bool = False,
) -> Counted:
    """Count what judging these assertions takes, in their order.

    Args:
        asked: of one checkpoint.
        looks: how often an assertion's prompts are doubled, by id; the others are decided at once.
        every_look: whether every assertion takes its whole budget of prompts.

    Raises:
        CircuitAssertionsError: if a shape cannot be read.
    """
    runner = SuiteRunner(audit, baseline, corrupted=corrupted)
    runner.announce(asked)
    requesting = Requesting(audit, runner.binder)
    planned = False
    for one in asked:
        last = len(one.looks) if every_look else 1 + (looks or {}).get(one.assertion.id, 0)
        for look in one.looks[:last]:
            requests = _requests(requesting, look, baseline, audit.counted)
            if requests is None:
                break
            if not planned:
                others = [other for other in (baseline, corrupted) if other is not None]
                requesting.plan(one.checkpoint, others, without_chat=False)
                planned = True
            for request in requests:
                audit.read(request, one.checkpoint)
            if baseline is not None:
                audit.read(requests[0], baseline)
            audit.counted.judgements += 1
        else:
            if corrupted is not None:
                audit.read(requests[0], corrupted)  # type: ignore[index]
    return audit.counted


def _requests(
    requesting: Requesting, look: PlannedAssertion, baseline: Checkpoint | None, counted: Counted
) -> list[Request] | None:
    """What is read for an assertion; None where nothing is, which is noted."""
    called = look.assertion.id
    if MEASURES[look.assertion.measure].compares:
        counted.comparing.append(called)
        return None
    if baseline is None and look.assertion.expect.only_relative:
        counted.skipped[called] = "it is relative to a baseline, and none is given"
        return None
    try:
        requests = requesting.requests(look)
    except CircuitAssertionsError as error:
        counted.skipped[called] = str(error)
        return None
    if isinstance(requests, NotApplicable):
        counted.skipped[called] = requests.reason
        return None
    heads: Collection[Component] | None = requests[0].heads
    if heads is not None and (look.assertion.at_least_heads or 0) > len(heads):
        counted.skipped[called] = "it requires more heads than there are"
        return None
    return requests


def _made_up(request: Request, heads: Sequence[Component], prompts: int) -> Reading:
    spec = MEASURES[request.measure]
    shape = (prompts, len(heads)) if heads else (prompts,)
    return Reading(spec.name, spec.unit, spec.reading_kind, np.zeros(shape), tuple(heads))
