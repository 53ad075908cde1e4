"""The tables of the benchmark of verdicts, from its results file; `--table` writes them into docs/quality.md."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from typing import Any

from benchmarks.quality_cases import GROUPS, declare
from benchmarks.quality_figures import (
    BINS,
    WORTH_FINDING,
    Ran,
    Share,
    alarm_levels,
    assertions,
    confused,
    costs,
    detected,
    joined,
    localized,
    prompts_saved,
    recoveries,
    smallest,
)
from benchmarks.quality_real import real_lines
from benchmarks.quality_recheck import which_code
from benchmarks.quality_results import Results, code_version
from benchmarks.quality_setting import HEADING, reaches, rows, setting_cases
from circuit_assertions.files import write_whole
from circuit_assertions.verdict_words import Outcome, Overall, RecoveryVerdict
from fixtures.shelf import ROOT

__all__ = ["PAGE", "figures", "table", "write_table"]

PAGE = ROOT / "docs" / "quality.md"
BEGIN, END = "<!-- verdicts: python -m benchmarks.quality --table -->", "<!-- end of verdicts -->"
_GATE = "the gate"
_WORDS = (*RecoveryVerdict, "not reported")
Alarm = Callable[[Ran], bool]


def figures(results: Results) -> dict[str, Any]:
    """Everything that the tables show, as JSON has it."""
    ran, alarms = joined(results), _alarms(results)
    return {
        "code": code_version(),
        "code is today's": results.current == code_version(),
        "results by code": dict(Counter(line["version"] for line in results.counted())),
        "runs": {group: _counted(results, group) for group in GROUPS},
        "false alarms": {name: share.as_json() for name, share in _false_alarms(ran, _gate).items()},
        "detected": {
            name: {_bin(low, high): detected(ran, alarm, low, high).as_json() for low, high in _bins()}
            | {"10%+": detected(ran, alarm, WORTH_FINDING).as_json(), "smallest": smallest(ran, alarm)}
            for name, alarm in alarms.items()
        },
        "false alarms by detector": {
            name: _false_alarms(ran, alarm)["harmless"].as_json() for name, alarm in alarms.items()
        },
        "localized": {
            name: {what: share.as_json() for what, share in told.items()} for name, told in localized(ran).items()
        },
        "confused": confused(ran).as_json(),
        "recoveries": {name: dict(told) for name, told in recoveries(ran).items()},
        "assertions": {name: share.as_json() for name, share in assertions(ran).items()},
        "reaches": {name: asdict(of) | {"bound": of.bound} for name, of in reaches(setting_cases()).items()},
        "prompts": prompts_saved(ran),
        "costs": costs(ran),
        "without a verdict": sum("error" in line for line in results.lines),
    }


def table(results: Results) -> str:
    """All tables as Markdown."""
    ran, setting, alarms = joined(results), joined(results, "setting"), _alarms(results)
    parts = [
        [*_runs(results), *_without(results)],
        _main(ran),
        _sizes(ran, alarms),
        _kinds(ran),
        _localization(ran),
        _recovery(ran),
        _reasons(ran),
        _levels(ran, setting, alarms),
        _markdown(HEADING, rows(setting_cases())),
        _costs(ran),
        list(real_lines()),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts)


def write_table(results: Results) -> None:
    """Write the tables into the page, between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE} has no lines {BEGIN} and {END}")
    write_whole(PAGE, f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{after}")
    print(f"written {PAGE.relative_to(ROOT)}")


def _gate(one: Ran) -> bool:
    return one.alarm


def _alarms(results: Results) -> dict[str, Alarm]:
    """The gate, and each rival at the level that the setting cases give it."""
    levels = alarm_levels(joined(results, "setting"))

    def above(rival: str, level: float, one: Ran) -> bool:
        return bool(one.line["rivals"][rival] > level)

    alarms: dict[str, Alarm] = {_GATE: _gate}
    return alarms | {rival: partial(above, rival, level) for rival, level in levels.items()}


def _false_alarms(ran: Sequence[Ran], alarm: Alarm) -> dict[str, Share]:
    harmless = [one for one in ran if one.case.group == "harmless"]
    kinds = Counter(one.case.kind for one in harmless)
    told = {"harmless": Share.where(map(alarm, harmless))}
    told["fine-tuned"] = Share.where(alarm(one) for one in harmless if one.case.real)
    return told | {kind: Share.where(alarm(one) for one in harmless if one.case.kind == kind) for kind in sorted(kinds)}


def _counted(results: Results, group: str) -> dict[str, int]:
    """Declared and run cases, of both kinds of seeds."""
    told: dict[str, int] = {}
    ran = {seeds: joined(results, seeds) for seeds in ("reporting", "setting")}
    for seeds, found in ran.items():
        declared = [case for case in declare() if (case.group, case.seeds) == (group, seeds)]
        of_group = [one for one in found if one.case.group == group]
        told |= {
            f"{seeds} declared": len(declared),
            f"{seeds} declared, trained": sum(case.real for case in declared),
            f"{seeds} run": len(of_group),
            f"{seeds} run, trained": sum(one.case.real for one in of_group),
        }
    return told


def _runs(results: Results) -> list[str]:
    rows = []
    for group in GROUPS:
        of = _counted(results, group)
        cells = (
            f"{of[f'{seeds} {what}']} ({of[f'{seeds} {what}, trained']} trained)"
            for seeds in ("reporting", "setting")
            for what in ("declared", "run")
        )
        rows.append((_called(group), *cells))
    return _markdown(("group", "reporting, declared", "run", "setting, declared", "run"), rows)


def _without(results: Results) -> list[str]:
    """How many cases came to no verdict, if any did, and which code the results are of, where it is not today's."""
    count = sum("error" in line for line in results.lines)
    ended = f"{count} of the cases that were run ended without a verdict; no share counts them."
    said = [ended] * bool(count) + [text for text in (which_code(results),) if text]
    return [line for text in said for line in ("", text)]


def _called(group: str) -> str:
    return "recovered or bypassed" if group == "recovered" else group


def _main(ran: Sequence[Ran]) -> list[str]:
    """The figures that there are aims for."""
    origins, single = localized(ran), assertions(ran)
    rows = [
        ("false alarms, of harmless models", "at most 1%", _false_alarms(ran, _gate)["harmless"]),
        ("detected, of damage that costs 10% or more", "at least 99%", detected(ran, _gate, WORTH_FINDING)),
        ("origin is the planted set", "at least 95%", origins["all planted"]["set equal"]),
        ("recovered and bypassed confused", "at most 2%", confused(ran)),
        (
            f"assertions {Outcome.UNRESOLVED} on harmless models",
            "at most 5%",
            single[f"{Outcome.UNRESOLVED}, harmless"],
        ),
    ]
    lines = _markdown(("figure", "aim", "share [95%]", "of"), [(name, aim, *_share(told)) for name, aim, told in rows])
    least = smallest(ran, _gate)
    found = "not reached" if least is None else f"a loss of {least:.1%} of the behaviour"
    saved = prompts_saved(ran)
    more = [
        f"The smallest damage that is detected in 95% of the cases that cost as much or more: {found}.",
        "Growing prompts took "
        + " and ".join(f"{share:.0%} of a fixed number for {name}" for name, share in saved.items())
        + " (aim: at most 50%).",
    ]
    return [*lines, *(part for one in more for part in ("", one))]


def _sizes(ran: Sequence[Ran], alarms: dict[str, Alarm]) -> list[str]:
    rows: list[tuple[str, ...]] = []
    for low, high in _bins():
        shares = [detected(ran, alarm, low, high) for alarm in alarms.values()]
        rows.append((_bin(low, high), str(shares[0].of), *(_cell(one) for one in shares)))
    least = [smallest(ran, alarm) for alarm in alarms.values()]
    rows.append(("smallest found in 95%", "", *("none" if one is None else f"{one:.1%}" for one in least)))
    false = [_false_alarms(ran, alarm)["harmless"] for alarm in alarms.values()]
    rows.append(("false alarms", str(false[0].of), *(_cell(one) for one in false)))
    return _markdown(("loss of behaviour", "cases", *alarms), rows)


def _kinds(ran: Sequence[Ran]) -> list[str]:
    """Damage of one component by kind and strength, and by role, in two sizes of loss."""
    one_part = [one for one in ran if one.case.group == "damaged" and len(one.case.planted) == 1]
    rows = []
    ways: dict[str, Callable[[Ran], str]] = {
        "damage": lambda one: f"{one.case.kind.partition(',')[0]} {one.case.strength or ''}".strip(),
        "role": lambda one: str(one.line.get("roles", ["not known"])[0]),
    }
    for name, of in ways.items():
        for value in sorted({of(one) for one in one_part}):
            members = [one for one in one_part if of(one) == value]
            small = detected(members, _gate, 0.02, WORTH_FINDING)
            large = detected(members, _gate, WORTH_FINDING)
            rows.append((f"{name}: {value}", str(len(members)), *_share(small), *_share(large)))
    return _markdown(("one component", "cases", "loss 2% to 10%", "of", "10% or more", "of"), rows)


def _localization(ran: Sequence[Ran]) -> list[str]:
    rows = [
        (f"{name}: {what}", *_share(share)) for name, told in localized(ran).items() for what, share in told.items()
    ]
    return _markdown(("origin, where 10% or more is lost", "share [95%]", "of"), rows)


def _recovery(ran: Sequence[Ran]) -> list[str]:
    real = {f"{one.case.truth}: {one.case.kind}": one.case.real for one in ran}
    rows = [
        (name, "trained" if real[name] else "constructed", *(str(told[word]) for word in _WORDS))
        for name, told in recoveries(ran).items()
    ]
    return _markdown(("truth", "made", *_WORDS), rows)


def _reasons(ran: Sequence[Ran]) -> list[str]:
    told = [(name, *_share(share)) for name, share in assertions(ran).items()]
    false = [(f"false alarms: {name}", *_share(share)) for name, share in _false_alarms(ran, _gate).items()]
    harmless = [one for one in ran if one.case.group == "harmless"]
    alone = Share.where(one.alarm and "B" not in one.line["outcomes"] for one in harmless)
    hurt = Share.where(one.lost >= 1 - 0.95 for one in harmless)
    corrupted = [one for one in ran if one.case.group == "damaged" and one.line.get("verdict") == Overall.CORRUPTED]
    passed = Share.where(not one.alarm for one in corrupted)
    more = [
        (f"false alarms without a {Outcome.BROKEN} assertion, by the diagnosis alone", *_share(alone)),
        ("harmless models that lost 5% or more of the behaviour", *_share(hurt)),
        (f"damaged models that the gate passes though the diagnosis is {Overall.CORRUPTED}", *_share(passed)),
    ]
    return _markdown(("errors, in detail", "share [95%]", "of"), [*told, *false, *more])


def _levels(ran: Sequence[Ran], setting: Sequence[Ran], alarms: dict[str, Alarm]) -> list[str]:
    levels = alarm_levels(setting)
    harmless = [one for one in setting if one.case.group == "harmless"]
    said = (
        f"The gate has {sum(one.alarm for one in harmless)} false alarms on the {len(harmless)} harmless setting cases."
    )
    rows = [
        (rival, f"{level:.3g}", _cell(detected(ran, alarms[rival], WORTH_FINDING))) for rival, level in levels.items()
    ]
    return [said, "", *_markdown(("what people use today", "alarm above", "detected, of 10% or more"), rows)]


def _costs(ran: Sequence[Ran]) -> list[str]:
    told = costs(ran)
    names = list(next(iter(told.values()), {}))
    rows = [(_called(group), *(f"{of[name]:g}" for name in names)) for group, of in told.items()]
    return _markdown(("a run, medians", *names), rows)


def _bins() -> Iterator[tuple[float, float]]:
    return pairwise(BINS)


def _bin(low: float, high: float) -> str:
    if low == -math.inf:
        return "none, or stronger"
    return f"{low:.0%} or more" if high == math.inf else f"{low:.0%} to {high:.0%}"


def _cell(share: Share) -> str:
    if not share.of:
        return ""
    low, high = share.bounds
    return f"{share.share:.1%} [{low:.1%}, {high:.1%}]"


def _share(share: Share) -> tuple[str, str]:
    return _cell(share), str(share.of)


def _markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
