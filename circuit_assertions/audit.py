"""One audit: models opened once, passes shared, readings remembered.

The caller may say in advance what will be read (`plan`); the first reading of a task on a model then takes everything
planned for that pair in the same passes, and the rest costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from circuit_assertions.collecting import without_collecting
from circuit_assertions.components import Component
from circuit_assertions.engine import LimitError, MeasuringError
from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES, Reading
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.recorded import Known, RecordedCheckpoint, WeightsNotGivenError
from circuit_assertions.request import Request
from circuit_assertions.tasks import PromptSet, Task, TextTask, check_same_conversation, check_same_tokens
from circuit_assertions.tasks.room import check_room
from circuit_assertions.unexpected import UnexpectedError, tell_unexpected

if TYPE_CHECKING:
    from circuit_assertions.checkpoints import Checkpoint, Opening
    from circuit_assertions.engine import Model, PassCache
    from circuit_assertions.measures.reading_builder import ReadingBuilder

__all__ = ["Audit"]


@dataclass
class Audit:
    """Everything that is read from checkpoints in one run. Models stay open until `forget` or `close`.

    Attributes:
        policy: the thresholds of whatever is judged by its readings; the readings do not depend on it.
        progress: told what is being read, and how many of its prompts are.
        keep: told of every reading of all prompts of a task, when it is taken.
        recorded: a checkpoint that is not opened: what is read of it comes from a record.
    """

    opening: Opening
    baseline: Checkpoint | None = None
    policy: Policy = DEFAULT
    progress: Callable[[str, int, int], None] = lambda what, done, total: None
    keep: Callable[[Checkpoint, Reading], None] = lambda checkpoint, reading: None
    recorded: RecordedCheckpoint | None = None
    _models: dict[Checkpoint, Model] = field(default_factory=dict)
    _broken: dict[Checkpoint, Exception] = field(default_factory=dict)
    _prompts: dict[tuple[Task, Checkpoint], PromptSet] = field(default_factory=dict)
    _planned: dict[Checkpoint, list[Request]] = field(default_factory=dict)
    _readings: dict[tuple[Checkpoint, Any], Reading] = field(default_factory=dict)
    _taken: dict[tuple[Checkpoint, Any], ReadingBuilder] = field(default_factory=dict)
    _failures: dict[tuple[Checkpoint, Any], Exception] = field(default_factory=dict)
    _passes: PassCache | None = None

    def plan(self, checkpoint: Checkpoint, requests: Iterable[Request]) -> None:
        """Announce what will be read from a checkpoint, so that it is read together."""
        self._planned.setdefault(checkpoint, []).extend(requests)

    def model(self, checkpoint: Checkpoint) -> Model:
        """The checkpoint, opened; once. One that could not be opened raises the same error again at once."""
        if self.recorded is not None and checkpoint == self.recorded.checkpoint:
            raise WeightsNotGivenError(f"{checkpoint} has no weights to be opened: give them with --baseline=path/")
        if checkpoint in self._broken:
            raise self._broken[checkpoint]
        if checkpoint not in self._models:
            try:
                with without_collecting():
                    self._models[checkpoint] = self._opened(checkpoint)
            except Exception as error:
                self._broken[checkpoint] = error
                raise
        return self._models[checkpoint]

    def _opened(self, checkpoint: Checkpoint) -> Model:
        from circuit_assertions.checkpoints.opening import open_checkpoint
        from circuit_assertions.engine import Model

        with tell_unexpected(f"{checkpoint} cannot be opened"):
            return Model.of(open_checkpoint(checkpoint, self.opening))

    def known(self, checkpoint: Checkpoint) -> Known:
        """What is known of a checkpoint, which is opened unless it is recorded."""
        if self.recorded is not None and checkpoint == self.recorded.checkpoint:
            return self.recorded.known
        model = self.model(checkpoint)
        return Known(model.source.fingerprint, model.shape, model.identity())

    def adopt(self, checkpoint: Checkpoint, model: Model, like: Checkpoint) -> None:
        """Take in a model that is open already, until it is forgotten.

        Args:
            like: a checkpoint with the same tokenizer; prompts that were made for it are this one's too.
        """
        self._models[checkpoint] = model
        self._prompts |= {(task, checkpoint): kept for (task, one), kept in self._prompts.items() if one == like}

    def prompts(self, task: Task, checkpoint: Checkpoint) -> PromptSet:
        """The task's prompts, made with this checkpoint's tokenizer; with a baseline, made with the baseline's.

        Raises:
            TaskError: if the task cannot be run on this model, or its tokenizer differs from the baseline's.
        """
        if self.recorded is not None and checkpoint == self.recorded.checkpoint:
            checkpoint = next(iter(self._models))  # beside which it is asked about, and by whose tokenizer
        key = (task, checkpoint)
        if key not in self._prompts:
            model = self.model(checkpoint)
            owner = self.model(self.baseline) if self.baseline is not None else model
            prompts = self._made_for_baseline(task)
            if prompts is None:
                with tell_unexpected(
                    f"prompts of the task {task.kind} cannot be made with the tokenizer of {checkpoint}"
                ):
                    prompts = task.build(owner.source.tokenizer)
            if owner is not model:
                names = {"model": str(checkpoint), "whose": f"the baseline {self.baseline}"}
                check_same_tokens(prompts, model.source.tokenizer, owner.source.tokenizer, **names)
                if isinstance(task, TextTask):
                    check_same_conversation(task, model.source.tokenizer, owner.source.tokenizer, **names)
            check_room(prompts, task, checkpoint, model.layout.positions, model.layout.vocabulary)
            self._prompts[key] = prompts
        return self._prompts[key]

    def _made_for_baseline(self, task: Task) -> PromptSet | None:
        """The task's prompts, where they were made with the baseline's tokenizer before."""
        if self.baseline is None:
            return None
        return next((kept for (one, _), kept in self._prompts.items() if one == task), None)

    def read(self, request: Request, checkpoint: Checkpoint) -> Reading:
        """Take a reading, or remember it.

        Raises:
            CheckpointError, DeviceError: if the checkpoint cannot be opened.
            TaskError: if the task cannot be run on it.
            LimitError: if a limit of the model refuses the measure.
            MeasuringError: if it cannot be taken for another reason, or not from such a task, or gave NaN or infinity.
        """
        request.check()
        if self.recorded is not None and checkpoint == self.recorded.checkpoint:
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
        self._models.pop(checkpoint, None)
        self._planned.pop(checkpoint, None)
        self._prompts = {key: kept for key, kept in self._prompts.items() if key[1] != checkpoint}
        self._readings = {key: kept for key, kept in self._readings.items() if key[0] != checkpoint}
        self._taken = {key: kept for key, kept in self._taken.items() if key[0] != checkpoint}
        self._failures = {key: kept for key, kept in self._failures.items() if key[0] != checkpoint}
        if self._passes is not None:
            self._passes.forget(lambda key: key[0] == checkpoint)

    def close(self) -> None:
        """Forget the models and everything read from them."""
        for checkpoint in list(self._models):
            self.forget(checkpoint)

    def _columns(self, request: Request, checkpoint: Checkpoint) -> tuple[Component, ...]:
        spec = MEASURES[request.measure]
        model = self.model(checkpoint)
        chosen = request.chosen.get("set", ()) if spec.joint else request.heads
        heads = tuple(model.layout.all_heads()) if chosen is None else tuple(chosen)
        for head in (*heads, *request.chosen.get("without", ())):
            if not model.shape.has(head):
                called = f"head {head}" if isinstance(head, Head) else str(head)
                raise MeasuringError(f"{checkpoint} has no {called}: it has {model.shape.extent}")
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
            wanted_heads = [(wanted, tuple(heads)) for wanted, heads in together.values()]
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
        limits = self.model(checkpoint).limits
        for fact in request.relies_on:
            if fact in limits:
                return LimitError(request.measure, checkpoint, limits[fact])
        try:
            self._columns(request, checkpoint)
        except MeasuringError as error:
            return error
        return None

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
                self._readings[(checkpoint, request.key)] = reading = taking.reading(task, model, prompts)
                if request.rows is None:
                    self.keep(checkpoint, reading)

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
