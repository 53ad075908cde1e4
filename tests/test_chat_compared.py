"""An assertion in a chat template is judged without it too, and its result says so where the verdict is another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from chat_tokenizers import save_tiny_chat
from said import says
from suite_texts import write

from circuit_assertions.assertions import Judgement, Verdict, load_suite
from circuit_assertions.assertions.deciding import Readings
from circuit_assertions.assertions.expectation import Expectation
from circuit_assertions.assertions.planned import NotApplicable, PlannedAssertion
from circuit_assertions.assertions.runner import SuiteRunner
from circuit_assertions.assertions.without_chat import differing_without_chat
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening, find_checkpoints
from circuit_assertions.measures import Reading
from circuit_assertions.measures.figures import number
from circuit_assertions.request import Request
from circuit_assertions.results import AuditResult
from circuit_assertions.results.judged import judged as with_judgement
from circuit_assertions.results.judged import planned
from circuit_assertions.tasks import Task, TaskError

# L0H3 of the tiny model attends to its own position less, the more positions there are.
SUITE = """\
suite: in the assistant's turn
tasks:
  ioi: {kind: ioi, prompts: 64, chat: {user: Then}}
  quiet: {kind: ioi, prompts: 64, chat: {user: Then, compare: false}}
  plain: {kind: ioi, prompts: 64}
assertions:
  - {id: holds-in-chat, measure: attention, heads: [L0H3], query: end, key: end, task: ioi, expect: {at-most: 0.05}}
  - {id: breaks-in-chat, measure: attention, heads: [L0H3], query: end, key: end, task: ioi, expect: {at-least: 0.05}}
  - {id: agrees, measure: attention, heads: [L0H3], query: end, key: end, task: ioi, expect: {at-most: 0.9}}
  - {id: quiet, measure: attention, heads: [L0H3], query: end, key: end, task: quiet, expect: {at-most: 0.05}}
  - {id: plain, measure: attention, heads: [L0H3], query: end, key: end, task: plain, expect: {at-least: 0.05}}
"""
VERDICTS = {
    "holds-in-chat": ("HELD", "BROKEN"),
    "breaks-in-chat": ("BROKEN", "HELD"),
    "agrees": ("HELD", None),
    "quiet": ("HELD", None),
    "plain": ("HELD", None),
}


@pytest.fixture(scope="module")
def chat_folder(checkpoints_folder: Path) -> Path:
    """A random tiny model whose tokenizer has a chat template."""
    return save_tiny_chat(checkpoints_folder / "tiny-chat")


def cases_of(file: Path) -> dict[str, Any]:
    return {str(case.get("name")): case for case in ElementTree.parse(file).iter("testcase")}


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "2"), marks=[pytest.mark.slow, pytest.mark.complete])], ids=["alone", "workers"]
)
def test_the_terminal_json_and_junit_have_the_other_verdict(
    workers: tuple[str, ...], pytester: pytest.Pytester, chat_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(pytester.path, {"suites/chat.yaml": SUITE})
    given = (f"--model={chat_folder}", "--junitxml=out.xml", "--circuit-json=out.json", *workers)
    result = pytester.runpytest_inprocess(*given, "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=4, failed=1)
    audit = AuditResult.model_validate_json((pytester.path / "out.json").read_text())
    told = {
        one.id: (one.outcome, None if one.without_chat is None else one.without_chat.verdict)
        for one in audit.assertions
    }
    assert told == VERDICTS
    by_id = {one.id: one for one in audit.assertions}
    before, after = (by_id[name].without_chat for name in ("holds-in-chat", "breaks-in-chat"))
    assert before is not None
    assert after is not None
    assert before.row is not None
    assert after.row is not None
    assert before.row.figure == after.row.figure == by_id["plain"].rows[0].figure
    figure = before.row.figure
    # Below the assertion in the table, and in the failure.
    lines = [line for line in result.outlines if "chat template" in line]
    assert len(lines) == 3
    for line, other in zip(lines, ("HELD", "BROKEN", "HELD"), strict=True):
        assert says(line, other, "L0H3", number(figure.mean)), line
    table = result.outlines.index(lines[1])
    assert says(result.outlines[table - 1], "HELD", "holds-in-chat")
    assert says(result.outlines[table + 1], "BROKEN", "breaks-in-chat")
    cases = cases_of(pytester.path / "out.xml")
    for name, (_, verdict) in VERDICTS.items():
        properties = {one.get("name"): json.loads(one.get("value", "")) for one in cases[name].iter("property")}
        kept = properties["circuit_assertion"]["without_chat"]
        assert (kept and kept["verdict"]) == verdict
    assert says(cases["breaks-in-chat"].find("failure").text, "without the chat", "HELD")


def test_python_expectations_have_it_too(pytester: pytest.Pytester, chat_folder: Path) -> None:
    file = pytester.makepyfile(
        """
        def test_in_chat(audit):
            judged = audit.expect(
                "attention", task={"kind": "ioi", "prompts": 64, "chat": {"user": "Then"}}, heads=["L0H3"],
                query="end", key="end", at_most=0.05,
            )
            assert str(judged.without_chat.verdict) == "BROKEN"
        """
    )
    result = pytester.runpytest_inprocess(f"--model={chat_folder}", "-p", "no:hypothesispytest", file)
    result.assert_outcomes(passed=1)
    assert sum("chat template: BROKEN" in line for line in result.outlines) == 1


# -- which readings are taken -----------------------------------------------------------------------------------------

GROWS = """\
suite: in the assistant's turn, with prompts that grow
tasks:
  ioi: {kind: ioi, prompts: {start: 64, budget: 256}, chat: {user: Then}}
assertions:
  - {id: at-once, measure: attention, heads: [L0H3], query: end, key: end, task: ioi, expect: {at-most: 0.05}}
  - {id: never, measure: attention, heads: [L0H3], query: end, key: end, task: ioi, expect: {at-most: %s}}
"""


class Listening(Audit):
    """An audit that notes which tasks are read."""

    def read(self, request: Request, checkpoint: Checkpoint) -> Reading:
        self.__dict__.setdefault("asked", []).append((request.task, checkpoint))
        return super().read(request, checkpoint)


def judged_in(folder: Path, suite: str, tmp_path: Path, baseline: Path | None = None, **said: Any) -> Any:
    """The judgements of a suite's assertions, by id, and the prompts of which plain tasks were read, in order."""
    write(tmp_path, {"chat.yaml": suite})
    loaded = load_suite(tmp_path / "chat.yaml")
    (model,) = find_checkpoints(str(folder))
    other = None if baseline is None else find_checkpoints(str(baseline))[0]
    audit = Listening(Opening(device="cpu"), other)
    runner = SuiteRunner(audit, other, **said)
    asked = [PlannedAssertion(loaded, one, model, ()) for one in loaded.suite.assertions]
    runner.announce(asked)
    found: dict[str, Judgement | NotApplicable] = {one.assertion.id: runner.judge(one) for one in asked}
    plain = [(task.count, str(one)) for task, one in audit.__dict__["asked"] if task.chat is None]
    return found, plain


def test_the_prompts_are_read_again_at_the_look_of_the_verdict_alone(chat_folder: Path, tmp_path: Path) -> None:
    all_of_them = SUITE.replace("prompts: 64", "prompts: 256")
    at_the_bound = judged_in(chat_folder, all_of_them, tmp_path)[0]["holds-in-chat"].rows[0].mean
    suite = GROWS % at_the_bound
    found, plain = judged_in(chat_folder, suite, tmp_path, compares_chat=True)
    assert {name: one.reading.prompts for name, one in found.items()} == {"at-once": 64, "never": 256}
    assert {count for count, _ in plain} == {64, 256}
    assert found["at-once"].without_chat.reading.prompts == 64
    assert found["never"].verdict is Verdict.UNRESOLVED
    assert found["never"].without_chat.verdict is Verdict.BROKEN


def test_the_judgement_itself_stays_as_it_is(chat_folder: Path, tmp_path: Path) -> None:
    usual, plain = judged_in(chat_folder, SUITE, tmp_path)
    compared, more = judged_in(chat_folder, SUITE, tmp_path, compares_chat=True)
    assert len(plain) == 1  # that of the task without a template
    assert len(more) > 1
    for name, one in usual.items():
        assert one.without_chat is None
        other = compared[name]
        assert (other.verdict, other.rows, other.level, other.strata) == (one.verdict, one.rows, one.level, one.strata)
        assert (other.without_chat is None) == (VERDICTS[name][1] is None)


def test_a_baseline_is_read_without_the_template_too(chat_folder: Path, tmp_path: Path) -> None:
    suite = SUITE.replace("{at-most: 0.05}", "{at-most: 0.05, retains: 90%}")
    found, plain = judged_in(chat_folder, suite, tmp_path, chat_folder, compares_chat=True)
    assert found["holds-in-chat"].without_chat.rows[0].baseline == found["plain"].rows[0].mean
    assert found["holds-in-chat"].verdict is Verdict.HELD
    assert {one for _, one in plain} == {str(chat_folder)}


@pytest.mark.parametrize("command", [False, True])
def test_what_cannot_be_judged_without_the_template_is_no_error_of_the_assertion(
    command: bool, chat_folder: Path, tmp_path: Path
) -> None:
    write(tmp_path, {"chat.yaml": SUITE})
    loaded = load_suite(tmp_path / "chat.yaml")
    (model,) = find_checkpoints(str(chat_folder))
    asked = PlannedAssertion(loaded, loaded.suite.assertions[0], model, ())
    reading = Reading("attention", "share of attention", "value", np.full(32, 0.01) + np.arange(32) / 1e4)
    read = Readings(reading, Expectation.model_validate({"at-most": 0.05}), "mean")
    judgement = read.judged()
    assert judgement is not None

    def failing(task: Task) -> Readings | NotApplicable:
        if command:
            return NotApplicable("it does not apply")
        raise TaskError("no such prompts")

    found = differing_without_chat(asked, judgement, failing)
    if command:
        assert found is None
        return
    assert isinstance(found, TaskError)
    result = with_judgement(planned(asked, "x"), asked.assertion, replace(judgement, without_chat=found))
    assert result.outcome == "HELD"
    assert result.without_chat is not None
    assert (result.without_chat.verdict, result.without_chat.reason) == ("ERROR", "no such prompts")
