"""Tasks of text that may name a chain, which is looked for beside the file that they stand in."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from circuit_assertions.tasks.text import TextTask

__all__ = ["ChainedTask"]


class ChainedTask(TextTask):
    """A kind of text whose tasks name the chain by which their circuit is found."""

    chain: str | None = Field(
        None,
        min_length=1,
        description="the chain by which `discover` finds their circuit: a file of chains/ with this name, or one of "
        "the package's; default one without roles",
    )

    _folder: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _remember_where(self, info: ValidationInfo) -> Self:
        if self.chain is not None and self._folder is None:
            self._folder = (info.context or {}).get("folder")
        return self

    @property
    def folder(self) -> Path | None:
        """The folder of the file that the task stands in, beside which its chain is looked for; None if it has none."""
        return self._folder
