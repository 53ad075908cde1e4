"""Tasks whose prompts are text: what may stand in front of every prompt, a prefix and a conversation."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field

from circuit_assertions.tasks.chat import MOST_CHARACTERS, GivenChat
from circuit_assertions.tasks.encoding import Before
from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.kind import Option, TaskKind

__all__ = ["TextTask", "check_same_conversation"]


class TextTask(TaskKind):
    """A kind whose prompts are text. Its `make` uses an encoder with `before(tokenizer)`, and records its settings."""

    prefix: str = Field("", max_length=MOST_CHARACTERS, description="text in front of every prompt")
    chat: GivenChat = Field(
        None,
        description="true, or a mapping with `user`, `system` and `compare`: prompts are the beginning of the "
        "assistant's turn, in the checkpoint's chat template",
    )

    options: ClassVar[tuple[Option, ...]] = (
        Option("--prefix", "prefix", "text in front of every prompt", takes="text"),
        Option(
            "--chat",
            "chat",
            "whether prompts are the beginning of the assistant's turn, in the checkpoint's chat template",
            takes="nothing",
        ),
    )

    def before(self, tokenizer: Any) -> Before:
        """What stands in front of every prompt, for one tokenizer.

        Raises:
            TaskError: if its chat template cannot be used.
        """
        settings: dict[str, Any] = {"prefix": self.prefix} if self.prefix else {}
        if self.chat is None:
            return Before(self.prefix, settings=settings)
        conversation = self.chat.render(tokenizer, self.kind)
        settings["chat"] = dict(conversation.settings)
        return Before(conversation.text + self.prefix, in_chat=True, settings=settings)

    def without_chat(self) -> Self:
        """The same prompts without the conversation."""
        return self.model_copy(update={"chat": None})

    def way_shorter(self) -> str:
        """What to change where prompts are too long for a model."""
        return f"{self.shorter}, or a shorter conversation or `prefix:`" if self.chat or self.prefix else self.shorter


def check_same_conversation(task: TextTask, tokenizer: Any, other: Any, *, model: str, whose: str) -> None:
    """Check that a model's own template, where it has one, writes a task's conversation as the prompts have it.

    Args:
        tokenizer: the model's.
        other: the one that the prompts were made with.
        model: what the error calls the owner of `tokenizer`.
        whose: what it calls the owner of `other`.

    Raises:
        TaskError: naming both.
    """
    if task.chat is None or not getattr(tokenizer, "chat_template", None):
        return
    theirs = task.chat.render(other, task.kind).text
    try:
        same = task.chat.render(tokenizer, task.kind).text == theirs
    except TaskError:
        same = False
    if not same:
        raise TaskError(
            f"{whose} has another chat template than {model}, and task {task.kind} has `chat`, so that no prompt is "
            f"right for both: choose the template of one with --tokenizer=path/, or leave `chat` out"
        )
