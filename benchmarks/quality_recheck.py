"""Results of earlier code, tested by running some of their cases again with today's code.

The full run takes hours, and most changes of the code decide no verdict. `--recheck N` runs N cases of the latest
results again, drawn at random, and notes which of them now end otherwise. Where none of 20 or more does, the results
hold for today's code, and only the cases that are not run yet are left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

from benchmarks.quality_cases import Case, declare
from benchmarks.quality_results import Line, Results, code_version, key_of

__all__ = ["COMPARED", "differs", "drawn", "note", "which_code"]

COMPARED = ("gate", "outcomes", "verdict", "origin", "components", "recovery")  # of the outcome of a case
_NONE: dict[str, Any] = {"origin": None, "components": [], "recovery": None, "verdict": None}


def version_rechecked(results: Results) -> str | None:
    """The version that most of the results are of which the tables have."""
    counts = Counter(line["version"] for line in results.counted())
    return counts.most_common(1)[0][0] if counts else None


def drawn(results: Results, count: int, seed: int = 0) -> list[Case]:
    """Cases of the version that most results are of, drawn without replacement; all where there are no more."""
    version = version_rechecked(results)
    kept = {line["key"]: line["seed"] for line in ([] if version is None else results.of(version))}
    declared = (case for number in sorted(set(kept.values())) for case in declare(number))
    known = [case for case in declared if version is not None and key_of(case, version) in kept]
    return Random(f"recheck {version} {seed}").sample(known, min(count, len(known)))


def differs(line: Line, outcome: dict[str, Any]) -> list[str]:
    """What of a kept result is not what the case ends with now."""
    return [name for name in COMPARED if line.get(name, _NONE.get(name)) != outcome.get(name, _NONE.get(name))]


def note(results: Results, outcomes: Sequence[tuple[Case, dict[str, Any]]]) -> Line:
    """Keep which of these cases end otherwise with today's code."""
    version = version_rechecked(results)
    assert version is not None
    lines = {line["key"]: line for line in results.of(version)}
    found = {case.name: differs(lines[key_of(case, version)], outcome) for case, outcome in outcomes}
    line = {
        "recheck": code_version(),
        "of": version,
        "cases": len(found),
        "differ": {name: what for name, what in found.items() if what},
    }
    results.add_recheck(line)
    return line


def which_code(results: Results) -> str:
    """Which code the results are of, in a sentence; empty where all are of today's."""
    lines = results.counted()
    earlier = sum(line["version"] != code_version() for line in lines)
    if not earlier:
        return ""
    said = "These results were taken with earlier code."
    if earlier < len(lines):
        said = f"{earlier} of the {len(lines)} results were taken with earlier code."
    near = {*results.alike(results.current or "")}
    rechecks = [one for one in results.rechecks if near & {one["of"], one["recheck"]}]
    if not rechecks:
        return f"{said} No case was run again with later code."
    differ = {name: what for one in rechecks for name, what in one["differ"].items()}
    count = sum(one["cases"] for one in rechecks)
    later = "today's" if all(one["recheck"] == code_version() for one in rechecks) else "later"
    otherwise = "; ".join(f"{name}: {', '.join(what)}" for name, what in differ.items())
    return (
        f"{said} {count} of the cases, drawn at random, were run again with {later} code: {count - len(differ)} ended "
        "with the same outcome of every assertion, verdict, origin and recovery"
        f"{f'. These did not: {otherwise}' if otherwise else ''}."
    )
