"""The chat template of a tokenizer: a fixed conversation as text, up to where the assistant's turn begins.

A template is Jinja text of the checkpoint. transformers renders it in a sandbox, and nothing is given to it but the two
messages of a suite and the tokenizer's special tokens.

A template may ask for today's date. It is given one fixed date instead, in the format that it asks for, so that a
task's prompts are the same on every day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool

from circuit_assertions.tasks.errors import TaskError
from circuit_assertions.tasks.schema import Strict
from circuit_assertions.unexpected import sentence_of

__all__ = ["DATE", "MOST_CHARACTERS", "Chat", "Conversation", "GivenChat"]

DATE = "2024-07-26"  # that of the templates which have a date of their own where none is given (Llama 3.1)
MOST_CHARACTERS = 100_000  # of a text that a suite puts in front of every prompt
_MOST_RENDERED = 10 * MOST_CHARACTERS

# What strftime makes of the date, whatever language the machine speaks. The first are put together of others.
_FIXED = {
    "%F": "%Y-%m-%d", "%D": "%m/%d/%y", "%x": "%m/%d/%y", "%c": "%a %b %d %H:%M:%S %Y",
    "%T": "%H:%M:%S", "%X": "%H:%M:%S", "%R": "%H:%M",
    "%Y": "2024", "%y": "24", "%G": "2024", "%m": "07", "%-m": "7", "%B": "July", "%b": "Jul", "%h": "Jul",
    "%d": "26", "%-d": "26", "%e": "26", "%A": "Friday", "%a": "Fri", "%u": "5", "%w": "5", "%j": "208",
    "%U": "29", "%V": "30", "%W": "30",
    "%H": "00", "%I": "12", "%M": "00", "%S": "00", "%f": "000000", "%p": "AM", "%Z": "", "%z": "",
}  # fmt: skip
_OTHER = dict.fromkeys(_FIXED, "another")  # to see whether a template asks


class Chat(Strict):
    """The conversation in front of every prompt, in the checkpoint's own chat template."""

    user: str = Field(
        "Continue the text.", min_length=1, max_length=MOST_CHARACTERS, description="what the user's message is"
    )
    system: str | None = Field(
        None,
        min_length=1,
        max_length=MOST_CHARACTERS,
        description="a system message; without one the template may write its own",
    )
    compare: StrictBool = Field(
        True, description="whether an audit reports verdicts that differ on the same prompts without the template"
    )

    def render(self, tokenizer: Any, task: str) -> Conversation:
        """The conversation in a tokenizer's template.

        Args:
            task: the kind of task, for errors.

        Raises:
            TaskError: if there is no template, it fails, leaves a message out, or gives another text at every call.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise TaskError(
                f"task {task} has `chat`, but its tokenizer (with --baseline, the baseline's) has no chat template: "
                f"leave `chat` out, or give the tokenizer of a chat model with --tokenizer=path/"
            )
        try:
            template = _template_of(tokenizer)
            text = _rendered(tokenizer, template, self._messages)
            again = _rendered(tokenizer, template, self._messages)
            another_day = _rendered(tokenizer, template, self._messages, _OTHER)
            self._refuse_left_out(tokenizer, template, text, task)
        except _FailedError as error:
            raise TaskError(self._failed(tokenizer, error, task)) from error
        if text != again:
            raise TaskError(
                f"task {task} has `chat`, but the tokenizer's chat template gives another text each time: "
                f"leave `chat` out, or correct the template"
            )
        return Conversation(self, text, dated=text != another_day)

    @property
    def _messages(self) -> dict[str, str]:
        """The messages by role, in their order."""
        return {"user": self.user} if self.system is None else {"system": self.system, "user": self.user}

    def _refuse_left_out(self, tokenizer: Any, template: str, text: str, task: str) -> None:
        """Check that every message is in the text, and not by chance: other messages must give other texts."""
        for role, message in self._messages.items():
            changed = self._messages | {role: f"{message} x"}
            if message.strip() not in text or _rendered(tokenizer, template, changed) == text:
                way_out = "leave `system` out and write it into `user`" if role == "system" else "leave `chat` out"
                raise TaskError(
                    f"task {task} has `chat`, but the tokenizer's chat template leaves out the {role} message: "
                    f"{way_out}"
                )

    def _failed(self, tokenizer: Any, error: _FailedError, task: str) -> str:
        """Why the template failed: by the system message, where it does not fail without."""
        if self.system is not None:
            try:
                _rendered(tokenizer, _template_of(tokenizer), {"user": self.user})
            except _FailedError:
                pass
            else:
                return (
                    f"task {task} has a `system` message, and the tokenizer's chat template refuses it ({error}): "
                    f"leave `system` out and write it into `user`"
                )
        return (
            f"task {task} has `chat`, but the tokenizer's chat template cannot be rendered ({error}): "
            f"leave `chat` out, or correct the template"
        )


@dataclass(frozen=True)
class Conversation:
    """A conversation as a template writes it.

    Attributes:
        text: from the first character to where the assistant's turn begins.
        dated: whether the template asks for today's date, and was given `DATE`.
    """

    chat: Chat
    text: str
    dated: bool

    @property
    def settings(self) -> Mapping[str, str]:
        """What prompts that begin with it record: the messages, a hash of the text, and the date where it has one."""
        told = {"user": self.chat.user} | ({} if self.chat.system is None else {"system": self.chat.system})
        rendered = hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()
        return told | {"template": rendered} | ({"date": DATE} if self.dated else {})


def _given(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if value is None or isinstance(value, (Mapping, Chat)):
        return value
    raise ValueError(f"{value!r} is not a conversation: write `true`, or a mapping with `user` and `system`")


GivenChat = Annotated[Chat | None, BeforeValidator(_given, json_schema_input_type=bool | Chat | None)]


class _FailedError(TaskError):
    """A template was not rendered; what it says is the reason."""


def _template_of(tokenizer: Any) -> str:
    """The text of a tokenizer's template, of several the default.

    Raises:
        _FailedError: if there are several and none is the default.
    """
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise _FailedError(sentence_of(error)) from error


def _rendered(tokenizer: Any, template: str, messages: Mapping[str, str], date: Mapping[str, str] | None = None) -> str:
    """The text of the messages up to the assistant's turn.

    Raises:
        _FailedError: whatever goes wrong.
    """
    said: Sequence[Mapping[str, str]] = [{"role": role, "content": text} for role, text in messages.items()]
    try:
        text = tokenizer.apply_chat_template(
            said,
            chat_template=_with_date(template, _FIXED if date is None else date),
            tokenize=False,
            add_generation_prompt=True,
        )
    except Exception as error:  # of the template's own, or anything that a sandbox cannot foresee
        raise _FailedError(sentence_of(error)) from error
    if not isinstance(text, str) or len(text) > _MOST_RENDERED:
        size = f"text of {len(text)} characters" if isinstance(text, str) else type(text).__name__
        raise _FailedError(f"it gives {size}, and at most {_MOST_RENDERED} are expected")
    return text


def _with_date(template: str, date: Mapping[str, str]) -> str:
    """The template with its own `strftime_now`, which transformers defines to be that of the day.

    The definition ends with a line break, which Jinja takes out behind a block: so the template begins a line, as it
    did before.
    """
    replaced = "".join(f'|replace("{code}","{text}")' for code, text in date.items())
    return (
        '{% macro strftime_now(format) %}{{ format|replace("%%","\\0")'
        f'{replaced}|replace("\\0","%") }}}}{{% endmacro %}}\n{template}'
    )
