"""Every value that an error message suggests is accepted in the place of the one that was refused."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from suite_texts import write

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import Circuit, SuiteError, load_circuit, load_suite
from circuit_assertions.assertions.chains import chains_beside
from circuit_assertions.assertions.packaged import circuits_beside, packaged_suites
from circuit_assertions.assertions.schema import Assertion, Expectation, Suite
from circuit_assertions.assertions.task_lookup import find_task
from circuit_assertions.checkpoints import CheckpointError, DeviceError, find_checkpoints
from circuit_assertions.checkpoints.devices import choose_device
from circuit_assertions.cli import main
from circuit_assertions.cli.searching import share
from circuit_assertions.components import parse_component, parse_part
from circuit_assertions.engine.memory import _amount
from circuit_assertions.heads import parse_head
from circuit_assertions.measures import MEASURES
from circuit_assertions.plugin.options import _DTYPES
from circuit_assertions.plugin.short_options import PLAIN

MEANT = re.compile(r"\(did you mean (.+?)\?\)")
CHOICES = re.compile(r"\(one of ([^()]+)\)")


@functools.cache
def packaged_circuits() -> tuple[Circuit, ...]:
    return circuits_beside(packaged_suites())


def misspelt(word: str) -> Iterator[str]:
    """Ways in which a word is mistyped."""
    middle = len(word) // 2
    yield word[:middle] + word[middle + 1 :]
    yield f"{word}x"
    yield word[:-1]
    yield word[0] + word[2:3] + word[1:2] + word[3:]


def suggested(message: str) -> list[str]:
    """The words that a message offers."""
    found = [word.strip("'\"") for word in MEANT.findall(message)]
    return found or [word for words in CHOICES.findall(message) for word in words.split(", ")]


def valid_suite() -> dict[str, Any]:
    heads = {"measure": "path-effect", "heads": "name-mover", "task": "ioi", "quantifier": "any"}
    words = {"receiver": "logits", "semantics": "direct", "direction": "clean-into-counterfactual"}
    expect = {"at-least": 0, "sign": "positive"}
    return {
        "suite": "x",
        "circuit": "ioi",
        "tasks": {"ioi": {"kind": "ioi", "prompts": 64}, "again": {"kind": "repeated-tokens", "bos": "never"}},
        "assertions": [
            {"id": "a"} | heads | words | {"expect": expect},
            {"id": "b", "measure": "attention", "heads": "any", "task": "ioi", "query": "end"}
            | {"key": "indirect-object", "expect": {"at-most": 0.9}},
            {"id": "c", "measure": "incompleteness", "heads": "circuit", "task": "ioi", "ablation": "mean"}
            | {"search": "greedy", "expect": {"at-most": 1}},
            {"id": "d", "measure": "circuit-performance-ratio", "task": "ioi", "ranked-by": "path-effect"}
            | {"expect": {"at-least": 0}},
            {
                "id": "e",
                "measure": "direct-effect",
                "heads": "backup-name-mover",
                "without": "name-mover",
                "task": "ioi",
            }
            | {"expect": {"sign": "positive"}},
            {"id": "f", "measure": "write-effect", "heads": "s-inhibition", "receiver": {"query": "name-mover"}}
            | {"task": "ioi", "expect": {"sign": "positive"}},
        ],
    }


def messages_of(tmp_path: Path, values: Any) -> list[str]:
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    try:
        load_suite(file, packaged_circuits())
    except SuiteError as error:
        return [str(line) for line in error.args]
    return []


Place = tuple[Any, ...]


def put(values: Any, place: Place, value: Any, key: bool = False) -> Any:
    """A suite with another value, or another key, in one place."""
    *way, last = place
    inner = values
    for part in way:
        inner = inner[part]
    if key:
        items = [(value if name == last else name, old) for name, old in inner.items()]
        inner.clear()
        inner.update(items)
    else:
        inner[last] = value
    return values


ROLES = tuple(chains_beside().roles)
POSITIONS = ("subject-1", "after-subject-1", "subject-2", "indirect-object", "end")
# Where a word of a suite stands, and the words that may stand there.
WORDS: list[tuple[Place, tuple[str, ...]]] = [
    (
        ("assertions", 0, "measure"),
        tuple(
            name for name, spec in MEASURES.items() if spec.operands.defaults().get("receiver") and not spec.approximate
        ),
    ),
    (("assertions", 1, "measure"), ("attention",)),
    (("assertions", 0, "heads"), ROLES),
    (("assertions", 4, "without"), ROLES),
    (("assertions", 5, "receiver", "query"), ROLES),
    (("assertions", 0, "task"), ("ioi",)),
    (("assertions", 0, "semantics"), ("through-mlps", "direct", "total")),
    (("assertions", 0, "direction"), ("counterfactual-into-clean", "clean-into-counterfactual")),
    (("assertions", 0, "quantifier"), ("each", "any", "mean")),
    (("assertions", 0, "expect", "sign"), ("positive", "negative")),
    (("assertions", 1, "query"), POSITIONS),
    (("assertions", 1, "key"), POSITIONS),
    (("assertions", 2, "ablation"), ("mean", "resample", "zero")),
    (("assertions", 2, "search"), ("greedy", "random")),
    (("assertions", 3, "ranked-by"), ("path-effect", "total-effect")),
    (("tasks", "again", "kind"), ("repeated-tokens",)),
    (("tasks", "ioi", "kind"), ("ioi",)),
    (("tasks", "again", "bos"), ("tokenizer", "always", "never")),
]


def cases() -> Iterator[Any]:
    """Every word mistyped in every way; the normal run has one way for each word, another one for the next."""
    words = [(place, word, known) for place, known in WORDS for word in known]
    for number, (place, word, known) in enumerate(words):
        ways = [wrong for wrong in misspelt(word) if wrong not in known]
        for way, wrong in enumerate(ways):
            yield pytest.param(place, wrong, marks=() if way == number % len(ways) else pytest.mark.complete)


@pytest.mark.parametrize(("place", "wrong"), [*cases()], ids=lambda part: part if isinstance(part, str) else None)
def test_a_word_that_is_suggested_in_a_suite_is_accepted(tmp_path: Path, place: Place, wrong: str) -> None:
    messages = messages_of(tmp_path, put(valid_suite(), place, wrong))
    assert len(messages) == 1
    words = suggested(messages[0]) or re.findall(r"'([a-z-]+)'", messages[0].partition(f"{wrong!r}: ")[2])
    for word in words:
        assert messages_of(tmp_path, put(valid_suite(), place, word)) == [], word


def test_the_suite_that_words_are_put_into_is_valid(tmp_path: Path) -> None:
    assert messages_of(tmp_path, valid_suite()) == []


KEYS: list[tuple[Place, list[str]]] = [
    (("suite",), list(Suite.model_fields)),
    (("assertions", 1, "query"), Assertion.keys()),
    (("assertions", 0, "expect", "at-least"), list(Expectation.model_fields)),
    (("tasks", "ioi", "prompts"), ["prompts", "seed", "names", "places", "objects", "templates", "bos"]),
    (("assertions", 5, "receiver", "query"), ["query", "key", "value", "at"]),
]


@pytest.mark.sample(3)
@pytest.mark.parametrize(("place", "known"), KEYS, ids=lambda part: str(part[-1]) if isinstance(part, tuple) else None)
def test_a_key_that_is_suggested_is_known(tmp_path: Path, place: Place, known: list[str]) -> None:
    for name in known:
        for wrong in misspelt(name.replace("_", "-")):
            for message in messages_of(tmp_path, put(valid_suite(), place, wrong, key=True)):
                if "unknown key" in message:
                    for word in suggested(message):
                        again = messages_of(tmp_path, put(valid_suite(), place, word, key=True))
                        assert not any("unknown key" in line for line in again), (wrong, word)


def test_measures_that_a_suite_may_not_name_are_not_suggested(tmp_path: Path) -> None:
    for name in MEASURES:
        for wrong in misspelt(name):
            for message in messages_of(tmp_path, put(valid_suite(), ("assertions", 1, "measure"), wrong)):
                for word in suggested(message):
                    assert not MEASURES[word].approximate


# Values that are no words: what is refused, what the message names, and the place.
VALUES: list[tuple[Place, Any, list[Any]]] = [
    (("assertions", 0, "heads"), 9.1, ["L9H10", [9, 10]]),
    (("assertions", 0, "heads"), "L9H", []),
    (("assertions", 0, "heads"), 5, ["name-mover", "any", ["L9H9", "L10H0"]]),
    (("assertions", 0, "heads"), [], ["name-mover", "any", ["L9H9", "L10H0"]]),
    (("assertions", 0, "heads"), [9.1], [["L9H10"], [[9, 10]]]),
    (("assertions", 4, "without"), 5, ["name-mover", ["L9H9", "L10H0"]]),
    (("assertions", 4, "without"), "any", ["name-mover", ["L9H9", "L10H0"], [9, 10]]),
    (("assertions", 5, "receiver", "query"), "all", ["name-mover", ["L9H9", "L10H0"], [9, 10]]),
    (("assertions", 0, "receiver"), "logit", ["logits", {"query": "name-mover", "at": "end"}]),
    (("assertions", 0, "receiver"), {"at": "end"}, [{"query": "name-mover", "at": "end"}]),
    (("assertions", 5, "receiver"), "logits", [{"query": "name-mover"}]),
    (("assertions", 0, "expect"), {"retains": "much"}, [{"retains": "80%"}, {"retains": 0.8}]),
    (("assertions", 0, "expect"), {"between": [3, 1]}, [{"between": [1, 3]}]),
    (("assertions", 0, "expect"), {"between": [1, 1]}, [{"at-least": 1}, {"at-most": 1}]),
    (("assertions", 0, "expect"), {}, [{"at-least": 0}, {"at-most": 0}, {"between": [0, 1]}, {"sign": "positive"}]),
    (("assertions", 0, "expect"), {}, [{"rank-within": 1}, {"retains": "80%"}]),
    (("assertions", 0, "expect"), {"mostly": "90%"}, [{"mostly": "90%", "at-least": 0}]),
    (("tasks", "ioi", "kind"), 5, ["ioi"]),
]


@pytest.mark.parametrize(("place", "wrong", "right"), VALUES)
def test_a_value_that_is_suggested_in_a_suite_is_accepted(
    tmp_path: Path, place: Place, wrong: Any, right: list[Any]
) -> None:
    assert messages_of(tmp_path, put(valid_suite(), place, wrong))
    for value in right:
        assert messages_of(tmp_path, put(valid_suite(), place, value)) == [], value


@pytest.mark.parametrize("heads", [[9, 10], "[L9H9, L10H0]", ["L9H10"], [[9, 10]]])
def test_heads_of_a_circuit_file_may_be_spelled_as_messages_say(tmp_path: Path, heads: Any) -> None:
    text = "circuit: ioi\nfits: {architecture: A, layers: 12, heads: 12, d_model: 8}\n"
    write(tmp_path, {"a.yaml": f"{text}roles: {{x: {heads}}}\n"})
    load_circuit(tmp_path / "a.yaml")


@pytest.mark.family(main="wrong", turns=("parse",))
@pytest.mark.parametrize("parse", [parse_head, parse_component, parse_part])
@pytest.mark.parametrize("wrong", ["L9", "H9", "l9h10", "mpl4", "MLP", "NORMS3", "EMBEDDING", "RESD2", "9.10"])
def test_components_that_are_suggested_are_accepted(parse: Callable[[str], object], wrong: str) -> None:
    with pytest.raises(CircuitAssertionsError) as raised:
        parse(wrong)
    said = str(raised.value)
    written = re.findall(r"\b(?:L\d+H\d+|MLP\d+|RESID\d+|NORM\d+|UNEMBED|EMBED)\b", said.partition("write ")[2])
    assert written
    for name in (*suggested(said), *written):
        parse(name)


@pytest.mark.parametrize("wrong", ["toaster", "cuda:77", "meta", "mps", "cpu:x"])
def test_devices_that_are_suggested_are_accepted(wrong: str) -> None:
    import torch

    try:
        choose_device(wrong)
    except DeviceError as error:
        offered = re.findall(r"auto|cpu", str(error).partition("; use " if "; use" in str(error) else "use ")[2])
        assert {"auto", "cpu"} <= set(offered)
        for name in offered:
            assert isinstance(choose_device(name), torch.device)


@pytest.mark.parametrize("text", ["2%", "0.02"])
def test_shares_that_are_suggested_are_accepted(text: str) -> None:
    with pytest.raises(Exception, match=rf"write it as .*{re.escape(text)}"):
        share("much")
    assert share(text) == pytest.approx(0.02)


def test_amounts_of_memory_that_are_suggested_are_accepted() -> None:
    with pytest.raises(CircuitAssertionsError) as raised:
        _amount("much")
    for text in re.findall(r"[\d.]+[GMi]+B", str(raised.value)):
        assert _amount(text) > 0


@pytest.mark.parametrize("wrong", ["ioy", "promts", "prompts", "repeated-token", "repeat", "suites/no.yaml"])
def test_tasks_that_are_suggested_are_accepted(wrong: str) -> None:
    with pytest.raises(SuiteError) as raised:
        find_task(wrong)
    for word in (*suggested(str(raised.value)), "ioi", "repeated-tokens"):
        find_task(word)


def test_a_task_of_a_suite_that_is_suggested_is_accepted() -> None:
    suite = packaged_suites() / "ioi.yaml"
    for wrong in misspelt("ioi"):
        with pytest.raises(SuiteError) as raised:
            find_task(f"{suite}::{wrong}")
        for word in suggested(str(raised.value)):
            find_task(f"{suite}::{word}")


@pytest.mark.parametrize("wrong", ["modls/healty", "models/healty", "modls/healthy", "./modls/healthy", "moodels"])
def test_a_folder_that_is_suggested_holds_a_checkpoint(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "healthy").symlink_to(tiny_folder)
    (tmp_path / "models" / "healty.bak").mkdir()
    (tmp_path / "modles").mkdir()
    try:
        find_checkpoints(wrong)
    except CheckpointError as error:
        for path in suggested(str(error)):
            assert find_checkpoints(path)


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--model-dtype", "--circuit-dtype"])
@pytest.mark.usefixtures("opened_once")
def test_dtypes_that_are_suggested_are_accepted(pytester: pytest.Pytester, tiny_folder: Path, option: str) -> None:
    write(pytester.path, {"suites/x.yaml": yaml.safe_dump(valid_suite())})
    refused = pytester.runpytest_inprocess(f"--model={tiny_folder}", f"{option}=int8", "--collect-only")
    words = refused.stderr.str().partition("use one of ")[2].strip().split(", ")
    assert tuple(words) == _DTYPES
    for word in words:
        accepted = pytester.runpytest_inprocess(f"--model={tiny_folder}", f"{option}={word}", "--collect-only", "-q")
        assert accepted.ret == 0
        for ini in ("circuit_dtype",):
            asked = [f"--model={tiny_folder}", "-o", f"{ini}={word}", "--collect-only", "-q"]
            assert pytester.runpytest_inprocess(*asked).ret == 0


def test_what_the_key_of_unresolved_may_be_is_accepted(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    write(pytester.path, {"suites/x.yaml": yaml.safe_dump(valid_suite())})
    asked = [f"--model={tiny_folder}", "--collect-only", "-q"]
    refused = pytester.runpytest_inprocess(*asked, "-o", "circuit_unresolved=maybe")
    words = re.findall(r"report|fail", refused.stderr.str().partition("use ")[2])
    assert words == ["report", "fail"]
    for word in words:
        assert pytester.runpytest_inprocess(*asked, "-o", f"circuit_unresolved={word}").ret == 0
        assert pytester.runpytest_inprocess(*asked, f"--circuit-unresolved={word}").ret == 0


# Options that messages name, whatever runs: under pytest and by the verbs that open a checkpoint.
NAMED = ("--tokenizer", "--baseline", "--allow-pickle", "--trust-remote-code", "--model-device", "--model-dtype")
OPENING = ("discover", "edges", "diagnose", "trajectory")


@pytest.mark.family(main="option", whole=("--baseline",), turns=("verb",))
@pytest.mark.parametrize("option", NAMED)
@pytest.mark.parametrize("verb", OPENING)
def test_options_that_messages_name_are_known_to_every_verb_that_opens_a_checkpoint(
    capsys: pytest.CaptureFixture[str], option: str, verb: str
) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    assert re.search(rf"{option}\b", capsys.readouterr().out)
    assert option in PLAIN


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize("in_python", [True, False])
def test_the_command_that_finds_missing_roles_can_be_run(
    pytester: pytest.Pytester, tiny_folder: Path, in_python: bool
) -> None:
    suite = valid_suite() | {"circuit": "ours"}
    files = {"suites/x.yaml": yaml.safe_dump(suite, sort_keys=False), "suites/circuits/y.yaml": OURS}
    said = "'copy-score', task='ioi', circuit='ours', heads='induction', at_least=0.1"
    test = f"def test_it(audit):\n    audit.expect({said})\n"
    write(pytester.path, files | ({"suites/test_it.py": test} if in_python else {}))
    asked = ["suites/test_it.py"] if in_python else ["suites/x.yaml", "-k", "a"]
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", *asked, "-rs")
    command = re.search(r"`(circuit-assertions discover .*?)`", " ".join(result.stdout.str().split()))
    assert command is not None, result.stdout.str()
    task = shlex.split(command[1])[shlex.split(command[1]).index("--task") + 1]
    assert find_task(task)[1].kind == "ioi"


OURS = "circuit: ours\nfits: {architecture: A, layers: 1, heads: 1, d_model: 1}\nroles: {induction: [L0H0]}\n"
