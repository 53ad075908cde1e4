"""A kind of task is one file: of a package that names it under an entry point, used everywhere without another line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from auditing import HEALTHY
from boxes_model import boxes_tokenizer
from reference_model import word_tokenizer
from said import says
from suite_texts import write

from circuit_assertions.assertions import SuiteError, load_circuit, load_suite
from circuit_assertions.cli import main
from circuit_assertions.tasks import METRICS, TaskError, kinds, known_circuits, registry

# Who is meant: any of two names is right, any of two is wrong, and probabilities are compared.
KIND = '''
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from circuit_assertions.tasks import END, METRICS, Answers, IoiTask, Option, PromptSet, SeededTask


class WhoTask(SeededTask):
    """Who gets it, among several."""

    kind: Literal["who"]
    prompts: int = Field(32, ge=2, strict=True, description="how many prompts")
    seed: int = Field(0, ge=0, strict=True, description="which prompts")
    people: tuple[str, ...] = Field(("Mary", "John", "Tom", "Kate", "Anna", "Paul"), description="who there is")

    help: ClassVar[str] = "who gets it, among several"
    positions: ClassVar[Mapping[str, str]] = {"subject-2": "who gives it", END: "where the answer is read"}
    options: ClassVar[tuple[Option, ...]] = (Option("--people", "people", "who there is"),)
    offers: ClassVar[frozenset[str]] = frozenset({"answer", "wrong-answer", "positions", "counterfactual"})

    @property
    def answer_metric(self):
        return METRICS["probability-difference"]

    def make(self, tokenizer: Any) -> PromptSet:
        words = {"kind": "ioi", "prompts": self.prompts, "seed": self.seed, "names": self.people}
        asked = IoiTask.model_validate(words).build(tokenizer)
        nobody = tokenizer.convert_tokens_to_ids([".", ","])
        return PromptSet(
            tuple(
                replace(
                    prompt,
                    right=Answers((prompt.right.token, nobody[0]), (1.0, 0.5)),
                    wrong=Answers((prompt.wrong.token, nobody[1]), (1.0, 0.5)),
                    targets=tuple((prompt.positions[END], token) for token in (prompt.right.token, nobody[0])),
                )
                for prompt in asked.prompts
            ),
            {"kind": "who", "prompts": self.prompts, "seed": self.seed},
        )
'''

SUITE = """\
suite: who gets it
tasks:
  gifts: {kind: who, prompts: 48}
assertions:
  - {id: by-probability, measure: probability-difference, task: gifts, expect: {at-least: 0.2}}
  - {id: by-logits, measure: logit-difference, task: gifts, expect: {at-least: 0.5}}
  - {id: right, measure: answer-rate, task: gifts, expect: {at-least: 75%}}
  - {id: probable, measure: probability, task: gifts, expect: {at-least: 20%}}
  - {id: effect, measure: total-effect, heads: any, at: subject-2, task: gifts, expect: {at-least: 0.9}}
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, points: str) -> None:
    """Put a package with one module and these entry points where Python finds packages."""
    write(
        folder,
        {
            "who_kind.py": module,
            "who_kind-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: who-kind\nVersion: 1.0\n",
            "who_kind-1.0.dist-info/entry_points.txt": f"[circuit_assertions.tasks]\n{points}\n",
        },
    )
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(__import__("sys").modules, "who_kind", raising=False)


@pytest.fixture(autouse=True)
def looked_for_anew() -> Iterator[None]:
    """Kinds are looked for once in a process; here they change."""
    registry.forget()
    yield
    registry.forget()


@pytest.fixture
def who(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", monkeypatch, KIND, "who = who_kind:WhoTask")


def test_the_kinds_of_the_project_are_found_in_its_folder() -> None:
    assert list(kinds()) == ["ioi", "entity-tracking", "repeated-tokens", "prompts", "templates"]
    assert known_circuits() == ("ioi", "entity-tracking", "induction")
    for kind in kinds().values():
        assert kind.help
        assert kind.positions["end"]


@pytest.mark.parametrize("name", [name for name, kind in kinds().items() if kind.by_name])
def test_more_prompts_begin_with_the_same_ones_and_another_seed_gives_others(name: str) -> None:
    task = kinds()[name].model_validate({"kind": name, "prompts": 8})
    words = boxes_tokenizer() if name == "entity-tracking" else word_tokenizer()
    more, other = task.with_count(16), task.with_seed(1)
    assert more is not None
    assert other is not None
    assert (task.count, more.count, other.count) == (8, 16, 8)
    assert more.build(words).prompts[:8] == task.build(words).prompts
    assert other.build(words).token_hash != task.build(words).token_hash


@pytest.mark.usefixtures("who")
def test_a_kind_of_a_package_is_listed_and_its_prompts_are_shown(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tasks"]) == 0
    listed = capsys.readouterr().out
    help_of, key, *rest = listed[listed.index("who\n") :].splitlines()[1:]
    assert says(help_of, "who", "among several")
    assert says(key, "key", "prompts:")
    assert any(says(line, "position subject-2:", "who gives it") for line in rest)
    assert main(["show-task", "who", "--model", str(tiny_folder), "--most", "1"]) == 0
    shown = capsys.readouterr().out
    assert "metric probability-difference" in shown
    assert re.search(r"right / wrong   \w+, \. \(0\.5\) / \w+, , \(0\.5\)$", shown, re.MULTILINE)


@pytest.mark.usefixtures("who")
def test_a_suite_asks_a_kind_of_a_package(pytester: pytest.Pytester) -> None:
    write(pytester.path, {"suites/who.yaml": SUITE})
    result = pytester.runpytest_inprocess(f"--model={HEALTHY}", "-rA")
    result.assert_outcomes(passed=4, failed=1)
    # The one of the effect; its unit is that of the task's metric.
    assert any("prompts; unit: probability" in line for line in result.outlines)
    assert not any("logits" in line for line in result.outlines if "by-logits" not in line)


@pytest.mark.usefixtures("who")
def test_suites_are_checked_against_it(tmp_path: Path) -> None:
    write(tmp_path, {"who.yaml": SUITE.replace("at: subject-2", "at: subject-1")})
    with pytest.raises(SuiteError, match=r"'gifts' has no position 'subject-1' \(did you mean 'subject-2'\?\)"):
        load_suite(tmp_path / "who.yaml", unbound="allowed")
    write(tmp_path, {"who.yaml": SUITE.replace("kind: who,", "kind: whoo,")})
    with pytest.raises(SuiteError, match=r"unknown kind 'whoo' \(did you mean 'who'\?\)"):
        load_suite(tmp_path / "who.yaml", unbound="allowed")


@pytest.mark.usefixtures("who")
def test_the_schema_for_editors_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    mapping = schema["properties"]["tasks"]["additionalProperties"]["discriminator"]["mapping"]
    assert set(mapping) == {*kinds()} == {"entity-tracking", "ioi", "repeated-tokens", "who", "prompts", "templates"}
    assert "people" in schema["$defs"]["WhoTask"]["properties"]


@pytest.mark.usefixtures("who")
def test_a_circuit_is_discovered_by_it_in_its_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["--prompts", "24", "--people", "Mary,John,Tom,Kate,Anna,Paul,Lily,Tim", "--device", "cpu"]
    assert main(["discover", "--task", "who", "--model", str(HEALTHY), *few]) == 0
    said = capsys.readouterr().out
    assert "behaviour     probability difference 0." in said
    assert " probability " in next(line for line in said.splitlines() if "judged by" in line)
    file = tmp_path / "suites" / "circuits" / "healthy.who.yaml"
    assert "# Effects are in probability;" in file.read_text()
    found = load_circuit(file).found
    assert found is not None
    assert found.task["metric"] == "probability-difference"
    assert found.thresholds[0].measure == "probability-difference"
    assert re.search(r">effect [^<]* role, probability<", file.with_suffix(".svg").read_text())


BROKEN = {
    "who = who_kind:WhoTask": (
        "import nothing_like_it",
        ["task kind 'who'", "who_kind:WhoTask of who-kind", "ModuleNotFoundError"],
    ),
    "who = who_kind:NAME": ("NAME = 3", ["task kind 'who'", "who_kind:NAME of who-kind"]),
    "who = who_kind:Bare": (
        "from circuit_assertions.tasks import TaskKind\nclass Bare(TaskKind):\n    pass",
        ["who_kind:Bare of who-kind", "`kind: Literal[...]`"],
    ),
    "who = who_kind:Half": (
        "from typing import Literal\nfrom circuit_assertions.tasks import TaskKind\n"
        "class Half(TaskKind):\n    kind: Literal['half']",
        ["who_kind:Half of who-kind", "count, make, offers"],
    ),
    "ioi = who_kind:WhoTask": (
        KIND.replace('Literal["who"]', 'Literal["ioi"]'),
        ["'ioi'", "circuit_assertions.tasks.ioi", "who_kind:WhoTask of who-kind"],
    ),
}


@pytest.mark.parametrize("points", BROKEN)
def test_an_entry_point_that_is_broken_is_named_in_one_sentence(
    points: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, named = BROKEN[points]
    install(tmp_path / "site", monkeypatch, module, points)
    with pytest.raises(TaskError) as caught:
        kinds()
    assert says(caught.value, *named)
    assert main(["tasks"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("circuit-assertions: ")


def test_a_broken_entry_point_is_told_where_a_suite_is_collected(
    pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path
) -> None:
    install(tmp_path / "site", monkeypatch, "raise RuntimeError('half installed')", "who = who_kind:WhoTask")
    write(pytester.path, {"suites/who.yaml": SUITE})
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}")
    assert result.ret != 0
    told = ("task kind 'who'", "who-kind", "RuntimeError", "half installed")
    assert any(says(line, *told) for line in result.outlines + result.errlines)
    assert not any("Traceback" in line for line in result.outlines + result.errlines)


def test_metrics_have_their_measures() -> None:
    from circuit_assertions.measures import MEASURES

    for name, metric in METRICS.items():
        assert (MEASURES[name].unit, MEASURES[name].lowest) == (metric.unit, metric.lowest)
