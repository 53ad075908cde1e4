"""The results file of the benchmark of verdicts: one JSON object per line, keyed by the case and the code.

A line is written whole. What was cut off by a crash is left out when the file is read, and its case is run again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import circuit_assertions
from benchmarks.quality_cases import Case
from circuit_assertions.files import write_whole
from fixtures.shelf import ROOT

__all__ = ["OTHER_ROOMS", "RESULTS", "Line", "Results", "code_version", "key_of"]

RESULTS = Path(__file__).with_name("quality_results.jsonl")
_SHORT = 12
_ENOUGH = 20  # cases run again, by which results of other code are taken to hold
# Rooms of the package that no audit through pytest enters: a change there changes no result.
OTHER_ROOMS = ("cli", "hunting", "mutation", "planning", "sweeps", "trackers", "training")
RUN_WITH = ("ioi.yaml", "chains/ioi.yaml", "circuits/embedded.ioi.yaml")  # in the folder of suites

Line = dict[str, Any]


@cache
def code_version() -> str:
    """A hash of what an audit through pytest runs of the package, and of the suite and chain that it is run with."""
    package = Path(circuit_assertions.__file__).parent
    modules = (file for file in package.rglob("*.py") if file.relative_to(package).parts[0] not in OTHER_ROOMS)
    files = [*modules, *(ROOT / "suites" / name for name in RUN_WITH)]
    told = hashlib.sha256()
    for file in sorted(files):
        told.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return told.hexdigest()[:_SHORT]


def key_of(case: Case, version: str) -> str:
    """What a result depends on, as a short hash: everything that is declared of its case, and the code."""
    told = json.dumps([asdict(case), case.weights.name, version], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:_SHORT]


@dataclass
class Results:
    """The lines of a results file.

    Attributes:
        asked: the ids of the suite's assertions, by version; their outcomes are stored as letters in this order.
        rechecks: how cases of one version ended when they were run again with another.
    """

    file: Path
    lines: list[Line] = field(default_factory=list)
    asked: dict[str, list[str]] = field(default_factory=dict)
    rechecks: list[Line] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> Results:
        """The file's lines; none where there is no file yet. A last line that was cut off is taken out of the file."""
        found = cls(file)
        if not file.is_file():
            return found
        text = file.read_text(encoding="utf-8")
        whole, _, rest = text.rpartition("\n")
        for line in whole.splitlines():
            found._take(json.loads(line))
        if rest:
            write_whole(file, f"{whole}\n" if whole else "")
        return found

    def alike(self, version: str) -> tuple[str, ...]:
        """The versions whose results hold for this one as well, and it itself first.

        Two versions are alike where at least 20 cases of the one were run again with the other and all ended the same.
        """
        cases: dict[frozenset[str], int] = {}
        for line in self.rechecks:
            pair = frozenset((line["recheck"], line["of"]))
            cases[pair] = -1 if line["differ"] or cases.get(pair) == -1 else max(line["cases"], cases.get(pair, 0))
        same = [pair for pair, count in cases.items() if count >= _ENOUGH]
        found = [version]
        for one in found:  # grows meanwhile
            found += sorted({other for pair in same if one in pair for other in pair} - {*found})
        return tuple(found)

    @property
    def current(self) -> str | None:
        """The version that tables are of: today's, if it or one that is alike was run; else that of the last line."""
        run = {line["version"] for line in self.lines}
        return code_version() if run & {*self.alike(code_version())} else self.latest

    def counted(self) -> list[Line]:
        """The lines of the current version and of those that are alike, one a case: that of the nearest version."""
        if self.current is None:
            return []
        found: dict[tuple[int, str], Line] = {}
        for version in self.alike(self.current):
            for line in self.of(version):
                found.setdefault((line["seed"], line["case"]), line)
        return list(found.values())

    def done(self, version: str) -> set[str]:
        """The keys of the cases that were run with this code."""
        return {line["key"] for line in self.lines if line["version"] == version}

    def has(self, case: Case, version: str) -> bool:
        """Whether a case was run with this code, or with code that is alike."""
        return any(key_of(case, one) in self.done(one) for one in self.alike(version))

    def of(self, version: str) -> list[Line]:
        """The lines of one version of the code, in the order in which they came."""
        return [line for line in self.lines if line["version"] == version]

    @property
    def latest(self) -> str | None:
        """The version of the last line."""
        return self.lines[-1]["version"] if self.lines else None

    def add(self, case: Case, seed: int, version: str, outcome: dict[str, Any]) -> Line:
        """Append the outcome of a case."""
        asked = outcome.pop("asked", None)
        if asked is not None and version not in self.asked:
            self._append({"version": version, "asked": asked})
        line = {"case": case.name, "seed": seed, "key": key_of(case, version), "version": version, **outcome}
        self._append(line)
        return line

    def add_recheck(self, line: Line) -> None:
        """Append how cases ended when they were run again (benchmarks.quality_recheck)."""
        self._append(line)

    def keep(self, versions: Iterable[str]) -> None:
        """Take the lines of all other versions out of the file."""
        kept = set(versions)
        self.lines = [line for line in self.lines if line["version"] in kept]
        self.asked = {version: asked for version, asked in self.asked.items() if version in kept}
        self.rechecks = [line for line in self.rechecks if line["of"] in kept]
        headings = [{"version": version, "asked": asked} for version, asked in self.asked.items()]
        write_whole(self.file, "".join(_text(line) for line in (*headings, *self.lines, *self.rechecks)))

    def _take(self, line: Line) -> None:
        if "asked" in line:
            self.asked[line["version"]] = line["asked"]
        elif "recheck" in line:
            self.rechecks.append(line)
        else:
            self.lines.append(line)

    def _append(self, line: Line) -> None:
        self._take(line)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab", buffering=0) as stream:
            stream.write(_text(line).encode())
            os.fsync(stream.fileno())


def _text(line: Line) -> str:
    return json.dumps(line, separators=(",", ":")) + "\n"
