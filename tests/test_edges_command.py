"""`circuit-assertions edges`: the table, the JSON, the assertion that confirms an edge, and errors in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from checkpoint_files import copy_of
from said import says
from tiny_models import save_tiny

from circuit_assertions.assertions import load_suite
from circuit_assertions.cli import main

SUITE = """
suite: where to look
tasks:
  sentences: {kind: ioi, prompts: 4, templates: ["Then, {first} and {second} had fun. {subject} said to"]}
assertions:
  - {id: answers, measure: logit-difference, task: sentences, expect: {at-least: -1000}}
"""


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grouped-query Llama. Not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("model") / "grouped", "llama")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(SUITE)
    return tmp_path / "mine.yaml"


def edges(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["edges", *map(str, arguments), "--device", "cpu"]) == 0
    return capsys.readouterr().out


def test_the_table_says_that_it_is_approximate_and_lists_the_strongest_edges_first(
    grouped: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = edges(capsys, "--model", grouped, "--task", f"{suite}::sentences", "--top", "7").splitlines()
    assert says(printed[0], grouped, "sentences", "4 prompts", "logits")
    assert says(printed[1], "approximate (EAP-IG, 5 steps)")
    heading = next(number for number, line in enumerate(printed) if line.startswith("sender"))
    rows = printed[heading + 1 : heading + 8]
    sizes = [abs(float(row.split()[-3])) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    # 16 senders; the embedding and the layers below reach 4 queries, 2 keys, 2 values and an MLP a layer; own heads
    # reach their MLP; all reach the logits.
    reaching = (1 + 6 + 11) * (4 + 2 + 2 + 1) + 3 * 4 + 16
    assert printed[-1].startswith(f"7 of {reaching} edges, ")


def test_one_step_is_eap(grouped: Path, suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = edges(capsys, "--model", grouped, "--task", suite, "--steps", "1", "--prompts", "2")
    assert says(printed, "2 prompts", "approximate (EAP)")


def test_the_suggested_assertion_is_valid_and_about_the_strongest_edge_that_can_be_measured(
    grouped: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = edges(capsys, "--model", grouped, "--task", suite, "--top", "200").splitlines()
    start = next(number for number, line in enumerate(printed) if line.startswith("  - {id"))
    suggested = "\n".join(printed[start : start + 2])
    suite.write_text(SUITE.rstrip() + "\n" + suggested + "\n")
    assertion = load_suite(suite).suite.assertions[1]
    assert assertion.measure == "path-effect"
    (said,) = yaml.safe_load(suggested)
    table = [re.split(r" {2,}", line) for line in printed if line.endswith(" %")]
    sender, receiver, at, score, _ = next(row for row in table if row[0] != "embedding" and row[1][:3] != "MLP")
    assert said["components"] == [sender]
    assert said["expect"]["sign"] == ("positive" if float(score) > 0 else "negative")
    received = said["receiver"]
    if received != "logits":
        ((which, heads),) = [item for item in received.items() if item[0] != "at"]
        assert received["at"] == at
        received = f"{which} of {', '.join(heads)}"
    assert received == receiver


def test_json_holds_the_same_and_the_settings(grouped: Path, suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = json.loads(edges(capsys, "--model", grouped, "--task", suite, "--top", "1000", "--json"))
    assert said["approximate"] is True
    assert said["steps"] == 5
    assert said["model"]["fingerprint"]
    assert len(said["edges"]) == said["edges_of_model"]
    assert sum(edge["share"] for edge in said["edges"]) == pytest.approx(1.0)
    assert set(said["edges"][0]) == {"sender", "receiver", "mostly_at", "score", "share"}
    keys = {edge["receiver"] for edge in said["edges"] if edge["receiver"].startswith("key of L0")}
    assert keys == {"key of L0H0, L0H1", "key of L0H2, L0H3"}
    to_logits = [edge for edge in said["edges"] if edge["receiver"] == "logits"]
    assert {edge["mostly_at"] for edge in to_logits if edge["score"]} == {"end"}


def test_what_is_wrong_is_said_in_one_line(
    grouped: Path, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loss = tmp_path / "loss.yaml"
    loss.write_text('kind: prompts\npairs: [{clean: "Then, Mary went to the", right: store}]\n')
    bare = copy_of(grouped, tmp_path / "bare", without="tokenizer.json")
    for arguments, named in (
        (["--model", grouped, "--task", "ioy"], ["task 'ioy'", "'ioi'"]),
        (["--model", grouped, "--task", f"{suite}::sentence"], [suite, "task 'sentence'", "'sentences'"]),
        (["--model", grouped, "--task", loss], ["edge-score", "counterfactual and wrong-answer"]),
        (["--model", tmp_path / "nowhere", "--task", suite], [tmp_path / "nowhere"]),
        (["--model", bare, "--task", suite], [bare, "tokenizer", "--tokenizer=path/"]),
    ):
        assert main(["edges", *map(str, arguments)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert says(printed.err, *named)
        assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(("option", "value"), [("--steps", "0"), ("--top", "none"), ("--prompts", "-1")])
def test_numbers_must_be_numbers(option: str, value: str, grouped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["edges", "--model", str(grouped), f"{option}={value}"])
    assert says(capsys.readouterr().err, option, repr(value))
