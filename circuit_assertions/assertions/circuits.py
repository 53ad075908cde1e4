"""Circuit files: roles bound to heads, for one lineage of models and one task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.bounds import BoundCondition
from circuit_assertions.assertions.conditions.at_least import AtLeast
from circuit_assertions.assertions.conditions.at_most import AtMost
from circuit_assertions.assertions.operands import WithOperands
from circuit_assertions.assertions.spelling import HeadList, Number
from circuit_assertions.heads import Head
from circuit_assertions.measures.tolerances import Setting
from circuit_assertions.shape import Shape
from circuit_assertions.tasks.schema import Strict, closest, did_you_mean

__all__ = [
    "Base",
    "Binding",
    "Circuit",
    "Circuits",
    "Fits",
    "Found",
    "Roles",
    "Threshold",
    "Unread",
    "bind",
    "everyone_in",
    "likely_meant",
    "unread_of",
]

Roles = Mapping[str, tuple[Head, ...]]


class Fits(Strict):
    """The shape of the models that a circuit is about."""

    architecture: str = Field(description="the class of transformers that reads it, GPT2LMHeadModel")
    layers: int = Field(ge=1, strict=True)
    heads: int = Field(ge=1, strict=True, description="query heads in each layer")
    d_model: int = Field(ge=1, strict=True, alias="d_model")

    @property
    def shape(self) -> Shape:
        """These values as the shape of a model."""
        return Shape(self.architecture, self.layers, self.heads, self.d_model)


class Base(Strict):
    """The model that the circuit was found on."""

    id: str = Field(description="its hub id or name")
    fingerprint: str | None = Field(
        None, description="of its weights, and after a hyphen of its settings, as discover writes it"
    )


class Threshold(WithOperands):
    """A bound that the base cleared with the whole interval of its reading, in the words of a suite."""

    measure: str
    heads: str | None = Field(None, description="a role of this circuit, or `circuit`")
    quantifier: Literal["each", "mean"] | None = None
    at_least: Number | None = None
    at_most: Number | None = None
    reads: Number | None = Field(None, description="what the base reads")
    margin: Number | None = Field(None, description="how far that is from the bound")

    @model_validator(mode="after")
    def _one_bound(self) -> Threshold:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a threshold has one bound: give either at-least or at-most")
        return self

    @property
    def bound(self) -> BoundCondition:
        """The bound as a condition of a suite."""
        if self.at_least is not None:
            return AtLeast(self.at_least)
        assert self.at_most is not None
        return AtMost(self.at_most)


class Found(Strict):
    """What `discover` found: the thresholds that suites may use, and the evidence for them."""

    model_config = ConfigDict(extra="allow")

    task: dict[str, Any] = Field({}, description="the settings of the task")
    settings: dict[str, Any] = Field({}, description="how it was read")
    heads: dict[str, Any] = Field({}, description="what each head showed")
    thresholds: tuple[Threshold, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        return value  # evidence may have any key


class Circuit(Strict):
    """A circuit file."""

    circuit: str = Field(min_length=1, description="the circuit's name, which suites refer to")
    fits: Fits
    base: Base | None = None
    source: str | None = Field(None, description="the paper or run that named the heads")
    notes: str | None = Field(None, description="what a reader should know before relying on it")
    roles: dict[str, HeadList] = Field(min_length=1, description="role -> heads")
    mlps: tuple[str, ...] = Field(
        (), description="MLPs that belong to it, `MLP14`; they have no role, and no ablation of the circuit's heads"
    )
    found: Found | None = Field(None, description="the evidence, where `discover` wrote the file")
    _file: Path | None = PrivateAttr(None)

    def found_in(self, file: Path) -> Circuit:
        """The same circuit, remembering its file."""
        copy = self.model_copy()
        copy._file = file
        return copy

    def was_found_on(self, fingerprint: str) -> bool:
        """Whether a model with this fingerprint is its base. What follows a hyphen may be left out in the file."""
        return self.base is not None and self.base.fingerprint in (fingerprint, fingerprint.partition("-")[0])

    @property
    def found_in_setting(self) -> Setting | None:
        """The setting that its thresholds were measured under; None where the file does not record a dtype.

        `discover` records the device only where it is not the CPU.
        """
        settings = {} if self.found is None else self.found.settings
        return Setting(str(settings["dtype"]), str(settings.get("device", "cpu"))) if "dtype" in settings else None

    @property
    def file(self) -> Path | None:
        """Where the circuit was loaded from."""
        return self._file


@dataclass(frozen=True)
class Unread:
    """A circuit file that is not valid, or cannot be read at all.

    Attributes:
        circuit: the circuit's name, where that can be read.
        reason: the first problem that it has.
    """

    file: Path
    circuit: str | None
    reason: str

    def concerns(self, circuit: str) -> bool:
        """Whether it may have bound the roles of this circuit."""
        return self.circuit is None or self.circuit == circuit

    def __str__(self) -> str:
        here = Path.cwd()
        file = self.file.relative_to(here) if self.file.is_relative_to(here) else self.file
        return f"{file} cannot be read: {self.reason}"


class Circuits(tuple[Circuit, ...]):
    """Circuit files that were read, in the order in which they are preferred, and those that could not be."""

    unread: tuple[Unread, ...]

    def __new__(cls, circuits: Iterable[Circuit] = (), unread: Iterable[Unread] = ()) -> Circuits:
        made = super().__new__(cls, circuits)
        made.unread = tuple(unread)
        return made


def unread_of(circuits: Iterable[Circuit], circuit: str) -> tuple[Unread, ...]:
    """The circuit files that could not be read, and may have bound the roles of this circuit."""
    unread = circuits.unread if isinstance(circuits, Circuits) else ()
    return tuple(one for one in unread if one.concerns(circuit))


@dataclass(frozen=True)
class Binding:
    """A circuit bound to a model.

    Attributes:
        certain: whether the weights of the base are known to be this lineage's.
        speaks_of: roles that may be asked for; empty for whatever is asked.
    """

    circuit: Circuit
    certain: bool
    speaks_of: frozenset[str] = frozenset()

    def heads(self, role: str) -> tuple[Head, ...]:
        """The heads that play `role`; empty where the circuit has no such role.

        Raises:
            CircuitAssertionsError: if there is no such role at all.
        """
        if self.speaks_of and role not in self.speaks_of:
            raise CircuitAssertionsError(f"unknown role {role!r}{closest(role, sorted(self.speaks_of))}")
        return self.circuit.roles.get(role, ())

    @property
    def everyone(self) -> tuple[Head, ...]:
        """The heads of all roles, each once."""
        return everyone_in(self.circuit.roles)

    @property
    def name(self) -> str:
        """The circuit's file; where it has none, its name and what it was found on."""
        name = self.circuit.circuit
        if self.circuit.file is not None:
            name = self.circuit.file.name
        elif self.circuit.base is not None:
            name = f"{name} (found on {self.circuit.base.id})"
        return name

    def __str__(self) -> str:
        name = self.name
        if self.certain:
            return name
        base = self.circuit.base
        other = "" if base is None or base.fingerprint is None else self._other(base.id)
        return f"{name} (fits by shape: its lineage is assumed{other})"

    def _other(self, base: str) -> str:
        return f"; it was found on {base}, which is neither this model nor its baseline"


def likely_meant(name: str, circuits: Iterable[Circuit]) -> str:
    """The circuit that somebody meant who misspelt its name, as ` (did you mean 'ioi'?)`; empty where none is close."""
    return did_you_mean(name, sorted({circuit.circuit for circuit in circuits}))


def everyone_in(roles: Roles) -> tuple[Head, ...]:
    """The heads of all roles, each once, in order."""
    return tuple(sorted({head for heads in roles.values() for head in heads}))


def bind(circuits: Iterable[Circuit], name: str, shape: Shape, fingerprints: Iterable[str]) -> Binding | None:
    """The circuit called `name` that fits a model of this shape, if there is one.

    Args:
        shape: that of the model.
        fingerprints: those of the model and of its baseline, in this order, each of weights and settings. A circuit
            found on one of them is bound with certainty and preferred, whatever class its file names, the baseline's
            before the model's own; otherwise the first that fits by shape is taken, its lineage assumed. A file may
            give the fingerprint of the weights alone.
    """
    called = [circuit for circuit in circuits if circuit.circuit == name]
    for fingerprint in reversed(list(fingerprints)):
        for circuit in called:
            same_size = replace(circuit.fits.shape, architecture=shape.architecture) == shape
            if same_size and circuit.was_found_on(fingerprint):
                return Binding(circuit, certain=True)
    fitting = [circuit for circuit in called if circuit.fits.shape == shape]
    return Binding(fitting[0], certain=False) if fitting else None
