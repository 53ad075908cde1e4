"""Head maps of a report: model, baseline and difference, layer by head, with what pointing at a head shows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from circuit_assertions.heads import Head, parse_head
from circuit_assertions.measures.figures import number, signed
from circuit_assertions.ordering import ranked
from circuit_assertions.printable import printable
from circuit_assertions.report.headmap import HeadMap, shade
from circuit_assertions.results.circuit_shown import CircuitShown, EffectOfHead
from circuit_assertions.results.values import Figure

__all__ = ["HeadValues", "MapCell", "MapGroup", "MapView", "contrast", "map_group", "map_styles"]

_STEPS = 10  # shades between none and full
_DARK = ((35, 42, 53), (122, 187, 255), (255, 150, 110))  # none, towards the right answer, away from it
_INKS = ((255, 255, 255), (0, 0, 0))
_ROOMY, _TIGHT = 12, 24  # heads in a layer up to which cells have values, and roles
_MOST_LISTED = 16  # heads outside of the circuit that are listed by their change


@dataclass(frozen=True)
class MapCell:
    """A cell of a map: the class of its colour, whether it has a role, and what is written in it."""

    look: str
    marked: bool
    role: str
    value: str


@dataclass(frozen=True)
class MapView:
    """One of the maps of a circuit.

    Attributes:
        called: whose effects they are: `model`, `baseline` or `difference`.
        largest: the effect that has the full colour, in words.
        rows: of layers, the last on top: number and cells.
    """

    called: str
    largest: str
    rows: tuple[tuple[int, tuple[MapCell, ...]], ...]


@dataclass(frozen=True)
class HeadValues:
    """A head's effects in words."""

    name: str
    roles: str
    baseline: str
    model: str
    change: str
    sizes: tuple[float, float, float]


@dataclass(frozen=True)
class MapGroup:
    """The maps of one circuit on one model.

    Attributes:
        size: how much room a cell has: `roomy`, `tight` or `dense`.
        data: for the script that shows values: JSON without anything that ends a script.
        listed: the circuit's heads, then those outside of it that changed most (or have the largest effects).
    """

    shown: CircuitShown
    size: str
    maps: tuple[MapView, ...]
    legend: tuple[tuple[str, str], ...]
    data: str
    listed: tuple[HeadValues, ...]

    @property
    def compared(self) -> bool:
        """Whether there is a baseline beside the model."""
        return len(self.maps) > 1


def map_group(shown: CircuitShown) -> MapGroup | None:
    """The maps of a circuit; None where no effects were read."""
    if not shown.effects:
        return None
    roles = _roles(shown)
    compared = all(one.before is not None for one in shown.effects.values())
    size = "roomy" if shown.heads <= _ROOMY else "tight" if shown.heads <= _TIGHT else "dense"
    return MapGroup(
        shown=shown,
        size=size,
        maps=tuple(_maps(shown, roles, size, compared)),
        legend=tuple(_drawn(shown, roles, {}, "").named.items()),
        data=_data(shown, roles, compared),
        listed=tuple(_listed(shown, roles, compared)),
    )


def map_styles() -> str:
    """Style rules of the shades, for light pages and for dark ones."""
    light, dark = list[str](), list[str]()
    for rules, colours in ((light, None), (dark, _DARK)):
        for step in range(-_STEPS, _STEPS + 1):
            fill, _ = shade(step / _STEPS, linear=True, colours=colours)
            ink = max(_INKS, key=lambda ink: contrast(ink, fill))
            rules.append(f".map .{_look(step)}{{background:#{bytes(fill).hex()};color:#{bytes(ink).hex()}}}")
    return "".join(light) + "@media screen and (prefers-color-scheme:dark){" + "".join(dark) + "}"


def contrast(one: Sequence[int], other: Sequence[int]) -> float:
    """The contrast of two colours, from 1 to 21 (Web Content Accessibility Guidelines 2.2, relative luminance)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Sequence[int]) -> float:
    parts = (value / 255 for value in colour)
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _look(step: int) -> str:
    return f"{'t' if step >= 0 else 'a'}{abs(step)}"


def _roles(shown: CircuitShown) -> dict[Head, tuple[str, ...]]:
    """The roles of each head that has any."""
    found: dict[Head, list[str]] = {}
    for role, heads in shown.roles.items():
        for head in heads:
            found.setdefault(parse_head(head), []).append(role)
    return {head: tuple(own) for head, own in found.items()}


def _drawn(
    shown: CircuitShown, roles: Mapping[Head, Sequence[str]], effects: Mapping[Head, float], title: str
) -> HeadMap:
    first = {head: own[0] for head, own in roles.items()}
    return HeadMap(title, shown.layers, shown.heads, effects, first, shown.metric.unit, shown.shorts)


def _maps(shown: CircuitShown, roles: Mapping[Head, Sequence[str]], size: str, compared: bool) -> Iterator[MapView]:
    effects = {parse_head(name): one for name, one in shown.effects.items()}
    after = {head: one.after.mean for head, one in effects.items()}
    before = {head: one.before.mean for head, one in effects.items() if one.before is not None}
    change = {head: one.change.mean for head, one in effects.items() if one.change is not None}
    same = max(_drawn(shown, roles, some, "").largest for some in (after, before)) if compared else None
    yield _map(_drawn(shown, roles, after, "model"), size, same)
    if compared:
        yield _map(_drawn(shown, roles, before, "baseline"), size, same)
        yield _map(_drawn(shown, roles, change, "difference"), size, None)


def _map(drawn: HeadMap, size: str, largest: float | None) -> MapView:
    most = largest or drawn.largest
    digits = min(3, max(0, 2 - math.floor(math.log10(most))))  # three significant ones of the largest effect

    def cell(head: Head) -> MapCell:
        effect, role = drawn.effects.get(head, 0.0), drawn.roles.get(head, "")
        share = min(1.0, abs(effect) / most) ** 0.5  # as in other head maps
        step = round(_STEPS * share) * (1 if effect >= 0 else -1)
        named = drawn.short(role) if role and size != "dense" else ""
        value = f"{effect:+.{digits}f}" if size == "roomy" else ""
        return MapCell(_look(step), bool(role), named, value if float(value or 1) else "0")

    layers = reversed(range(drawn.layers))
    rows = tuple((layer, tuple(cell(Head(layer, head)) for head in range(drawn.heads))) for layer in layers)
    return MapView(drawn.title, f"{number(most)} {drawn.unit}", rows)


def _data(shown: CircuitShown, roles: Mapping[Head, Sequence[str]], compared: bool) -> str:
    """For each head, layer by layer: roles and figures in words."""
    names = list(shown.roles)

    def told(head: Head) -> list[object]:
        effect = shown.effects.get(str(head))
        own = [names.index(role) for role in roles.get(head, ())]
        return [own] if effect is None else [own, *(_signed(one) for one in _figures(effect, compared))]

    heads = [told(Head(layer, head)) for layer in range(shown.layers) for head in range(shown.heads)]
    called = ["model", "baseline", "difference"][: 3 if compared else 1]
    data = {
        "roles": list(map(printable, names)),
        "unit": printable(shown.metric.unit),
        "called": called,
        "heads": heads,
    }
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("'", "\\u0027")


def _figures(effect: EffectOfHead, compared: bool) -> Iterator[Figure]:
    yield effect.after
    if compared and effect.before is not None and effect.change is not None:
        yield effect.before
        yield effect.change


def _signed(figure: Figure) -> str:
    return f"{signed(figure.mean)} [{signed(figure.low)}, {signed(figure.high)}]"


def _listed(shown: CircuitShown, roles: Mapping[Head, Sequence[str]], compared: bool) -> Iterator[HeadValues]:
    def size(name: str) -> float:
        one = shown.effects[name]
        return abs(one.change.mean if compared and one.change is not None else one.after.mean)

    inside = [str(head) for head in roles if str(head) in shown.effects]
    outside = ranked([name for name in shown.effects if parse_head(name) not in roles], size)[:_MOST_LISTED]
    for name in (*inside, *outside):
        one = shown.effects[name]
        after, before, change = one.after, one.before, one.change
        yield HeadValues(
            name=name,
            roles=", ".join(roles.get(parse_head(name), ())),
            baseline="" if before is None else _signed(before),
            model=_signed(after),
            change="" if change is None else _signed(change),
            sizes=(after.mean, 0.0 if before is None else before.mean, 0.0 if change is None else change.mean),
        )
