"""The chain format: by which stages a circuit is followed back from the answer, and which roles its heads may have."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag

from circuit_assertions.assertions.chains.rules import Role, Rule
from circuit_assertions.assertions.chains.stage import Stage
from circuit_assertions.assertions.chains.stages import KINDS
from circuit_assertions.tasks import END
from circuit_assertions.tasks.schema import Strict, did_you_mean

__all__ = ["Chain", "chain_without_roles"]


def _kind_of(said: Any) -> str:
    kinds = (kind for kind in KINDS if (isinstance(said, dict) and kind.recognises(said)) or type(said) is kind)
    return next((kind.__name__ for kind in kinds), "")


def _is_a_stage(said: Any) -> Any:
    if isinstance(said, dict) and not _kind_of(said):
        words = [kind.written.removeprefix("to: ") for kind in KINDS if kind.written.startswith("to: ")]
        hint = did_you_mean(said["to"], words) if isinstance(said.get("to"), str) else ""
        raise ValueError(f"this is not a stage{hint}: write {'; '.join(kind.written for kind in KINDS)}")
    return said


_Kinds: Any = reduce(or_, (Annotated[kind, Tag(kind.__name__)] for kind in KINDS))
AnyStage = Annotated[Annotated[_Kinds, Discriminator(_kind_of)], BeforeValidator(_is_a_stage)]


class Chain(Strict):
    """A chain file."""

    name: str = Field(alias="chain", min_length=1, description="the chain's name, which is also its circuit's")
    source: str | None = Field(None, description="the paper that found the circuit in this way")
    roles: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")], Role] = Field(
        {}, description="the roles that heads may have, and how they are shown"
    )
    stages: tuple[AnyStage, ...] = Field(min_length=1, description="in the order in which they are followed")

    @property
    def rules(self) -> Iterator[tuple[Stage, Rule]]:
        """Every rule with its stage, in the order in which they give roles."""
        yield from ((stage, rule) for stage in self.stages for rule in stage.rules)

    @property
    def positions(self) -> frozenset[str]:
        """The positions that a task must label."""
        return frozenset[str]().union(*(stage.positions for stage in self.stages))

    @property
    def shorts(self) -> dict[str, str]:
        """The abbreviations of roles that have one."""
        return {name: role.short for name, role in self.roles.items() if role.short is not None}

    @property
    def colours(self) -> dict[str, str]:
        """The colours of roles that have one."""
        return {name: role.colour for name, role in self.roles.items() if role.colour is not None}


def chain_without_roles(name: str) -> Chain:
    """What is followed for a task without a chain: heads with an effect on the answer, and those that control them."""
    stages = [{"to": "logits"}, {"to": {"queries-of": "logits", "at": END}}, {"to": "anywhere"}]
    return Chain.model_validate({"chain": name, "stages": stages})
