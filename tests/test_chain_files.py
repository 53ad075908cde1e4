"""Chain files: every problem is told with its place, and each kind of stage is one class in one file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from said import says

from circuit_assertions.assertions import SuiteError, chains
from circuit_assertions.assertions.chains import COLOURS, chain_named, chains_beside, load_chain, stages
from circuit_assertions.assertions.chains.checks import chain_problems
from circuit_assertions.assertions.chains.schema import chain_without_roles
from circuit_assertions.cli import main
from circuit_assertions.places import packaged_suites
from circuit_assertions.report.svg import PALETTE
from circuit_assertions.tasks import kinds

GOOD = """\
chain: gifts
roles:
  writer: {short: W, colour: blue}
  blocker: {}
stages:
  - to: logits
    rules:
      - role: writer
        attends: {from: end, to: giver, more-than: [taker]}
        scores: {copy-score: 75%}
  - to: {queries-of: writer, at: end}
    rules:
      - {role: blocker, attends: {from: end, to: taker, at-least: 0.2}}
  - knocked-out: writer
"""


def problems(folder: Path, text: str) -> list[str]:
    """What is wrong with a chain, one `line:column: message` each."""
    file = folder / "x.yaml"
    file.write_text(text)
    with pytest.raises(SuiteError) as raised:
        load_chain(file)
    lines = str(raised.value).splitlines()
    assert all(line.startswith(f"{file}:") for line in lines)
    return [line.removeprefix(f"{file}:") for line in lines]


def test_a_chain_is_read_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(GOOD)
    chain = load_chain(tmp_path / "x.yaml")
    assert [stage.said() for stage in chain.stages] == [
        {"measure": "path-effect"},
        {"measure": "path-effect", "receiver": {"query": "writer", "at": "end"}},
        {"measure": "direct-effect", "without": "writer"},
    ]
    logits, queries, without = (stage.name for stage in chain.stages)
    assert logits == "logits"
    assert says(queries, "queries", "writer", "end")
    assert says(without, "writer", "knocked out")
    assert chain.positions == {"end", "giver", "taker"}
    assert (chain.shorts, chain.colours) == ({"writer": "W"}, {"writer": "blue"})
    (writer,) = chain.stages[0].rules
    assert [(one.measure, one.least, one.repeated) for one in writer.all_scores] == [("copy-score", 0.75, False)]
    assert (writer.attends.at_least, chain.stages[1].rules[0].attends.at_least) == (0.1, 0.2)


@pytest.mark.parametrize(
    ("was", "is_now", "told"),
    [
        ("chain: gifts", "chian: gifts", {"1:1": ["'chain'"], "1:1:": ["'chian'", "did you mean 'chain'?"]}),
        ("colour: blue", "colour: bleu", {"3:22": ["'bleu'", "'blue', 'orange',"]}),
        ("short: W", "short: LONG", {"3:12": ["'LONG'", 3]}),
        ("blocker: {}", "blocker: {short: W}", {"4:13": ["'W'", "writer"]}),
        ("blocker: {}", "blocker: {}\n  idle: {}", {"5:3": ["role 'idle'"]}),
        ("  writer:", "  any: {}\n  writer:", {"3:3": ["role 'any'"], "3:3:": ["'any'", "means"]}),
        ("to: logits", "to: logit", {"6:5": ["did you mean 'logits'?", "to: anywhere"]}),
        ("knocked-out: writer", "knocked_out: writer", {"14:5": ["to: anywhere", "to: {queries-of:"]}),
        ("queries-of: writer", "querys-of: writer", {"11:10": ["'querys-of'", "did you mean 'queries-of'?"]}),
        ("queries-of: writer", "at: end, keys-of: writer", {"11:36": ["'at'", "line 11"]}),
        (
            "queries-of: writer",
            "keys-of: writer, values-of: writer",
            {"11:5": ["queries-of, keys-of"]},
        ),
        ("queries-of: writer", "queries-of: writr", {"11:10": ["'writr'", "did you mean 'writer'?"]}),
        ("knocked-out: writer", "knocked-out: writr", {"14:5": ["'writr'", "did you mean 'writer'?"]}),
        ("queries-of: writer", "queries-of: blocker", {"11:10": ["'blocker'", "stage 2"]}),
        ("- role: writer", "- role: writr", {"3:3": ["role 'writer'"], "8:9": ["'writr'", "did you mean 'writer'?"]}),
        ("copy-score: 75%", "copy-scoer: 75%", {"10:18": ["'copy-scoer'", "did you mean 'copy-score'?"]}),
        ("copy-score: 75%", "attention: 75%", {"10:18": ["attention", "score"]}),
        ("copy-score: 75%", "total-effect: 75%", {"10:18": ["total-effect", "score"]}),  # which has a position too
        ("copy-score: 75%", "copy-score: 75", {"10:18": [75, "80%", 0.8]}),
        (
            "scores: {",
            "by-function-alone: true\n        sores: {",
            {"11:9": ["'sores'", "did you mean 'scores'?"]},
        ),
        ("        scores: {copy-score: 75%}", "        by-function-alone: true", {"10:9": ["score", "task's"]}),
        ("more-than: [taker]", "more-than: [giver]", {"9:41": ["giver"]}),
        ("attends: {from: end, to: taker, at-least: 0.2}", "sign: negative", {"13:9": ["'attends'"]}),
        ("knocked-out: writer", "to: logits", {"14:5": ["stage 1"]}),
        ("queries-of: writer", "queries-of: logits", {"12:5": ["queries of logits", "end"]}),
    ],
)
def test_a_problem_is_told_with_its_place(
    tmp_path: Path, was: str, is_now: str, told: Mapping[str, Sequence[object]]
) -> None:
    """Each place is told with what is wrong there; a second problem of one place has a colon more in its key."""
    assert was in GOOD
    lines = problems(tmp_path, GOOD.replace(was, is_now, 1))
    for place, named in told.items():
        assert any(line.startswith(f"{place.removesuffix(':')}: ") and says(line, *named) for line in lines), lines


def test_stages_in_the_wrong_order_cannot_make_a_cycle(tmp_path: Path) -> None:
    cycle = """\
chain: x
roles: {a: {}, b: {}}
stages:
  - to: {queries-of: b, at: end}
    rules: [{role: a, attends: {from: end, to: x}}]
  - to: {queries-of: a, at: end}
    rules: [{role: b, attends: {from: end, to: x}}]
"""
    (said,) = problems(tmp_path, cycle)
    assert said.startswith("4:10: ")
    assert says(said, "earlier stage", "'b'", "only stage 2")


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(GOOD)
    assert load_chain(file).name == "gifts"
    file.write_text(GOOD.replace("gifts", "presents"))
    assert load_chain(file).name == "presents"


def test_a_broken_chain_is_an_error_for_those_who_name_it(tmp_path: Path) -> None:
    (tmp_path / "chains").mkdir()
    (tmp_path / "chains" / "broken.yaml").write_text(GOOD.replace("to: logits", "to: logit").replace("gifts", "ioi"))
    with pytest.raises(SuiteError, match=r"the chain 'ioi' .*broken\.yaml .*: 6:5: "):
        chain_named("ioi", [tmp_path])
    assert chain_named("induction", [tmp_path]).name == "induction"
    with pytest.raises(SuiteError, match=r"unknown chain 'inducton' \(did you mean 'induction'\?\)"):
        chain_named("inducton", [tmp_path])


def test_the_default_without_roles_is_a_valid_chain() -> None:
    chain = chain_without_roles("own")
    assert list(chain_problems(chain)) == []
    assert chain.roles == {}
    assert [stage.said() for stage in chain.stages] == [
        {"measure": "path-effect"},
        {"measure": "path-effect", "receiver": {"query": "logits", "at": "end"}},
        {"measure": "total-effect"},
    ]
    logits, queries, anywhere = (stage.name for stage in chain.stages)
    assert logits == "logits"
    assert says(queries, "queries", "logits", "end")
    assert says(anywhere, "any path")


def test_the_packaged_chains_are_what_the_kinds_name_and_fit_them() -> None:
    packaged = {chain.name: chain for chain in chains_beside(own=packaged_suites()).read}
    for kind in kinds().values():
        if kind.circuit:
            task = kind.model_validate({"kind": next(name for name, one in kinds().items() if one is kind)})
            assert chains.unfit_for(packaged[kind.circuit], task, "it") == ""


def test_the_command_line_checks_chains_and_prints_their_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chains").mkdir()
    (tmp_path / "chains" / "own.yaml").write_text(GOOD)
    assert main(["validate", str(tmp_path)]) == 0
    (tmp_path / "chains" / "own.yaml").write_text(GOOD.replace("roles:", "rolls:", 1))
    assert main(["validate", str(tmp_path)]) == 1
    assert "own.yaml:2:1: unknown key 'rolls' (did you mean 'roles'?)" in capsys.readouterr().out
    assert main(["schema", "chain"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((packaged_suites() / "chains" / "chain.schema.json").read_text())
    assert set(printed["properties"]) == {"chain", "source", "roles", "stages"}


def modules_of_kinds() -> Iterator[ModuleType]:
    for kind in stages.KINDS:
        yield sys.modules[kind.__module__]


def test_each_kind_of_stage_has_a_file_of_its_own() -> None:
    folder = Path(stages.__file__).parent
    files = sorted(Path(str(module.__file__)) for module in modules_of_kinds())
    assert files == sorted(set(folder.glob("*.py")) - {folder / "__init__.py"})
    assert {kind.written.split(":")[0] for kind in stages.KINDS} == {"to", "knocked-out"}


def test_no_code_asks_for_the_kind_of_a_stage() -> None:
    names = [kind.__name__ for kind in stages.KINDS]
    package = Path(chains.__file__).parents[2]
    for file in package.rglob("*.py"):
        if file.parent != Path(stages.__file__).parent:
            assert not [name for name in names if name in file.read_text()], file


def test_every_colour_has_its_two_shades() -> None:
    assert tuple(PALETTE) == COLOURS


def test_chains_are_read_without_torch() -> None:
    code = "import sys; from circuit_assertions.assertions import chains; chains.chains_beside(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.split()
