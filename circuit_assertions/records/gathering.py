"""What is kept of the readings of a run while it goes on, and how it crosses from a worker to the controller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from circuit_assertions.components import parse_component
from circuit_assertions.measures import Reading
from circuit_assertions.records.packing import Values
from circuit_assertions.records.record import RecordedPrompts, RecordedReading, family_of, ranges_of
from circuit_assertions.results.base import Part

__all__ = ["Gathered", "Kept", "Sent", "kept", "taken"]


class Kept(Part):
    """A reading with its own prompts, before it is part of a record."""

    reading: RecordedReading
    prompts: RecordedPrompts


class Sent(Part):
    """The readings that one test took, as its report carries them."""

    readings: tuple[Kept, ...] = ()


def kept(model: str, reading: Reading) -> Kept | None:
    """A reading as it is kept; None for one whose prompts are not known."""
    settings, count = reading.settings, reading.prompts
    if len(reading.hashes) != count:
        return None
    recorded = RecordedReading(
        model=model,
        measure=reading.measure,
        unit=reading.unit,
        kind=reading.kind,
        operands=dict(settings.get("operands", {})),
        task=dict(settings.get("task", {})),
        token_hash=settings.get("token_hash", ""),
        balance=dict(settings.get("balance", {})),
        identity=dict(settings.get("model", {})),
        found={name: str(text) for name, text in settings.get("found", {}).items()},
        approximate=settings.get("approximate", False),
        rounding=reading.rounding,
        alone=reading.alone,
        rows=((0, count),),
        components=tuple(map(str, reading.components)),
        values=Values.of(reading.values),
        beside={name: Values.of(values) for name, values in reading.beside.items()},
    )
    prompts = RecordedPrompts(
        hashes=tuple(reading.hashes),
        templates=tuple(reading.templates) or ("",) * count,
        texts=tuple(reading.texts) or ("",) * count,
    )
    return Kept(reading=recorded, prompts=prompts)


def taken(one: Kept) -> Reading:
    """A reading again as it was taken; its memory is laid out by prompts, whatever it was.

    Raises:
        ValueError: if its values are damaged, or a component is none.
    """
    own = one.reading
    columns = np.ascontiguousarray(own.values.array())
    return Reading(
        own.measure,
        own.unit,
        own.kind,
        columns if own.components else columns[:, 0].copy(),
        tuple(map(parse_component, own.components)),
        {
            "task": own.task,
            "operands": own.operands,
            "found": own.found,
            "token_hash": own.token_hash,
            "balance": own.balance,
            "model": own.identity,
            **({"approximate": True} if own.approximate else {}),
        },
        list(one.prompts.texts or ()),
        list(one.prompts.templates),
        {name: values.array()[:, 0].copy() for name, values in own.beside.items()},
        own.rounding,
        list(one.prompts.hashes),
        own.alone,
    )


@dataclass
class Gathered:
    """The readings of a run, each once: the one with most heads, and of the same heads the one with most prompts."""

    _kept: dict[str, list[Kept]] = field(default_factory=dict)  # by family
    _new: list[Kept] = field(default_factory=list)

    def take(self, model: str, reading: Reading) -> None:
        """Keep a reading that was taken, unless what it says is known."""
        operands, task = (dict(reading.settings.get(key, {})) for key in ("operands", "task"))
        known = self._kept.setdefault(family_of(model, reading.measure, operands, task), [])
        if not any(_says_all(one.reading, reading) for one in known) and (made := kept(model, reading)) is not None:
            known.append(made)
            self._new.append(made)

    def drain(self) -> Sent:
        """What was kept since it was last asked."""
        new, self._new = tuple(self._new), []
        return Sent(readings=new)

    def add(self, sent: Sent) -> None:
        """Take in what another process kept."""
        for one in sent.readings:
            self._kept.setdefault(one.reading.family, []).append(one)

    def readings(self) -> tuple[tuple[RecordedReading, ...], RecordedPrompts]:
        """All readings, without those that another one contains, and their prompts."""
        places: dict[tuple[str, str, str], int] = {}
        made = []
        for one in (one for _, family in sorted(self._kept.items()) for one in _largest(family)):
            own = zip(one.prompts.hashes, one.prompts.templates, one.prompts.texts or (), strict=True)
            rows = ranges_of([places.setdefault(prompt, len(places)) for prompt in own])
            made.append(one.reading.model_copy(update={"rows": rows}))
        hashes, templates, texts = (tuple(prompt[part] for prompt in places) for part in range(3))
        return tuple(made), RecordedPrompts(hashes=hashes, templates=templates, texts=texts)


def _says_all(known: RecordedReading, reading: Reading) -> bool:
    """Whether a reading of the same family has all heads and prompts of another one."""
    same = known.token_hash == reading.settings.get("token_hash", "")
    enough = same or (known.alone and known.prompts >= reading.prompts)
    return enough and set(map(str, reading.components)) <= set(known.components)


def _largest(family: Iterable[Kept]) -> list[Kept]:
    found: list[Kept] = []
    for one in sorted(family, key=lambda kept: (len(kept.reading.components), kept.reading.prompts), reverse=True):
        if not any(_contains(other, one) for other in found):
            found.append(one)
    return found


def _contains(larger: Kept, smaller: Kept) -> bool:
    if not set(smaller.reading.components) <= set(larger.reading.components):
        return False
    if larger.reading.token_hash == smaller.reading.token_hash:
        return True
    alone = larger.reading.alone and smaller.reading.alone
    return alone and set(smaller.prompts.hashes) <= set(larger.prompts.hashes)
