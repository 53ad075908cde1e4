"""`prompts: {start: 64, budget: 2048}`: prompts are drawn until an assertion is decided, or its budget is spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from circuit_assertions.tasks.schema import Strict

__all__ = ["PromptsThatGrow"]


class PromptsThatGrow(Strict):
    """How many prompts to begin with, and how many at most; from look to look they are doubled."""

    start: int = Field(ge=2, strict=True, description="how many prompts to begin with")
    budget: int = Field(ge=3, strict=True, description="how many at most, where fewer do not decide")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start >= self.budget:
            raise ValueError(f"the budget of {self.budget} prompts must be more than the {self.start} to start with")
        return self

    @property
    def counts(self) -> tuple[int, ...]:
        """How many prompts there are at each look."""
        counts = [self.start]
        while 2 * counts[-1] < self.budget:
            counts.append(2 * counts[-1])
        return (*counts, self.budget)

    @classmethod
    def under_key(cls, value: Mapping[str, Any]) -> PromptsThatGrow:
        """What stands under the key `prompts`.

        Raises:
            pydantic.ValidationError: with the key in the path of each problem.
        """
        return _Given.model_validate({"prompts": value}).prompts

    @classmethod
    def beside(cls, number: dict[str, Any]) -> dict[str, Any]:
        """A JSON Schema of a number of prompts, or of this."""
        told: dict[str, Any] = {key: number.pop(key) for key in ("description", "default", "title") if key in number}
        growing = cls.model_json_schema(by_alias=True)
        return {"anyOf": [number, growing], **told}


class _Given(Strict):
    prompts: PromptsThatGrow
