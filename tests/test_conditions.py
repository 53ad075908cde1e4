"""The conditions of `expect`: one class each, and others that a package offers by an entry point."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import Audited, repeated
from said import says
from suite_texts import write

from circuit_assertions import assertions
from circuit_assertions.assertions import Expectation
from circuit_assertions.assertions.registry import GROUP, read_registry, registry

ROOT = Path(__file__).parents[1]
ROOM = ROOT / "circuit_assertions"
KEYS = ["at-least", "at-most", "between", "sign", "mostly", "rank-within", "retains", "snapshot"]

# Two conditions as another package would write them: one by itself, one that needs a baseline.
PACKAGE = '''
from typing import ClassVar

import numpy as np

from circuit_assertions.assertions import Finding
from circuit_assertions.assertions.condition import Condition, place
from circuit_assertions.assertions.spelling import Number, Share
from circuit_assertions.measures.intervals import Interval


class SpreadAtMost(Condition[float]):
    """The standard deviation over prompts is at most a number."""

    key: ClassVar = "spread-at-most"
    value_type: ClassVar = Number
    description: ClassVar = "the standard deviation over prompts is at most this"

    def describe(self, beside=()):
        return f"a spread of at most {self.value:g}"

    def judge(self, evidence):
        squares = (evidence.values - evidence.values.mean()) ** 2
        low, high = np.sqrt(np.maximum(evidence.interval_of(squares), 0))
        read = f"spread {evidence.values.std():.3g}"
        return Finding(place(Interval(low, high), 0, self.value), self.describe(), read)

    def problems(self, use):
        if self.value < 0:
            yield (), "a spread is never negative: this can never hold"


class NearBaseline(Condition[float]):
    """The mean differs from the baseline's by a share of it at most."""

    key: ClassVar = "near-baseline"
    value_type: ClassVar = Share
    description: ClassVar = "the mean is within this share of the baseline's"
    needs_baseline: ClassVar = True

    def describe(self, beside=()):
        return f"within {self.value:.0%} of the baseline"

    def judge(self, evidence):
        room = self.value * abs(evidence.baseline.mean())
        return Finding(place(evidence.interval_of(evidence.values - evidence.baseline), -room, room), self.describe())
'''
ENTRY_POINTS = f"[{GROUP}]\nspread = spread_conditions:SpreadAtMost\nnear = spread_conditions:NearBaseline\n"
SUITE = """\
suite: spread
circuit: induction
tasks:
  again: {{kind: repeated-tokens, prompts: 32, length: 8}}
assertions:
  - {{id: holds, measure: loss, task: again, expect: {{spread-at-most: 1000, at-least: 0.01}}}}
  - {{id: breaks, measure: loss, task: again, expect: {{spread-at-most: 1e-9}}}}
  - {{id: open, measure: loss, task: again, expect: {{spread-at-most: {spread:.6g}}}}}
  - {{id: beside, measure: loss, task: again, expect: {{near-baseline: 10%}}}}
"""


def installed(folder: Path, entry_points: str, **modules: str) -> dict[str, str]:
    """An environment in which a package with these entry points and modules is installed."""
    files = {f"site/{name}.py": text for name, text in modules.items()}
    files["site/offered-1.0.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n"
    files["site/offered-1.0.dist-info/entry_points.txt"] = entry_points
    write(folder, files)
    return os.environ | {"PYTHONPATH": str(folder / "site")}


def run(env: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *args], env=env, capture_output=True, text=True, check=False)


# -- those of this package ---------------------------------------------------------------------------------------------


def test_each_module_of_the_folder_is_one_condition() -> None:
    modules = {file.stem for file in (ROOM / "assertions" / "conditions").glob("*.py")} - {"__init__"}
    assert {key.replace("-", "_") for key in KEYS} == modules
    assert list(read_registry(()).conditions) == KEYS
    assert registry().problems == ()


def test_the_schema_has_each_condition_with_its_description() -> None:
    properties = Expectation.model_json_schema(by_alias=True)["properties"]
    assert list(properties) == list(registry().conditions)
    for key, condition in registry().conditions.items():
        assert properties[key]["description"] == condition.description


def test_only_a_conditions_own_module_reads_its_value_from_an_expectation() -> None:
    """Elsewhere nobody asks an expectation for a condition by name, as in `expect.retains` or `expect.at_least`."""
    fields = {key.replace("-", "_") for key in registry().conditions}
    for file in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in fields:
                assert not re.search(r"expect", ast.unparse(node.value)), f"{file}:{node.lineno}"


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"between": [1, 2], "at-most": 0.5}, "between .*above at-most"),
        ({"between": [1, 2], "at-least": 3}, "at-least .*above between"),
    ],
)
def test_bounds_that_exclude_each_other_are_refused(given: dict[str, Any], refused: str) -> None:
    with pytest.raises(ValueError, match=refused):
        Expectation.model_validate(given)


def test_an_expectation_answers_for_its_conditions() -> None:
    """What callers ask instead of looking for a condition by its name."""
    low = Expectation.model_validate({"at-most": 3, "between": [1, 4], "retains": "80%", "rank-within": 2})
    assert (low.low_is_good, low.ranks, low.only_relative, low.is_empty) == (True, True, False, False)
    assert low.limits == (1, 3)
    left, lost = low.without_baseline()
    assert lost == ("retains 80% of the baseline (no --baseline was given)",)
    assert [one.key for one in left.conditions] == ["at-most", "between", "rank-within"]
    relative = Expectation.model_validate({"retains": "80%"})
    assert (relative.low_is_good, relative.ranks, relative.only_relative) == (False, False, True)
    assert relative.without_baseline()[0].is_empty


def test_what_a_modifier_has_lost_is_not_judged() -> None:
    """Of {at-least: proposed, mostly: 90%} nothing is left where no circuit file proposes a bound."""
    both = Expectation.model_validate({"at-least": "proposed", "mostly": "90%", "sign": "positive"})
    (bound, sign, _) = both.conditions
    assert [one.key for one in both.judged] == ["mostly"]
    assert says(both.in_words, "at least", "circuit file", "positive for 90% of prompts")
    left = both.with_value(bound, None)
    assert left.in_words == "positive for 90% of prompts"
    assert left.with_value(sign, None).is_empty
    assert left.with_value(sign, None).judged == ()


# -- those of other packages -------------------------------------------------------------------------------------------


@pytest.fixture
def spread(opened_once: None, tiny_folder: Path) -> float:
    """The spread of the tiny model's loss, which these prompts do not decide a bound of."""
    audited = Audited(tiny_folder)
    return float(np.std(audited.read("loss", repeated(prompts=32, length=8)).values))


@pytest.mark.complete
def test_a_condition_of_another_package_is_judged_in_a_suite_and_in_python(
    pytester: pytest.Pytester, tiny_folder: Path, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = installed(pytester.path, ENTRY_POINTS, spread_conditions=PACKAGE)
    task = "{'kind': 'repeated-tokens', 'prompts': 32, 'length': 8}"
    said = f"'loss', task={task}, spread_at_most=1000, near_baseline='5%'"
    expects = f"def test_spread(audit):\n    audit.expect({said})\n"
    write(pytester.path, {"suites/spread.yaml": SUITE.format(spread=spread), "tests/test_own.py": expects})
    monkeypatch.setenv("PYTHONPATH", env["PYTHONPATH"])
    given = (f"--model={tiny_folder}", f"--baseline={tiny_folder}", "--no-diagnosis")
    result = pytester.runpytest_subprocess(*given, "suites/spread.yaml", "tests/test_own.py")
    result.stdout.fnmatch_lines_random(
        [
            "  HELD       holds *, expected at least 0.01, a spread of at most 1000*",
            "  BROKEN     breaks *, expected a spread of at most 1e-09*",
            "  UNRESOLVED open *, expected a spread of at most *",
            "  HELD       beside *, expected within 10% of the baseline*",
            "  HELD       test_spread: loss *, expected within 5% of the baseline, a spread of at most 1000*",
            "  measured  * spread *",
            "GATE: FAIL (1 broken, *",
        ]
    )


@pytest.mark.complete
def test_a_condition_of_another_package_that_needs_a_baseline_is_skipped_without(
    pytester: pytest.Pytester, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = installed(pytester.path, ENTRY_POINTS, spread_conditions=PACKAGE)
    write(pytester.path, {"suites/spread.yaml": SUITE.format(spread=1)})
    monkeypatch.setenv("PYTHONPATH", env["PYTHONPATH"])
    alone = pytester.runpytest_subprocess(f"--model={tiny_folder}", "suites/spread.yaml::beside")
    alone.stdout.fnmatch_lines(["GATE: FAIL (nothing was judged, 1 skipped*"])


def test_a_condition_of_another_package_is_in_the_schema_and_its_mistakes_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = installed(tmp_path, ENTRY_POINTS, spread_conditions=PACKAGE)
    monkeypatch.chdir(tmp_path)
    wrong = SUITE.format(spread=-1).replace("10%", "110%").replace("spread-at-most: 1e-9", "spread-at-mst: 1")
    write(tmp_path, {"suites/spread.yaml": wrong})
    told = run(env, "circuit_assertions", "validate", "suites/spread.yaml")
    said = told.stdout + told.stderr
    assert re.search(r"spread.yaml:7:\d+: unknown key 'spread-at-mst' \(did you mean 'spread-at-most'\?\)", said)
    assert re.search(r"spread.yaml:8:\d+: a spread .*\bnegative\b", said)
    assert re.search(r"spread.yaml:9:\d+: '110%' .*\bwhole\b", said)
    schema = json.loads(run(env, "circuit_assertions", "schema").stdout)
    assert "spread-at-most" in schema["$defs"]["Expectation"]["properties"]


def test_the_package_may_be_imported_before_the_conditions_are_collected(tmp_path: Path) -> None:
    """As its own tests do: then the entry point is not loaded from a module that is half imported."""
    env = installed(tmp_path, ENTRY_POINTS, spread_conditions=PACKAGE)
    look = "from circuit_assertions.assertions.schema import condition_problems as told; print(told())"
    for first in ("import spread_conditions; ", ""):
        told = subprocess.run(
            [sys.executable, "-c", first + look], env=env, capture_output=True, text=True, check=False
        )
        assert told.stdout == "()\n", told.stderr


def test_every_name_of_the_package_can_be_imported() -> None:
    for name in assertions.__all__:
        assert getattr(assertions, name).__module__.startswith("circuit_assertions")
    with pytest.raises(AttributeError, match="has no attribute 'retains'"):
        assertions.retains  # noqa: B018


BROKEN_PACKAGES = {
    "missing": ("gone:Thing", "", ["ModuleNotFoundError", "'gone'"]),
    "no-class": ("offered_no:x", "x = 1", ["circuit_assertions.assertions.condition.Condition"]),
    "lacking": ("offered_lacking:X", "class X(Condition):\n    key = 'x'", ["value_type, description"]),
    "abstract": (
        "offered_abstract:X",
        "class X(Condition):\n    key, value_type, description = 'x', int, 'x'",
        ["describe, judge"],
    ),
    "key": (
        "offered_key:X",
        "class X(AtLeast):\n    key = 'Not a word'",
        ["'Not a word'", "kebab-case"],
    ),
    "own-key": ("offered_own:X", "class X(AtLeast):\n    pass", ["circuit-assertions", "'at-least'"]),
    "type": ("offered_type:X", "class X(AtLeast):\n    key, value_type = 'x', open", ["PydanticSchemaGenerationError"]),
}
IMPORTS = (
    "from circuit_assertions.assertions.condition import Condition\n"
    "from circuit_assertions.assertions.conditions.at_least import AtLeast\n"
)


@pytest.mark.parametrize("name", BROKEN_PACKAGES)
def test_a_condition_that_cannot_be_used_is_named_in_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, text, named = BROKEN_PACKAGES[name]
    if text:
        write(tmp_path, {f"{value.partition(':')[0]}.py": f"{IMPORTS}{text}\n"})
    monkeypatch.syspath_prepend(tmp_path)
    found = read_registry([EntryPoint(name, value, GROUP)])
    (problem,) = found.problems
    assert says(problem, value, *named)
    assert "\n" not in problem
    assert list(found.conditions) == KEYS


def test_a_key_that_two_packages_offer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is used: what a suite means must not depend on the order of installation."""
    same = f"{IMPORTS}class X(AtLeast):\n    key = 'above'\n"
    other = f"{IMPORTS}class X(AtLeast):\n    key = 'beyond'\n    order = 1\n"
    monkeypatch.syspath_prepend(write(tmp_path, {"offer_a.py": same, "offer_b.py": same, "offer_c.py": other}))
    found = read_registry([EntryPoint(name, f"offer_{name}:X", GROUP) for name in "cba"])
    (problem,) = found.problems
    assert says(problem, "condition 'above'", "offer_a:X", "offer_b:X")
    assert list(found.conditions) == ["beyond", *KEYS]


def test_every_suite_is_refused_beside_a_condition_that_cannot_be_used(tmp_path: Path) -> None:
    """And what it would have been called is no key; a condition with the key of an assertion is refused too."""
    twice = f"{IMPORTS}class X(AtLeast):\n    key = 'heads'\n"
    env = installed(tmp_path, f"[{GROUP}]\nlost = gone:Thing\nheads = offer_heads:X\n", offer_heads=twice)
    suite = "suite: x\ntasks:\n  ioi: {kind: ioi, prompts: 8}\nassertions:\n"
    suite += "  - {id: a, measure: loss, task: ioi, expect: {at-least: 1}}\n"
    write(tmp_path, {"x.yaml": suite})
    told = run(env, "circuit_assertions", "validate", str(tmp_path / "x.yaml"))
    assert told.returncode == 1
    said = told.stdout + told.stderr
    lines = [line for line in said.splitlines() if line.startswith(f"{tmp_path / 'x.yaml'}:1:1: ")]
    assert any(says(line, "condition 'lost'", "gone:Thing of offered", "ModuleNotFoundError") for line in lines), said
    assert any(says(line, "condition 'heads'", "an assertion", "key") for line in lines), said
    assert "Traceback" not in said
