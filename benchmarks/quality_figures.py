"""What the results of the benchmark of verdicts come to: shares with Wilson's bounds. Nothing is run here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

from scipy.stats import binomtest

from benchmarks.quality_cases import Case, declare
from benchmarks.quality_results import Line, Results, key_of
from benchmarks.quality_rivals import RIVALS
from circuit_assertions.verdict_words import GateResult, OriginVerdict, Outcome, RecoveryVerdict

__all__ = [
    "BINS",
    "Ran",
    "Share",
    "alarm_levels",
    "assertions",
    "detected",
    "joined",
    "localized",
    "prompts_saved",
    "recoveries",
    "smallest",
]

BINS = (-math.inf, 0.0, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, math.inf)  # of the share of the behaviour that is lost
WORTH_FINDING = 0.1  # of the behaviour: the loss that the aims are about
_FOUND = 0.95
_RETAINS, _MARGIN = 0.8, 0.03  # what the suite asks to be retained; nearer to it the truth is not known well enough
_KEEPS = "keeps-most-of-the-baselines-margin"
# Zeroed or negated, a name mover writes nothing or the opposite; whatever else the model does, these are then lost.
_OF_NAME_MOVERS = ("name-movers-copy-what-they-read", "name-movers-push-the-right-way")


@dataclass(frozen=True)
class Share:
    """How many of how many, with the bounds of Wilson's 95 % interval."""

    hits: int
    of: int

    @classmethod
    def where(cls, found: Iterable[bool]) -> Share:
        """Of truths."""
        told = list(found)
        return cls(sum(told), len(told))

    @property
    def share(self) -> float:
        """NaN of nothing."""
        return self.hits / self.of if self.of else math.nan

    @property
    def bounds(self) -> tuple[float, float]:
        """Wilson's; all of 0 to 1 for a share of nothing."""
        if not self.of:
            return 0.0, 1.0
        interval = binomtest(self.hits, self.of).proportion_ci(0.95, method="wilson")
        return float(interval.low), float(interval.high)

    def as_json(self) -> dict[str, Any]:
        """With its bounds; a share of nothing is null."""
        low, high = self.bounds
        return {"hits": self.hits, "of": self.of, "share": self.share if self.of else None, "low": low, "high": high}


@dataclass(frozen=True, eq=False)
class Ran:
    """A case, and its line in the results."""

    case: Case
    line: Line
    asked: Sequence[str]

    @property
    def alarm(self) -> bool:
        """Whether the gate failed."""
        return bool(self.line["gate"] == GateResult.FAIL)

    @property
    def lost(self) -> float:
        """The share of the behaviour that is lost, read with transformers alone on prompts that no run uses."""
        return float(self.line["lost"])

    @property
    def verdicts(self) -> dict[str, str]:
        """The letter of each judged assertion."""
        told = zip(self.asked, self.line["outcomes"], strict=True)
        return {name: letter for name, letter in told if letter in "HBU"}


def joined(results: Results, seeds: str = "reporting") -> list[Ran]:
    """The cases that came to a verdict, of today's code and of code that is alike, or of the last that was run."""
    lines = results.counted()
    cases = {(seed, case.name): case for seed in {line["seed"] for line in lines} for case in _declared(seed)}
    found = []
    for line in lines:
        case = cases.get((line["seed"], line["case"]))
        # A case that was declared otherwise when it was run has another key.
        if case is not None and case.seeds == seeds and line["key"] == key_of(case, line["version"]):
            found.append(Ran(case, line, results.asked.get(line["version"], [])))
    return [one for one in found if "error" not in one.line]


@cache
def _declared(seed: int) -> tuple[Case, ...]:
    return declare(seed)


def detected(ran: Sequence[Ran], alarm: Callable[[Ran], bool], low: float, high: float = math.inf) -> Share:
    """Of the damage that costs from `low` to below `high` of the behaviour."""
    return Share.where(alarm(one) for one in ran if one.case.group == "damaged" and low <= one.lost < high)


def smallest(ran: Sequence[Ran], alarm: Callable[[Ran], bool]) -> float | None:
    """The smallest loss from which on at least 95 % of all damage is detected; None where not even the largest is."""
    damaged = sorted((one for one in ran if one.case.group == "damaged"), key=lambda one: -one.lost)
    found, best = 0, None
    for count, one in enumerate(damaged, 1):
        found += alarm(one)
        if found / count >= _FOUND:
            best = one.lost
    return best


def alarm_levels(setting: Sequence[Ran]) -> dict[str, float]:
    """For each rival the score above which as many harmless setting cases lie as the gate has false alarms there."""
    harmless = [one for one in setting if one.case.group == "harmless"]
    alarms = sum(one.alarm for one in harmless)
    levels = {}
    for rival in RIVALS if len(harmless) > alarms else ():
        levels[rival] = sorted((one.line["rivals"][rival] for one in harmless), reverse=True)[alarms]
    return levels


def localized(ran: Sequence[Ran]) -> dict[str, dict[str, Share]]:
    """How often the named origin is the planted set, and contains it, where 10 % of the behaviour or more is lost."""
    worth = [one for one in ran if one.case.group == "damaged" and one.lost >= WORTH_FINDING]
    planted = [one for one in worth if one.case.planted]
    groups = {
        "alone": [one for one in planted if not one.case.real and one.case.weights.steps == 0],
        "in a fine-tuned model": [one for one in planted if not one.case.real and one.case.weights.steps > 0],
        "trained into three heads or fewer": [one for one in planted if one.case.real],
        "all planted": planted,
    }
    told = {
        name: {
            "set equal": Share.where(_named(one) == set(one.case.planted) for one in members),
            "set contains": Share.where(_named(one) >= set(one.case.planted) for one in members),
        }
        for name, members in groups.items()
    }
    everywhere = [one for one in worth if not one.case.planted]
    told["everything was trained"] = {
        OriginVerdict.LOCALIZED: Share.where(one.line.get("origin") == OriginVerdict.LOCALIZED for one in everywhere)
    }
    return told


def _named(one: Ran) -> set[str]:
    return set(one.line.get("components", ()))


def recoveries(ran: Sequence[Ran]) -> dict[str, Counter[str]]:
    """What was reported of each kind of recovery, by its truth and kind."""
    told: dict[str, Counter[str]] = {}
    for one in ran:
        if one.case.group == "recovered":
            name = f"{one.case.truth}: {one.case.kind}"
            told.setdefault(name, Counter())[one.line.get("recovery") or "not reported"] += 1
    return dict(sorted(told.items()))


def confused(ran: Sequence[Ran]) -> Share:
    """How often a recovery was reported as a bypass, or a bypass as a recovery."""
    opposite = {"recovered": RecoveryVerdict.BYPASSED, "bypassed": RecoveryVerdict.RECOVERED}
    cases = [one for one in ran if one.case.group == "recovered"]
    return Share.where(one.line.get("recovery") == opposite[one.case.truth] for one in cases)


def assertions(ran: Sequence[Ran]) -> dict[str, Share]:
    """Both directions of error of single assertions, and how many are undecided."""
    harmless = [one for one in ran if one.case.group == "harmless"]
    worth = [one for one in ran if one.case.group == "damaged" and one.lost >= WORTH_FINDING]
    margins = [one for one in ran if one.case.group != "harmless" and _KEEPS in one.verdicts]
    kept = [one for one in margins if 1 - one.lost > _RETAINS + _MARGIN]
    fell = [one for one in margins if 1 - one.lost < _RETAINS - _MARGIN]
    gone = [
        one.verdicts[name] for one in ran if _lost_for_sure(one) for name in _OF_NAME_MOVERS if name in one.verdicts
    ]
    return {
        f"false {Outcome.BROKEN}, harmless": _letters(harmless, "B"),
        f"false {Outcome.BROKEN}, margin": Share.where(one.verdicts[_KEEPS] == "B" for one in kept),
        f"false {Outcome.HELD}, margin": Share.where(one.verdicts[_KEEPS] == "H" for one in fell),
        f"false {Outcome.HELD}, name movers": Share.where(letter == "H" for letter in gone),
        f"{Outcome.UNRESOLVED}, harmless": _letters(harmless, "U"),
        f"{Outcome.UNRESOLVED}, damaged": _letters(worth, "U"),
    }


def _letters(ran: Sequence[Ran], letter: str) -> Share:
    return Share.where(told == letter for one in ran for told in one.verdicts.values())


def _lost_for_sure(one: Ran) -> bool:
    silenced = one.case.kind.startswith(("negate,", "zero,"))
    return one.case.group == "damaged" and silenced and "name-mover" in one.line.get("roles", ())


def prompts_saved(ran: Sequence[Ran]) -> dict[str, float]:
    """The prompts of all assertions, as a share of what fixed designs take that decide the same assertions.

    Returns:
        `each run`: every assertion of a run gets as many prompts as the one that took most; `all runs`: as the one of
        all runs, because nobody knows beforehand what a checkpoint will need.
    """
    judged = [one for one in ran if one.verdicts]
    used = sum(one.line["prompts"][0] for one in judged)
    most = max((one.line["prompts"][1] for one in judged), default=0)
    fixed = {
        "each run": sum(one.line["prompts"][1] * len(one.verdicts) for one in judged),
        "all runs": sum(most * len(one.verdicts) for one in judged),
    }
    return {name: used / of for name, of in fixed.items() if of}


def costs(ran: Sequence[Ran]) -> dict[str, Mapping[str, float]]:
    """Seconds and prompts of a run, medians, by group."""
    told: dict[str, Mapping[str, float]] = {}
    for group in dict.fromkeys(one.case.group for one in ran):
        lines = [one.line for one in ran if one.case.group == group]
        told[group] = {
            "processor seconds": median(line["cpu"] for line in lines),
            "prompts of an assertion, at most": median(line["prompts"][1] for line in lines),
            "prompts of all assertions": median(line["prompts"][0] for line in lines),
        }
    return told
