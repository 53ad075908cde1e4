"""The result of the `wrapped` verb as text: the verdict, and the three things that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from circuit_assertions.measures.figures import number, signed
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.explaining import percent, share_text
from circuit_assertions.report.tables import Column, paragraph, table
from circuit_assertions.results.values import Figure
from circuit_assertions.results.wrapped import PrunedResult, RevivalResult, RevivedModel, WrappedResult

__all__ = ["wrapped_lines"]

_WIDTH = 100
_LABELS = Column(least=10)
_RIGHT = Column(align="right")


@printable_lines
def wrapped_lines(result: WrappedResult) -> Iterator[tuple[str, str]]:
    """The result as (text, verdict) pairs."""
    model, behaviour = result.model, result.behaviour
    names = [("model", model.checkpoint), ("baseline", result.baseline.checkpoint)]
    names += [("control", result.control.checkpoint)] if result.control is not None else []
    yield from ((line, "") for line in table(names, _LABELS))
    told = f"{result.verdict}: {result.why}"
    yield from ((line, result.verdict) for line in table(paragraph(told, _WIDTH, "verdict"), _LABELS))
    low, high = number(behaviour.low), number(behaviour.high)
    facts = [
        (
            "behaviour",
            f"{result.called} {result.metric.called} {number(result.baseline_behaviour.mean)} -> "
            f"{number(behaviour.mean)} [{low}, {high}] {result.metric.unit}; {result.prompts} prompts",
        )
    ]
    if result.control_kept is not None:
        facts.append(("", f"the control shows {share_text(result.control_kept)} of the baseline's"))
    yield from ((line, "") for line in table(facts, _LABELS))
    yield from ((line, "") for line in _probes(result))
    for one in result.pruned:
        yield from ((line, "") for line in _pruned(one))
    if result.revival is not None:
        yield from ((line, "") for line in _revival(result.revival))
    if result.missing:
        yield from ((line, "") for line in table(paragraph(result.missing, _WIDTH, "missing"), _LABELS))


def _probes(result: WrappedResult) -> Iterator[str]:
    if not result.probes:
        return
    yield ""
    yield "probes: how often a linear read-out after each block prefers the right answer (best: chosen where it learns)"
    layers = len(result.probes[0].by_layer)
    rows: list[Sequence[str]] = [("", *(f"L{layer}" for layer in range(layers)), "best", "shuffled")]
    for one in result.probes:
        cells = (percent(figure.mean) for figure in one.by_layer)
        rows.append((one.of, *cells, share_text(one.best), percent(one.shuffled)))
    yield from table(rows, _LABELS, *[_RIGHT] * (layers + 2))
    if result.probe_gap is not None:
        yield f"from the model {_points(result.probe_gap)} more often than from the control"


def _pruned(one: PrunedResult) -> Iterator[str]:
    yield ""
    yield f"pruned {one.kind}s, and what is then shown of the baseline's behaviour:"
    rows: list[Sequence[str]] = [
        (one.kind + "s", *(str(point.units) for point in one.points)),
        ("revived", *(percent(point.revived) for point in one.points)),
        ("random", *(percent(point.random) for point in one.points)),
    ]
    yield from table(rows, _LABELS, *[_RIGHT] * len(one.points))
    many = len(one.units)
    if not many:
        yield f"no {one.kind} revives anything"
        return
    called = f"{one.kind}{'s' * (many > 1)}"
    holds = "the wrapper is held by" if one.holds else "judged:"
    text = f"{holds} {many} {called} ({', '.join(one.units)}): {share_text(one.revived)} revived"
    text += f", random {percent(one.random)}"
    yield from (line for (line,) in paragraph(f"{text}; ordinary text loses {signed(one.text_lost.mean)} nats", 110))


def _revival(one: RevivalResult) -> Iterator[str]:
    yield ""
    yield (
        f"fine-tuned in memory on {one.prompts} prompts ({one.batch} a step, rate {one.rate:g}, at most {one.steps} "
        f"steps): steps to half of the baseline's behaviour"
    )
    seeds = max(len(model.to_half) for model in one.models)
    rows: list[Sequence[str]] = [("", *(f"seed {seed}" for seed in range(seeds)), "at the end")]
    rows += [_row(model, one.steps, seeds) for model in one.models]
    yield from table(rows, _LABELS, *[_RIGHT] * (seeds + 1))
    if one.ratio is not None:
        bound = "at most " if one.at_most else "at least " if one.at_least else ""
        ratio = f"{bound}{number(one.ratio.mean)} [{number(one.ratio.low)}, {number(one.ratio.high)}]"
        yield f"model / control: {ratio} of the steps"


def _row(model: RevivedModel, steps: int, seeds: int) -> Sequence[str]:
    cells = [f"> {steps}" if half is None else f"{half:.1f}" for half in model.to_half]
    ends = [curve[-1][1] for curve in model.curves]
    return (model.of, *cells, *[""] * (seeds - len(cells)), percent(sum(ends) / len(ends)))


def _points(figure: Figure) -> str:
    return f"{100 * figure.mean:+.0f} [{100 * figure.low:+.0f}, {100 * figure.high:+.0f}] per cent of prompts"
