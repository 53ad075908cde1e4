"""A head map: layer by head, coloured by effect, roles named. In a terminal, and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from circuit_assertions.heads import Head
from circuit_assertions.printable import printable
from circuit_assertions.tasks import LOGIT_DIFFERENCE

__all__ = ["HeadMap", "map_lines", "map_picture"]

# From ColorBrewer's diverging RdBu: blue pushes towards the right answer, red away from it; safe for colour-blind eyes.
_TOWARDS, _AWAY, _NONE = (33, 102, 172), (178, 24, 43), (247, 247, 247)
_CELL, _LEFT, _TOP = 46, 56, 74


@dataclass(frozen=True)
class HeadMap:
    """What is drawn.

    Attributes:
        effects: by head, in `unit`, positive towards the right answer; heads that are missing have none.
        roles: the heads' roles.
        shorts: the abbreviations that are written into the cells, in the legend's order; default first letters.
    """

    title: str
    layers: int
    heads: int
    effects: Mapping[Head, float]
    roles: Mapping[Head, str]
    unit: str = LOGIT_DIFFERENCE.unit
    shorts: Mapping[str, str] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        """The largest effect, which has the full colour."""
        return max((abs(effect) for effect in self.effects.values()), default=1.0) or 1.0

    @property
    def named(self) -> dict[str, str]:
        """The roles that occur, by their abbreviation."""
        present = [role for role in (*self.shorts, *self.roles.values()) if role in self.roles.values()]
        return {self.short(role): role for role in dict.fromkeys(present)}

    def short(self, role: str) -> str:
        """What stands for a role in its cells."""
        return self.shorts.get(role, role[:2].upper())


def map_lines(drawn: HeadMap, colours: bool) -> Iterator[str]:
    """The map for a terminal: one row per layer, the last layer on top.

    Args:
        colours: whether 24-bit colours may be used; without them the sign stands behind the role: `NM+`.
    """
    yield "     " + "".join(f"{f'H{head}':^5}" for head in range(drawn.heads))
    for layer in reversed(range(drawn.layers)):
        yield f"{f'L{layer}':<5}" + "".join(_cell(drawn, Head(layer, head), colours) for head in range(drawn.heads))
    yield "     " + "   ".join(f"{short} {role}" for short, role in drawn.named.items())


def _cell(drawn: HeadMap, head: Head, colours: bool) -> str:
    if head not in drawn.effects:
        return f"{'.':^5}"
    short, effect = drawn.short(drawn.roles[head]), drawn.effects[head]
    if not colours:
        return f"{short + ('+' if effect > 0 else '-'):^5}"
    background, dark = _colour(effect / drawn.largest)
    text = "38;2;255;255;255" if dark else "38;2;20;20;20"
    return f"\x1b[48;2;{';'.join(map(str, background))};{text}m{short:^5}\x1b[0m"


def _colour(share: float) -> tuple[tuple[int, ...], bool]:
    """A colour between none and full for a share of the largest effect, and whether it is dark."""
    full, strength = (_TOWARDS if share > 0 else _AWAY), min(1.0, abs(share)) ** 0.5
    return tuple(round(none + strength * (end - none)) for none, end in zip(_NONE, full, strict=True)), strength > 0.6


def map_picture(drawn: HeadMap) -> str:
    """The map as SVG, readable on light and dark pages."""
    legend = [f"{short}  {role}" for short, role in drawn.named.items()]
    width = max(_LEFT + _CELL * drawn.heads + 20, 430)
    bottom = _TOP + _CELL * drawn.layers
    height = bottom + 70 + 18 * -(-len(legend) // 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="28" font-size="15" font-weight="600" fill="#1a1a1a">{escape(drawn.title)}</text>',
        f'<text x="16" y="46" fill="#555555">effect of each head by which it has its role, {drawn.unit}</text>',
    ]
    for head in range(drawn.heads):
        parts.append(_text(_LEFT + _CELL * (head + 0.5), _TOP - 6, f"H{head}", "#555555"))
    for layer in range(drawn.layers):
        top = _TOP + _CELL * (drawn.layers - 1 - layer)
        parts.append(_text(_LEFT - 18, top + _CELL * 0.6, f"L{layer}", "#555555"))
        parts += [_square(drawn, Head(layer, head), top) for head in range(drawn.heads)]
    parts += _scale(drawn, bottom + 22)
    parts += [
        f'<text x="{16 + (index % 2) * 200}" y="{bottom + 66 + 18 * (index // 2)}" fill="#1a1a1a">{escape(line)}</text>'
        for index, line in enumerate(legend)
    ]
    return "\n".join([*map(printable, parts), "</svg>", ""])


def _square(drawn: HeadMap, head: Head, top: float) -> str:
    left = _LEFT + _CELL * head.head
    effect = drawn.effects.get(head)
    fill, dark = ((250, 250, 250), False) if effect is None else _colour(effect / drawn.largest)
    box = (
        f'<rect x="{left}" y="{top}" width="{_CELL - 2}" height="{_CELL - 2}" rx="3" fill="rgb{fill}" stroke="#d0d0d0">'
    )
    if effect is None:
        return f"{box}<title>{head}: no effect</title></rect>"
    ink = "#ffffff" if dark else "#1a1a1a"
    middle = left + _CELL / 2 - 1
    return (
        f"{box}<title>{head} {escape(drawn.roles[head])} {effect:+.3g}</title></rect>"
        + _text(middle, top + 19, drawn.short(drawn.roles[head]), ink, bold=True)
        + _text(middle, top + 35, f"{effect:+.2g}", ink)
    )


def _scale(drawn: HeadMap, top: float) -> Sequence[str]:
    """The colours from the largest effect against the answer to the largest towards it."""
    steps = 21
    shares = [2 * step / (steps - 1) - 1 for step in range(steps)]
    boxes = [
        f'<rect x="{_LEFT + 8 * index}" y="{top}" width="8" height="12" fill="rgb{_colour(share)[0]}"/>'
        for index, share in enumerate(shares)
    ]
    right = _LEFT + 8 * steps
    return [
        *boxes,
        f'<text x="{_LEFT - 6}" y="{top + 11}" text-anchor="end" fill="#555555">{-drawn.largest:.2g}</text>',
        f'<text x="{right + 6}" y="{top + 11}" fill="#555555">{drawn.largest:+.2g} towards the right answer</text>',
    ]


def _text(x: float, y: float, text: str, fill: str, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" fill="{fill}"{weight}>{escape(text)}</text>'
