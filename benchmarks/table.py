"""The table as people read it, and which aims were reached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.rows import SWEEP, Row, Setting
from circuit_assertions.report.tables import Column, table

__all__ = ["Aim", "aims", "as_json", "heading", "line", "notes", "reached"]

_TIMES_LOOP = {
    "heads -> logits": 60,
    "heads -> query of three heads": 80,
    "heads -> value": 5,
    "heads -> key": 5,
}
_MOST_FORWARDS = 30
_MOST_TIMES_FLOOR = 2

_COLUMNS = (
    ("", 31),
    ("time s", 9),
    ("MB", 7),
    ("loop s", 9),
    ("MB", 7),
    ("TL s", 9),
    ("x loop", 8),
    ("x TL", 8),
    ("forwards", 10),
    ("x floor", 9),
    ("differ", 9),
)


@dataclass(frozen=True)
class Aim:
    """The aim that a row is compared with."""

    job: str
    aim: str
    value: float
    reached: bool


def heading(setting: Setting) -> str:
    """What was measured, and the columns."""
    blocks = f"{setting.layers} layers of {setting.heads} heads{setting.cut and f' ({setting.cut})'}"
    shape = f"{setting.shape}: {blocks}, d_model {setting.d_model}, vocabulary {setting.vocabulary}"
    asked = f"{setting.prompts} prompts of {setting.tokens} tokens, float32"
    device = f"device {setting.device}, {setting.threads} thread{'s' * (setting.threads > 1)}, {setting.clock}"
    return "\n".join([f"{shape}", f"{asked}; {device}", _laid_out(*(name for name, _ in _COLUMNS))])


def line(row: Row) -> str:
    """One row."""
    mark = "*" if row.lens_note else " "
    return _laid_out(
        row.job,
        f"{row.seconds:.2f}",
        _whole(row.peak_mb),
        f"{row.loop_seconds:.1f}",
        _whole(row.loop_peak_mb),
        ("-" if row.lens_seconds is None else f"{row.lens_seconds:.1f}") + mark,
        f"{row.times_loop:.1f}",
        "-" if row.times_lens is None else f"{row.times_lens:.1f}",
        f"{row.forwards:.1f}",
        f"{row.times_floor:.1f}",
        f"{row.difference:.0e}",
    )


def _laid_out(*cells: str) -> str:
    """A line of its own, because rows are printed one by one."""
    first, *others = (width for _, width in _COLUMNS)
    columns = (Column(first, gap=0), *(Column(width, "right", gap=0) for width in others))
    (shown,) = table([cells], *columns)
    return shown


def notes(rows: Iterable[Row]) -> list[str]:
    """Footnotes: why TransformerLens's cells are empty or not the same, and how much of the slow sides was run."""
    jobs: dict[str, list[str]] = {}
    for row in rows:
        if row.lens_note and not row.job.startswith(" "):
            jobs.setdefault(row.lens_note, []).append(row.job)
    timed = {row.job: (row.passes_timed, row.passes) for row in rows if not row.job.startswith(" ")}
    scaled = ", ".join(f"{some} of {every}" for some, every in timed.values())
    return [f"* {', '.join(names)}: {note}" for note, names in jobs.items()] + [
        f"  loop and TL are scaled from some passes; the loop from {scaled}, row by row"
    ]


def aims(rows: Sequence[Row]) -> list[Aim]:
    """What was aimed at, and whether it was reached."""
    found = []
    for row in rows:
        if row.job in _TIMES_LOOP:
            least = _TIMES_LOOP[row.job]
            found.append(Aim(row.job, f"at least {least} x the loop", row.times_loop, row.times_loop >= least))
        if row.job == SWEEP:
            reached = row.forwards <= _MOST_FORWARDS
            found.append(Aim(row.job, f"at most {_MOST_FORWARDS} forward passes", row.forwards, reached))
        if not row.job.startswith(" "):
            reached = row.times_floor <= _MOST_TIMES_FLOOR
            found.append(Aim(row.job, f"at most {_MOST_TIMES_FLOOR} x the floor", row.times_floor, reached))
    return found


def reached(found: Iterable[Aim]) -> list[str]:
    """Which aims were reached, one per line."""
    said = [
        ("reached" if aim.reached else "not reached", f"{aim.job}: {aim.aim}; it is {aim.value:.1f}") for aim in found
    ]
    return table(said, Column(least=11, gap=1))


def as_json(setting: Setting, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows with everything that they were taken under, and their aims."""
    reached = aims(rows)
    return [
        asdict(setting)
        | row.as_json()
        | {"job": row.job.strip(), "stage_of_sweep": row.job.startswith(" ")}
        | {"aims": [asdict(aim) for aim in reached if aim.job == row.job]}
        for row in rows
    ]


def _whole(size: float | None) -> str:
    return "-" if size is None else f"{size:.0f}"
