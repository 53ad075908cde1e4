"""The operands of measures as a file writes them: on one level with the keys of an assertion or a threshold.

Which keys there are, and how they are spelled, is read from the operand models of all measures that a suite may assert
on. Whether a measure takes what it is given is checked by `measures.validating`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES
from circuit_assertions.measures.operands import spoken_of, words_of
from circuit_assertions.measures.receivers import ReceiverHeads
from circuit_assertions.measures.spelled_heads import NamedHeads
from circuit_assertions.tasks.schema import Strict, refuse_unknown

__all__ = ["WithOperands", "operand_keys"]


def operand_keys() -> dict[str, FieldInfo]:
    """Every operand that a suite may write, by its key."""
    return {field.alias or name: field for name, field in _spelled_operands().model_fields.items()}


def _spelled(value: Any, info: ValidationInfo) -> dict[str, Any]:
    given = _spelled_operands().model_validate(value, context=info.context)
    return {
        key: getattr(given, name)
        for name, key in zip(_spelled_operands().model_fields, operand_keys(), strict=True)
        if getattr(given, name) is not None
    }


class WithOperands(Strict):
    """A mapping in which operands stand beside its own keys."""

    operands: Annotated[Mapping[str, Any], PlainValidator(_spelled), WithJsonSchema({})] = Field(default_factory=dict)

    @classmethod
    def keys(cls) -> list[str]:
        """All keys that may be written: its own, and those of operands."""
        own = [field.alias or name for name, field in cls.model_fields.items() if name != "operands"]
        return [*own, *(key for key in operand_keys() if key not in own)]

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        refuse_unknown(value, cls.keys())
        own = {field.alias or name for name, field in cls.model_fields.items()}
        operands = {key: one for key, one in value.items() if key not in own}
        return {key: one for key, one in value.items() if key in own} | {"operands": operands}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Operands stand beside the other keys there too."""
        made = handler(schema)
        properties = handler.resolve_ref_schema(made)["properties"]
        spelled = handler.resolve_ref_schema(handler(_spelled_operands().__pydantic_core_schema__))["properties"]
        del properties["operands"]
        properties.update(spelled)
        return made

    @property
    def heads_named(self) -> Iterator[tuple[str, str | tuple[Head, ...]]]:
        """The operands that name heads: their key, and the role or the heads."""
        for key, value in self.operands.items():
            if isinstance(value, ReceiverHeads):
                yield key, value.heads
            elif spells_heads(key):
                yield key, value

    @property
    def roles_named(self) -> Iterator[tuple[str, str]]:
        """The operands that name a role: their key, and the role."""
        return ((key, heads) for key, heads in self.heads_named if isinstance(heads, str))


def spells_heads(key: str) -> bool:
    """Whether an operand is a role or a list of heads, as `without` is."""
    return key in _keys_of_heads()


@cache
def _keys_of_heads() -> frozenset[str]:
    fields = ((key, field) for one in MEASURES.values() for key, field in one.operands.by_key().items())
    return frozenset(key for key, field in fields if spoken_of(field).spelled == NamedHeads)


@cache
def _spelled_operands() -> type[Strict]:
    """A model of all operands as they are spelled, whatever the measure: words are any word."""
    found: dict[str, list[FieldInfo]] = {}
    for one in MEASURES.values():
        for key, field in one.operands.by_key().items():
            if not one.approximate and spoken_of(field).spelled is not None:
                found.setdefault(key, []).append(field)
    fields: dict[str, Any] = {}
    for key, same in found.items():
        types = list[Any]()
        for field in same:
            spelled = spoken_of(field).spelled
            types += [] if spelled in types else [spelled]
        fields[key.replace("-", "_")] = (reduce(or_, [*types, None]), Field(None, description=_description(same)))
    made: type[Strict] = create_model("Operands", __base__=Strict, **fields)
    return made


def _description(same: list[FieldInfo]) -> str:
    """What an operand is, for editors; with its words and defaults, where it is a word."""
    told = "; or ".join(dict.fromkeys(field.description or "" for field in same))
    words = list(dict.fromkeys(word for field in same for word in words_of(field)))
    if not words:
        return told
    defaults = list(dict.fromkeys(field.default for field in same))
    default = f"default {defaults[0]}" if len(defaults) == 1 else "the default depends on the measure"
    listed = " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    return f"{listed}: {told}" + ("" if any(field.is_required() for field in same) else f"; {default}")
