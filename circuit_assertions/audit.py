"""One audit: models opened once, passes shared, readings remembered.

The caller may say in advance what will be read (`plan`); the first reading of a task on a model then takes everything
planned for that pair in the same passes, and the rest costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from circuit_assertions.components import Component
from circuit_assertions.engine import LimitError, MeasuringError
from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.open_models import OpenModels
from circuit_assertions.request import Request
from circuit_assertions.tasks import PromptSet
from circuit_assertions.unexpected import UnexpectedError, tell_unexpected

if TYPE_CHECKING:
    from circuit_assertions.checkpoints import Checkpoint
    from circuit_assertions.engine import PassCache
    from circuit_assertions.measures.reading_builder import ReadingBuilder

__all__ = ["Audit"]


@dataclass
class Audit(OpenModels):
    """Everything that is read from checkpoints in one run.

    Attributes:
        counts: how many readings were taken, and how many came from the cache.
    """

    counts: Counter[str] = field(default_factory=Counter)
    _planned: dict[Checkpoint, list[Request]] = field(default_factory=dict)
    _readings: dict[tuple[Checkpoint, Any], Reading] = field(default_factory=dict)
    _taken: dict[tuple[Checkpoint, Any], ReadingBuilder] = field(default_factory=dict)
    _failures: dict[tuple[Checkpoint, Any], Exception] = field(default_factory=dict)
    _passes: PassCache | None = None

    def plan(self, checkpoint: Checkpoint, requests: Iterable[Request]) -> None:
        """Announce what will be read from a checkpoint, so that it is read together."""
        self._planned.setdefault(checkpoint, []).extend(requests)

    def read(self, request: Request, checkpoint: Checkpoint) -> Reading:
        """Take a reading, or remember it.

        Raises:
            CheckpointError, DeviceError: if the checkpoint cannot be opened.
            TaskError: if the task cannot be run on it.
            LimitError: if a limit of the model refuses the measure.
            MeasuringError: if it cannot be taken for another reason, or not from such a task, or gave NaN or infinity.
        """
        request.check()
        if self.recorded is not None and self._is_recorded(checkpoint):
            return self.recorded.read(request, self._read_prompts(request, checkpoint))
        heads = self._columns(request, checkpoint)
        known = self._readings.get((checkpoint, request.key))
        if known is None or not set(heads) <= set(known.components):
            self._take(request, checkpoint)
            known = self._readings[(checkpoint, request.key)]
        return known.only(heads) if heads else known

    def has(self, request: Request, checkpoint: Checkpoint) -> bool:
        """Whether a reading has been taken, of all heads that are asked for."""
        known = self._readings.get((checkpoint, request.key))
        return known is not None and set(self._columns(request, checkpoint)) <= set(known.components)

    def remember(self, request: Request, checkpoint: Checkpoint, reading: Reading) -> None:
        """Keep a reading that was put together of others, as if it had been taken."""
        self._readings[(checkpoint, request.key)] = reading

    def forget(self, checkpoint: Checkpoint) -> None:
        """Close a checkpoint: its weights and everything read from it are released."""
        super().forget(checkpoint)
        self._planned.pop(checkpoint, None)
        self._readings = {key: kept for key, kept in self._readings.items() if key[0] != checkpoint}
        self._taken = {key: kept for key, kept in self._taken.items() if key[0] != checkpoint}
        self._failures = {key: kept for key, kept in self._failures.items() if key[0] != checkpoint}
        if self._passes is not None:
            self._passes.forget(lambda key: key[0] == checkpoint)

    def _columns(self, request: Request, checkpoint: Checkpoint) -> tuple[Component, ...]:
        spec = MEASURES[request.measure]
        opened = self.opened(checkpoint)
        chosen = request.chosen.get("set", ()) if spec.joint else request.heads
        heads = tuple(opened.all_heads()) if chosen is None else tuple(chosen)
        for head in (*heads, *request.chosen.get("without", ())):
            if not opened.shape.has(head):
                called = f"head {head}" if isinstance(head, Head) else str(head)
                raise MeasuringError(f"{checkpoint} has no {called}: it has {opened.shape.extent}")
        return heads if spec.by_head else ()

    def _take(self, request: Request, checkpoint: Checkpoint) -> None:
        """Take everything planned for the request's task that is not yet known, in shared passes."""
        together: dict[Any, tuple[Request, list[Component]]] = {}
        planned = [
            other
            for other in self._planned.get(checkpoint, [])
            if (other.task, other.rows) == (request.task, request.rows)
        ]
        for wanted in [request, *planned]:
            known = self._readings.get((checkpoint, wanted.key))
            if wanted is not request and (known is not None or self._refusal(wanted, checkpoint)):
                continue
            heads = together.setdefault(wanted.key, (wanted, [] if known is None else list(known.components)))[1]
            heads.extend(head for head in self._columns(wanted, checkpoint) if head not in heads)
        refusal = self._refusal(request, checkpoint)
        if refusal is None:
            asked = [(wanted, tuple(heads)) for wanted, heads in together.values()]
            wanted_heads = [one for one in asked if not self._recalled(checkpoint, *one)]
            if request.key not in {wanted.key for wanted, _ in wanted_heads}:
                return
            try:
                with tell_unexpected(f"{checkpoint} cannot be measured on the task {request.task.kind}"):
                    self._run(checkpoint, request, wanted_heads)
            except UnexpectedError as error:
                self._failures |= {(checkpoint, wanted.key): error for wanted, _ in wanted_heads}
            refusal = self._failures.get((checkpoint, request.key))
        if refusal is not None:
            raise refusal

    def _refusal(self, request: Request, checkpoint: Checkpoint) -> Exception | None:
        failure = self._failures.get((checkpoint, request.key))
        if failure is not None:
            return failure
        limits = self.opened(checkpoint).limits
        for fact in request.relies_on:
            if fact in limits:
                return LimitError(request.measure, checkpoint, limits[fact])
        try:
            self._columns(request, checkpoint)
        except MeasuringError as error:
            return error
        return None

    def _recalled(self, checkpoint: Checkpoint, request: Request, heads: tuple[Component, ...]) -> bool:
        """Take a reading of at least these heads from the cache, if it has one."""
        cache = self._cache_of(checkpoint)
        if cache is None:
            return False
        prompts = self._read_prompts(request, checkpoint)
        found = cache.reading(request, tuple(map(str, heads)), prompts, checkpoint, self.opening)
        if found is None:
            return False
        self._note(checkpoint, request, found, "cached")
        return True

    def _note(self, checkpoint: Checkpoint, request: Request, reading: Reading, how: str) -> None:
        self._readings[(checkpoint, request.key)] = reading
        self.counts[how] += 1
        if request.rows is None:
            self.keep(checkpoint, reading)

    def _run(
        self, checkpoint: Checkpoint, asked: Request, wanted: Sequence[tuple[Request, tuple[Component, ...]]]
    ) -> None:
        """Take readings of one task and the same prompts of it, those that `asked` is about."""
        from circuit_assertions.measures.reading_builder import ReadingBuilder
        from circuit_assertions.measures.sweeping import Sweep

        model, task, prompts = self.model(checkpoint), asked.task, self._read_prompts(asked, checkpoint)
        takings = [
            ReadingBuilder(
                f"{request.measure} on {checkpoint}", MEASURES[request.measure], heads, request.chosen, len(prompts)
            )
            for request, heads in wanted
        ]
        sweep = Sweep.of(model, prompts, lambda done, total: self.progress(f"{task.kind}, searching", done, total))
        for taking in takings:
            taking.prepare(sweep)
        by_first: dict[int, list[ReadingBuilder]] = {}
        for taking, (request, _) in zip(takings, wanted, strict=True):
            by_first.setdefault(self._begun(taking, request, checkpoint, prompts), []).append(taking)
        for first, some in by_first.items():
            self._pass_over(checkpoint, asked, prompts, first, some)
        for taking, (request, _) in zip(takings, wanted, strict=True):
            taking.finish()
            if taking.failure is not None:
                self._failures[(checkpoint, request.key)] = taking.failure
            else:
                self._taken[(checkpoint, request.key)] = taking
                reading = taking.reading(task, model, prompts)
                if (cache := self._cache_of(checkpoint)) is not None:
                    cache.keep_reading(request, reading, prompts, checkpoint, self.opening)
                self._note(checkpoint, request, reading, "taken")

    def _read_prompts(self, request: Request, checkpoint: Checkpoint) -> PromptSet:
        prompts = self.prompts(request.task, checkpoint)
        return prompts if request.rows is None else prompts.some(request.rows)

    def _begun(self, taking: ReadingBuilder, request: Request, checkpoint: Checkpoint, prompts: PromptSet) -> int:
        """Let a reading begin with what was taken of its first prompts; how many these are."""
        measure, _, operands, _ = request.key
        most = 0
        for (owner, (other, task, chosen, rows)), earlier in self._taken.items():
            same = (owner, other, chosen) == (checkpoint, measure, operands) and rows is None
            if same and len(prompts) > earlier.prompts > most:
                first = self._prompts[(task, checkpoint)].prompts
                if prompts.prompts[: len(first)] == first and taking.begin_with(earlier):
                    most = earlier.prompts
        return most

    def _pass_over(
        self,
        checkpoint: Checkpoint,
        asked: Request,
        prompts: PromptSet,
        first: int,
        takings: Sequence[ReadingBuilder],
    ) -> None:
        """Let readings take the prompts from `first` on in shared passes."""
        from circuit_assertions.engine import PassCache, Wanted

        model, kind = self.model(checkpoint), asked.task.kind
        everything, done = Wanted(), first
        for taking in takings:
            everything |= taking.wanted
        self._passes = self._passes or PassCache()
        some = prompts.some(range(first, len(prompts)))
        for taken in self._passes.run((checkpoint, asked.task, asked.rows, first), model, some, everything):
            self.progress(kind, done, len(prompts))
            done += len(taken.indices)
            for taking in takings:
                taking.add(taken, first)
        self.progress(kind, done, len(prompts))
