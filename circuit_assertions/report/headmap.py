"""A head map: layer by head, coloured by effect, roles named. In a terminal, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from circuit_assertions.heads import Head
from circuit_assertions.report.svg import Canvas, picture
from circuit_assertions.report.tables import Cell, Column, table
from circuit_assertions.tasks import LOGIT_DIFFERENCE

__all__ = ["HeadMap", "map_lines", "map_picture", "shade"]

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


def map_lines(drawn: HeadMap, colours: str | None) -> list[str]:
    """The map for a terminal: one row per layer, the last layer on top.

    Args:
        colours: rich's name of the colours that the terminal shows; without any the sign stands behind the role: `NM+`.
    """
    rows: list[list[str | Cell]] = [["", *(f"H{head}" for head in range(drawn.heads))]]
    for layer in reversed(range(drawn.layers)):
        rows.append([f"L{layer}", *(_cell(drawn, Head(layer, head), colours) for head in range(drawn.heads))])
    legend = "   ".join(f"{short} {role}" for short, role in drawn.named.items())
    columns = (Column(5, gap=0), *[Column(5, "center", gap=0)] * drawn.heads)
    return [*table(rows, *columns, colours=colours), *table([("", legend)], columns[0])]


def _cell(drawn: HeadMap, head: Head, colours: str | None) -> str | Cell:
    if head not in drawn.effects:
        return "."
    short, effect = drawn.short(drawn.roles[head]), drawn.effects[head]
    if colours is None:
        return short + ("+" if effect > 0 else "-")
    background, dark = shade(effect / drawn.largest)
    return Cell(short, f"{'rgb(255,255,255)' if dark else 'rgb(20,20,20)'} on rgb({','.join(map(str, background))})")


def shade(
    share: float, linear: bool = False, colours: Sequence[tuple[int, ...]] | None = None
) -> tuple[tuple[int, ...], bool]:
    """A colour between none and full for a share of the largest effect, and whether it is near to full.

    Args:
        linear: whether the colour follows the share itself, and not its square root, which shows small effects.
        colours: none, towards the right answer and away from it; default those of light pages.
    """
    none, towards, away = colours or (_NONE, _TOWARDS, _AWAY)
    full, size = (towards if share > 0 else away), min(1.0, abs(share))
    strength = size if linear else size**0.5
    return tuple(round(low + strength * (end - low)) for low, end in zip(none, full, strict=True)), strength > 0.6


def map_picture(drawn: HeadMap) -> str:
    """The map as SVG. It is light on dark pages too, because colours around white show the effects."""
    legend = [f"{short}  {role}" for short, role in drawn.named.items()]
    bottom = _TOP + _CELL * drawn.layers
    width, height = max(_LEFT + _CELL * drawn.heads + 20, 430), bottom + 70 + 18 * -(-len(legend) // 2)
    canvas = picture(width, height, drawn.title, dark=False)
    canvas.text(16, 28, drawn.title, "title")
    canvas.text(16, 46, f"effect of each head by which it has its role, {drawn.unit}")
    for head in range(drawn.heads):
        canvas.text(_LEFT + _CELL * (head + 0.5), _TOP - 6, f"H{head}", anchor="middle")
    for layer in range(drawn.layers):
        top = _TOP + _CELL * (drawn.layers - 1 - layer)
        canvas.text(_LEFT - 18, top + _CELL * 0.6, f"L{layer}", anchor="middle")
        for head in range(drawn.heads):
            _square(canvas.moved(_LEFT + _CELL * head, top), drawn, Head(layer, head))
    _scale(canvas.moved(_LEFT, bottom + 22), drawn)
    for index, line in enumerate(legend):
        canvas.text(16 + (index % 2) * 200, bottom + 66 + 18 * (index // 2), line, "on-light")
    return canvas.rendered()


def _square(canvas: Canvas, drawn: HeadMap, head: Head) -> None:
    effect, side = drawn.effects.get(head), _CELL - 2
    if effect is None:
        canvas.add("rect", look="cell empty", width=side, height=side, rx=3).add("title", f"{head}: no effect")
        return
    fill, dark = shade(effect / drawn.largest)
    box = canvas.add("rect", look="cell", width=side, height=side, rx=3, fill=f"rgb{fill}")
    box.add("title", f"{head} {drawn.roles[head]} {effect:+.3g}")
    ink = "on-dark" if dark else "on-light"
    canvas.text(side / 2, 19, drawn.short(drawn.roles[head]), f"{ink} strong", "middle")
    canvas.text(side / 2, 35, f"{effect:+.2g}", ink, "middle")


def _scale(canvas: Canvas, drawn: HeadMap) -> None:
    """The colours from the largest effect against the answer to the largest towards it."""
    steps, wide = 21, 8
    for step in range(steps):
        colour, _ = shade(2 * step / (steps - 1) - 1)
        canvas.add("rect", x=wide * step, width=wide, height=12, fill=f"rgb{colour}")
    canvas.text(-6, 11, f"{-drawn.largest:.2g}", anchor="end")
    canvas.text(wide * steps + 6, 11, f"{drawn.largest:+.2g} towards the right answer")
