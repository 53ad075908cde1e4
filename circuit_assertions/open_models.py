"""The models of one run: opened when something of them is needed that is not known, and the prompts that they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from circuit_assertions.cached import Cache
from circuit_assertions.collecting import without_collecting
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.recorded import Known, RecordedCheckpoint, WeightsNotGivenError
from circuit_assertions.tasks import PromptSet, Task, TextTask, check_same_conversation, check_same_tokens
from circuit_assertions.tasks.room import check_room
from circuit_assertions.unexpected import tell_unexpected

if TYPE_CHECKING:
    from circuit_assertions.checkpoints import Checkpoint, Opening
    from circuit_assertions.engine import Model, Opened
    from circuit_assertions.measures import Reading

__all__ = ["OpenModels"]


@dataclass
class OpenModels:
    """Checkpoints, and what is known of them. Models stay open until `forget` or `close`.

    Attributes:
        policy: the thresholds of whatever is judged by its readings; the readings do not depend on it.
        progress: told what is being read, and how many of its prompts are.
        keep: told of every reading of all prompts of a task, when it is taken or comes from the cache.
        recorded: a checkpoint that is not opened: what is read of it comes from a record.
        cache: what earlier runs have read; without it everything is read.
    """

    opening: Opening
    baseline: Checkpoint | None = None
    policy: Policy = DEFAULT
    progress: Callable[[str, int, int], None] = lambda what, done, total: None
    keep: Callable[[Checkpoint, Reading], None] = lambda checkpoint, reading: None
    recorded: RecordedCheckpoint | None = None
    cache: Cache | None = None
    _models: dict[Checkpoint, Model] = field(default_factory=dict)
    _facts: dict[Checkpoint, Opened] = field(default_factory=dict)
    _in_memory: set[Checkpoint] = field(default_factory=set)  # models that no files hold
    _broken: dict[Checkpoint, Exception] = field(default_factory=dict)
    _prompts: dict[tuple[Task, Checkpoint], PromptSet] = field(default_factory=dict)

    def model(self, checkpoint: Checkpoint) -> Model:
        """The checkpoint, opened; once. One that could not be opened raises the same error again at once."""
        if self._is_recorded(checkpoint):
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

    def opened(self, checkpoint: Checkpoint) -> Opened:
        """The facts of a checkpoint, which is opened unless they are known."""
        if checkpoint not in self._facts:
            cache = self._cache_of(checkpoint)
            found = None
            if cache is not None and checkpoint not in self._broken:
                found = cache.opened(checkpoint, self.opening)
            if found is None:
                found = self.model(checkpoint).opened()
                if cache is not None:
                    cache.keep_opened(checkpoint, self.opening, found)
            self._facts[checkpoint] = found
        return self._facts[checkpoint]

    def known(self, checkpoint: Checkpoint) -> Known:
        """What is known of a checkpoint, of which there may be only a record."""
        if self.recorded is not None and self._is_recorded(checkpoint):
            return self.recorded.known
        opened = self.opened(checkpoint)
        return Known(opened.fingerprint, opened.shape, opened.identity)

    def adopt(self, checkpoint: Checkpoint, model: Model, like: Checkpoint) -> None:
        """Take in a model that is open already, until it is forgotten.

        Args:
            like: a checkpoint with the same tokenizer; prompts that were made for it are this one's too.
        """
        self._models[checkpoint] = model
        self._in_memory.add(checkpoint)
        self._facts.pop(checkpoint, None)
        self._prompts |= {(task, checkpoint): kept for (task, one), kept in self._prompts.items() if one == like}

    def tokenizer(self, checkpoint: Checkpoint) -> Any:
        """A checkpoint's tokenizer. Where its facts come from the cache, its weights are not opened for it."""
        if checkpoint in self._models or checkpoint not in self._facts:
            return self.model(checkpoint).source.tokenizer
        from circuit_assertions.checkpoints.opening import open_tokenizer

        return open_tokenizer(checkpoint, self.opening)

    def prompts(self, task: Task, checkpoint: Checkpoint) -> PromptSet:
        """The task's prompts, made with this checkpoint's tokenizer; with a baseline, made with the baseline's.

        Raises:
            TaskError: if the task cannot be run on this model, or its tokenizer differs from the baseline's.
        """
        if self._is_recorded(checkpoint):
            checkpoint = [*self._facts, *self._models][0]  # beside which it is asked about, and by whose tokenizer
        key = (task, checkpoint)
        if key not in self._prompts:
            opened = self.opened(checkpoint)
            owner = checkpoint if self.baseline is None else self.baseline
            self.opened(owner)
            cache = self._cache_of(checkpoint) if self._cache_of(owner) is not None else None
            prompts = None if cache is None else cache.prompts(task, checkpoint, owner, self.opening)
            if prompts is None:
                prompts = self._made(task, checkpoint, owner)
                if cache is not None:
                    cache.keep_prompts(task, checkpoint, owner, self.opening, prompts)
            check_room(prompts, task, checkpoint, opened.positions, opened.vocabulary)
            self._prompts[key] = prompts
        return self._prompts[key]

    def _made(self, task: Task, checkpoint: Checkpoint, owner: Checkpoint) -> PromptSet:
        """A task's prompts, made with the owner's tokenizer and compared with the checkpoint's."""
        prompts = self._made_for_baseline(task)
        if prompts is None:
            with tell_unexpected(f"prompts of the task {task.kind} cannot be made with the tokenizer of {checkpoint}"):
                prompts = task.build(self.tokenizer(owner))
        if owner != checkpoint:
            own, other = self.tokenizer(checkpoint), self.tokenizer(owner)
            names = {"model": str(checkpoint), "whose": f"the baseline {self.baseline}"}
            check_same_tokens(prompts, own, other, **names)
            if isinstance(task, TextTask):
                check_same_conversation(task, own, other, **names)
        return prompts

    def _made_for_baseline(self, task: Task) -> PromptSet | None:
        """The task's prompts, where they were made with the baseline's tokenizer before."""
        if self.baseline is None:
            return None
        return next((kept for (one, _), kept in self._prompts.items() if one == task), None)

    def once(self, what: str, key: Mapping[str, Any], make: Callable[[], Any], checkpoint: Checkpoint) -> Any:
        """Something that is read of a checkpoint and is no reading, as JSON; from the cache where it is known.

        Args:
            what: a name for what is read.
            key: all that it depends on besides the checkpoint, as JSON.
        """
        cache = self._cache_of(checkpoint)
        found = None if cache is None else cache.other(what, key, checkpoint, self.opening)
        if found is None:
            found = make()
            if cache is not None:
                cache.keep_other(what, key, found, checkpoint, self.opening)
        return found

    def forget(self, checkpoint: Checkpoint) -> None:
        """Close a checkpoint: its weights and everything known of it are released."""
        self._models.pop(checkpoint, None)
        self._facts.pop(checkpoint, None)
        self._in_memory.discard(checkpoint)
        self._prompts = {key: kept for key, kept in self._prompts.items() if key[1] != checkpoint}

    def close(self) -> None:
        """Forget the models and everything read from them."""
        for checkpoint in [*self._models, *self._facts]:
            self.forget(checkpoint)

    def _is_recorded(self, checkpoint: Checkpoint) -> bool:
        return self.recorded is not None and checkpoint == self.recorded.checkpoint

    def _cache_of(self, checkpoint: Checkpoint) -> Cache | None:
        """The cache, if it can know this checkpoint."""
        return None if checkpoint in self._in_memory or self._is_recorded(checkpoint) else self.cache
