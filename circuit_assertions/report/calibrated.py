"""The result of the `calibrate` verb as text: how far readings differ by setting, and the tolerances."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_assertions.printable import printable_lines
from circuit_assertions.report.suites_tested import facts_of_suites
from circuit_assertions.report.tables import Column, paragraph, table
from circuit_assertions.results.calibration import (
    CalibrationResult,
    MeasureDifference,
    NotCalibrated,
    SettingResult,
    SettingUsed,
)
from circuit_assertions.verdict_words import Outcome

__all__ = ["calibration_lines"]

_LABELS = Column(least=10)
_RIGHT = Column(align="right")
_WIDTH = 100  # of lists that are broken into lines


@printable_lines
def calibration_lines(result: CalibrationResult, file: str = "") -> Iterator[tuple[str, str]]:
    """The calibration as (text, verdict) pairs.

    Args:
        file: that it was written to; empty if to none.
    """
    yield from ((line, "") for line in table(list(_facts(result)), _LABELS))
    yield "", ""
    yield from ((line, "") for line in _settings(result))
    changed = [(one, text) for one in result.settings for text in one.changed]
    if changed:
        yield "", ""
        for one, text in changed:
            yield f"verdict changed by {_name(one)}: {text}", Outcome.UNRESOLVED
    yield "", ""
    yield from ((line, "") for line in _measures(result))
    missing = [(one, gone) for one in result.settings for gone in one.not_compared]
    if missing:
        yield "", ""
        yield from ((line, "") for line in table([("not compared", *_gone(one, gone)) for one, gone in missing]))
    yield "", ""
    yield _end(file), ""


def _facts(result: CalibrationResult) -> Iterator[tuple[str, ...]]:
    yield from facts_of_suites(result.model, result.suites, result.circuits)
    yield "reference", _used(result.reference)
    yield "prompts", f"{result.prompts} of each task: one half for the tolerances, the other to test them"
    yield "tolerance", f"the difference of the mean, and {result.margin:g} standard errors of it"
    for number, one in enumerate(result.left_out):
        yield from paragraph(f"{one.name}: {one.reason}", _WIDTH, "left out" if not number else "")


def _used(used: SettingUsed) -> str:
    batch = "as memory allows" if used.batch is None else f"of at most {used.batch}"
    threads = f"{used.threads} thread{'s' if used.threads != 1 else ''}"
    return f"{used.dtype} on {used.device}, {threads}, batches {batch}, prompts {used.order}"


def _name(one: SettingResult) -> str:
    return f"{one.kind} {one.name}"


def _settings(result: CalibrationResult) -> list[str]:
    rows = [("setting", "compared", "verdicts changed", "largest shift", "tolerances hold", "")]
    for one in result.settings:
        if one.used is None:
            rows.append((_name(one), "no", "", "", "", one.reason))
            continue
        shift = max((each.of_mean / each.width for each in one.measures if each.width > 0), default=0.0)
        held = sum(each.holds for each in one.measures)
        rows.append(
            (
                _name(one),
                str(one.judged),
                str(len(one.changed)),
                f"{100 * shift:.2g}% of its interval",
                f"{held} of {len(one.measures)}",
                "",
            )
        )
    return table(rows, Column(), *[_RIGHT] * 4)


def _measures(result: CalibrationResult) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("setting", "measure", "of one prompt", "of the mean", "interval", "tolerance", "held out", "unit")
    ]
    for one in result.settings:
        for number, each in enumerate(one.measures):
            rows.append((_name(one) if not number else "", *_cells(each)))
    return table(rows, Column(), Column(), *[_RIGHT] * 5)


def _cells(one: MeasureDifference) -> tuple[str, ...]:
    held = f"{one.held_out:.2g}" if one.holds else f"{one.held_out:.2g} (exceeds)"
    figures = (one.largest, one.of_mean, one.width, one.tolerance)
    return one.measure, *(f"{value:.2g}" for value in figures), held, one.unit


def _gone(one: SettingResult, gone: NotCalibrated) -> tuple[str, str, str]:
    return _name(one), gone.name, gone.reason


def _end(file: str) -> str:
    if file:
        return f"written to {file}: give --circuit-calibration={file} where readings of two settings meet"
    return "not written: give -o calibration.yaml to use the tolerances with --circuit-calibration"
