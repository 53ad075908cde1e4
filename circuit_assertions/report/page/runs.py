"""Several checkpoints in a report: a verdict for each assertion and checkpoint, and its reading over them as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from circuit_assertions.checkpoints import step_of
from circuit_assertions.measures.figures import number
from circuit_assertions.report.page.charts import Spark, spark
from circuit_assertions.report.verdict_sentence import tone_of
from circuit_assertions.results import AssertionResult, AuditResult

__all__ = ["RunCell", "RunRow", "RunView", "runs_of"]


@dataclass(frozen=True)
class RunCell:
    """An assertion on one checkpoint: its verdict, and what was read, in words."""

    verdict: str
    tone: str
    read: str


@dataclass(frozen=True)
class RunRow:
    """An assertion over checkpoints.

    Attributes:
        turned: whether its verdict changes.
        line: its deciding readings; None for models that are no training run, and where fewer than two were read.
    """

    id: str
    suite: str
    cells: tuple[RunCell, ...]
    turned: bool
    line: Spark | None


@dataclass(frozen=True)
class RunView:
    """A training run, or the models that were audited side by side.

    Attributes:
        is_run: whether its columns are the steps of a training run.
        columns: short and full names.
    """

    title: str
    is_run: bool
    columns: tuple[tuple[str, str], ...]
    rows: tuple[RunRow, ...]


def runs_of(result: AuditResult) -> list[RunView]:
    """The training runs of an audit, then its models side by side where there are several beside the runs."""
    runs = [run for run in result.runs if len(run) > 1]
    followed = {model for run in runs for model in run}
    views = [_view(result, _name_of(run), run, is_run=True) for run in runs]
    models = tuple(dict.fromkeys(line.model for line in result.assertions))
    alone = tuple(model for model in models if model not in followed)
    last = tuple(run[-1] for run in runs if run[-1] in models)
    if len(alone) + len(last) > 1:
        views.append(_view(result, "models", (*alone, *last), is_run=False))
    return views


def _name_of(run: Sequence[str]) -> str:
    first = run[0]
    return first if step_of(first) is None else first.rpartition("/")[0]


def _view(result: AuditResult, title: str, models: Sequence[str], is_run: bool) -> RunView:
    by_place: dict[tuple[str, str], dict[str, AssertionResult]] = {}
    for line in result.assertions:
        if line.model in models:
            by_place.setdefault((line.suite, line.id), {})[line.model] = line
    rows = [_row(suite, name, [own.get(model) for model in models], is_run) for (suite, name), own in by_place.items()]
    rows.sort(key=lambda row: not row.turned)
    steps = [step_of(model) for model in models]
    short = [_short(step, model, is_run) for step, model in zip(steps, models, strict=True)]
    return RunView(title, is_run, tuple(zip(short, models, strict=True)), tuple(rows))


def _row(suite: str, name: str, lines: Sequence[AssertionResult | None], is_run: bool) -> RunRow:
    cells = tuple(map(_cell, lines))
    figures = [one.rows[0].figure if one is not None and one.rows else None for one in lines]
    judged = {cell.verdict for cell in cells if cell.verdict}
    return RunRow(name, suite, cells, len(judged) > 1, spark(figures) if is_run else None)


def _cell(line: AssertionResult | None) -> RunCell:
    if line is None:
        return RunCell("", "none", "")
    return RunCell(line.counted, tone_of(line.counted), number(line.rows[0].figure.mean) if line.rows else "")


def _short(step: int | None, model: str, is_run: bool) -> str:
    if not is_run:
        return model
    return "final" if step is None else str(step)
