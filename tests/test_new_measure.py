"""A measure of another package: one file and an entry point, and suites, Python and the command line know it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from auditing import ioi
from pydantic import create_model
from said import says
from suite_texts import write

from circuit_assertions import offered
from circuit_assertions.assertions import Assertion
from circuit_assertions.assertions.taken_keys import taken_keys
from circuit_assertions.engine import Wanted
from circuit_assertions.measures import MEASURES, Measure
from circuit_assertions.measures.operands import Operands, spoken_of
from circuit_assertions.measures.registry import GROUP, Registry
from circuit_assertions.measures.validating import validate

NEW_MEASURE = '''\
"""How sharply a head attends from a position."""

from pydantic import Field

from circuit_assertions.measures.declaring import measure
from circuit_assertions.measures.operands import Operands, Position


class Sharp(Operands):
    query: Position = Field(description="the position attended from")
    first_keys: int = Field(0, ge=0, description="how many first positions are left out")


@measure(
    "sharpness",
    kind="head",
    operands=Sharp,
    unit="share of attention",
    help="the largest attention of the head from the position `query`",
    source="this test",
    needs=frozenset({"positions"}),
    relies_on=("patterns",),
    wants=("patterns",),
    lowest=0,
    highest=1,
)
def sharpness(taken, asked):
    import torch

    rows, query = torch.arange(len(taken.prompts)), taken.positions(asked.operands.query)
    picked = [taken.patterns[layer][rows, head, query] for layer, head in asked.components]
    return torch.stack([one[:, asked.operands.first_keys :].amax(dim=1) for one in picked], dim=1)
'''
ENTRY = f"[{GROUP}]\nsharpness = sharp_measure:sharpness\nunfinished = sharp_measure:blunt\n"
SUITE = """\
suite: sharpness
circuit: ioi
tasks:
  ioi: {kind: ioi, prompts: 48}
assertions:
  - {id: all-of-it, measure: sharpness, task: ioi, heads: [L0H0], query: end, expect: {at-least: 0.01}}
  - {id: later, measure: sharpness, task: ioi, heads: any, query: end, first-keys: 1, expect: {at-least: 0.01}}
"""
PYTHON = """\
import pytest

from circuit_assertions import CircuitAssertionsError


def test_it(audit):
    task = {"kind": "ioi", "prompts": 16}
    whole = audit.measure("sharpness", task=task, heads=["L0H0"], query="end")
    attention = audit.measure("attention", task=task, heads=["L0H0"], query="end", key="end")
    assert (whole.values >= attention.values).all()
    later = audit.measure("sharpness", task=task, heads=["L0H0"], query="end", first_keys=1)
    assert (whole.values >= later.values).all()
    assert audit.expect("sharpness", task=task, heads="any", query="end", first_keys=1, at_least=0.01) is not None
    with pytest.raises(CircuitAssertionsError, match="first-keys: -1 should be greater than or equal to 0"):
        audit.measure("sharpness", task=task, query="end", first_keys=-1)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "site/sharp_measure.py": NEW_MEASURE,
        "site/sharp_measure-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: sharp-measure\nVersion: 1.0\n",
        "site/sharp_measure-1.0.dist-info/entry_points.txt": ENTRY,
        "suites/sharp.yaml": SUITE,
        "tests/test_sharp.py": PYTHON,
    }
    return write(tmp_path, files)


def run(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in the project, with the other package installed."""
    environment = {**os.environ, "PYTHONPATH": str(project / "site"), "COLUMNS": "200"}
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.complete
@pytest.mark.slow
def test_one_file_adds_a_measure_to_suites_and_python(project: Path, tiny_folder: Path) -> None:
    finished = run(project, "-m", "pytest", f"--model={tiny_folder}", "-p", "no:cacheprovider", "suites", "tests", "-v")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "sharp.yaml::all-of-it PASSED" in finished.stdout
    assert "sharp.yaml::later PASSED" in finished.stdout
    assert "test_sharp.py::test_it PASSED" in finished.stdout


def test_one_file_adds_a_measure_to_the_command_line(project: Path) -> None:
    listed = run(project, "-m", "circuit_assertions", "measures").stdout
    heading, *rest = listed[listed.index("sharpness  (") :].splitlines()
    assert says(heading, "of heads", "share of attention")
    keys = next(line for line in rest if line.split()[:1] == ["keys"])
    assert says(keys, "query:", "first-keys:", "first positions", "0 by default")
    unusable = "measure 'unfinished'", "sharp-measure", "AttributeError"
    assert says(listed, *unusable)
    assert run(project, "-m", "circuit_assertions", "validate", "suites").returncode == 0
    assert '"first-keys"' in run(project, "-m", "circuit_assertions", "schema").stdout

    wrong = SUITE.replace("first-keys: 1", "first-keys: much").replace("query: end, expect", "qeury: end, expect")
    (project / "suites" / "sharp.yaml").write_text(wrong)
    told = run(project, "-m", "circuit_assertions", "validate", "suites").stdout
    assert "unknown key 'qeury' (did you mean 'query'?)" in told
    assert says(next(line for line in told.splitlines() if "'much'" in line), "valid integer")
    (project / "suites" / "sharp.yaml").write_text(SUITE.replace("measure: sharpness", "measure: unfinished"))
    assert says(run(project, "-m", "circuit_assertions", "validate", "suites").stdout, *unusable)


# -- the registry ------------------------------------------------------------------------------------------------------


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Entry points that are there instead of the installed ones."""
    listed: list[EntryPoint] = []

    def found(*, group: str) -> metadata.EntryPoints:
        assert group == GROUP
        return metadata.EntryPoints(listed)

    monkeypatch.setattr(offered, "entry_points", found)
    return listed


LOSS = "circuit_assertions.measures.kinds.behaviour:loss"


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("broken", "no_such_package:x", ["no_such_package", "ModuleNotFoundError"]),
        ("broken", "os:path", ["os:path of os", "`measure`"]),
        ("other", LOSS, [LOSS, "'loss'"]),
        ("loss", "os:path", ["circuit-assertions", "os"]),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_told_in_a_sentence_where_it_is_meant(
    entries: list[EntryPoint], name: str, value: str, named: list[str]
) -> None:
    entries.append(EntryPoint(name, value, GROUP))
    fresh = Registry()
    assert set(fresh) == set(MEASURES)
    assert says(fresh.problem_with(name), f"measure {name!r}", *named)
    assert "\n" not in fresh.problem_with(name)
    assert fresh.problem_with("answer-rate") == ""


class _Widths(Operands):
    width: int = 0


@pytest.mark.parametrize(("key", "owner"), taken_keys().items())
def test_an_operand_with_a_key_that_is_taken_refuses_its_measure_alone(
    key: str, owner: str, entries: list[EntryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {key.replace("-", "_"): (int, 0)}
    clashing = create_model("Clashing", __base__=_Widths, **fields)
    assert key in clashing.by_key()
    theirs = ModuleType("wide_measures")
    for name, operands in (("clashing", clashing), ("wide", _Widths)):
        setattr(theirs, name, replace(MEASURES["loss"], name=name, operands=operands))
    monkeypatch.setitem(sys.modules, "wide_measures", theirs)
    entries += [EntryPoint(name, f"wide_measures:{name}", GROUP) for name in ("clashing", "wide")]
    fresh = Registry()
    assert says(fresh.problem_with("clashing"), "measure 'clashing'", "wide_measures", f"operand {key!r}", owner)
    assert fresh.problem_with("wide") == ""
    assert set(fresh) == {*MEASURES, "wide"}


def test_a_name_that_two_other_packages_declare_is_refused(entries: list[EntryPoint]) -> None:
    entries += [EntryPoint("theirs", "one:theirs", GROUP), EntryPoint("theirs", "two:theirs", GROUP)]
    fresh = Registry()
    assert "theirs" not in fresh
    assert says(fresh.problem_with("theirs"), "measure 'theirs'", "one", "two")


def test_entry_points_are_looked_for_once_and_late(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def found(*, group: str) -> metadata.EntryPoints:
        looked.append(group)
        return metadata.EntryPoints()

    monkeypatch.setattr(offered, "entry_points", found)
    fresh = Registry()
    assert looked == []
    assert len(fresh) == len([*fresh]) > 0
    assert looked == [GROUP]


# -- declarations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda one: one.name)
def test_a_declaration_is_whole(measure: Measure) -> None:
    assert Wanted.of(measure.wants) != Wanted() or not measure.wants
    assert (measure.kind == "comparing") == bool(measure.compares) == (not measure.wants)
    assert (measure.kind == "set") == ("set" in measure.operands.by_key())
    for key, field in measure.operands.by_key().items():
        assert spoken_of(field).needed, key
        assert field.description or key == "set", key


def test_the_keys_of_suites_are_those_of_the_operand_models() -> None:
    keys = {key for one in MEASURES.values() if not one.approximate for key in one.operands.by_key()} - {"set"}
    own = {field.alias or name for name, field in Assertion.model_fields.items()} - {"operands"}
    assert {*Assertion.keys()} == keys | own
    assert not keys & set(taken_keys())


def test_torch_is_not_imported_to_know_the_measures() -> None:
    asked = (
        "import sys; from circuit_assertions.measures import MEASURES; print(len(MEASURES), 'torch' in sys.modules);"
        "from circuit_assertions.engine import MeasuringError; print('torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == [str(len(MEASURES)), "False", "False"]


# -- one check for everybody -------------------------------------------------------------------------------------------


def test_what_is_wrong_is_told_together_and_by_key() -> None:
    task = ioi(prompts=4)
    asked = {"semantics": "totl", "receiver": "logit", "at": "end", "direction": None}
    told = list(validate(MEASURES["path-effect"], task, asked, kinds=["residual"]))
    assert [where for where, _ in told] == [("components",), ("at",), ("receiver",), ("semantics",)]
    components, at, receiver, semantics = (problem for _, problem in told)
    assert says(components, "path-effect", "residual stream", "heads, MLPs")
    assert says(at, "path-effect", "`at`")
    assert says(receiver, "receiver 'logit'", "logits", "query:", "at:")
    assert says(semantics, "'totl'", "'total'")


def test_in_python_a_receiver_is_heads_by_then() -> None:
    receiver = {"query": "name-mover"}
    assert list(validate(MEASURES["path-effect"], ioi(prompts=4), {"receiver": receiver})) == []
    ((keys, message),) = validate(MEASURES["path-effect"], ioi(prompts=4), {"receiver": receiver}, bound=True)
    assert keys == ("receiver",)
    assert message.startswith("unknown receiver {'query': 'name-mover'}")
