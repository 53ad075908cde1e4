"""What nobody foresaw is told in one sentence, once; where it was raised is shown where that is asked for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from said import says
from suite_texts import TINY_SUITE, write

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.cli import main
from circuit_assertions.unexpected import TRACEBACK, UnexpectedError, sentence_of, tell_unexpected
from circuit_assertions.verdict_words import Outcome

pytestmark = pytest.mark.usefixtures("opened_once", "opened_anew")


class OddError(Exception):
    """An error of some library."""


ERRORS: tuple[Exception, ...] = (
    AttributeError("'Block' object has no attribute 'ln1'"),
    RuntimeError("shapes cannot be multiplied\n(3x4 and 5x6)\n" + "at some place\n" * 300),
    KeyError("transformer.h.0"),
    IndexError(),
    OddError("x" * 2000),
    MemoryError(),
    RecursionError("maximum recursion depth exceeded"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ZeroDivisionError("division by zero"),
)

# Where it is raised: while a checkpoint is opened, while prompts are made, in a pass, in one measure, and while judged.
PLACES = {
    "opening": "circuit_assertions.checkpoints.opening.read_weights",
    "wrapping": "circuit_assertions.engine.Model.of",
    "prompts": "circuit_assertions.tasks.repeated.RepeatedTokensTask.build",
    "a pass": "circuit_assertions.engine.PassCache.run",
    "a measure": "circuit_assertions.measures.reading_builder.without",
    "judging": "circuit_assertions.assertions.deciding.judge",
}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, BaseException], None]:
    def let_fail(place: str, error: BaseException) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(PLACES[place], fail)

    return let_fail


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    return write(pytester.path, {"suites/tiny.yaml": TINY_SUITE, "pytest.ini": "[pytest]\nmarkers = gate\n"})


@pytest.mark.family(main="place", turns=("error",))
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", [place for place in PLACES if place != "a measure"])
@pytest.mark.usefixtures("project")
def test_an_audit_says_it_once_and_points_to_it_from_then_on(
    pytester: pytest.Pytester,
    failing: Callable[[str, BaseException], None],
    tiny_folder: Path,
    place: str,
    error: Exception,
) -> None:
    failing(place, error)
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "-k", "not against and not by-role")
    text = result.stdout.str()
    result.assert_outcomes(errors=3, deselected=2)
    assert result.ret == 1
    assert "Traceback" not in text
    assert len(text.splitlines()) < 40, text
    said = [line for line in text.splitlines() if type(error).__name__ in line]
    assert len(re.findall(r"\(as above\) .*suites/tiny\.yaml::holds", text)) >= 2
    assert says(said[0], f"{TRACEBACK}=1", tiny_folder)
    assert sum(line.startswith(f"3 {Outcome.ERROR.said}: ") for line in text.splitlines()) == 1, text


@pytest.mark.usefixtures("project")
def test_an_interrupt_passes_through(
    pytester: pytest.Pytester, failing: Callable[[str, BaseException], None], tiny_folder: Path
) -> None:
    failing("a pass", KeyboardInterrupt())
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED


@pytest.mark.usefixtures("project")
def test_the_place_is_shown_where_it_is_asked_for(
    pytester: pytest.Pytester,
    failing: Callable[[str, BaseException], None],
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing("a pass", ERRORS[0])
    monkeypatch.setenv(TRACEBACK, "1")
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "-k", "holds")
    said = f"AttributeError: {ERRORS[0]}"
    result.stdout.fnmatch_lines(["*raise error", f"E * {said}", f"1 {Outcome.ERROR.said}: {said}"])
    with pytest.raises(AttributeError), tell_unexpected("x"):
        raise ERRORS[0]
    monkeypatch.setenv(TRACEBACK, "0")
    with pytest.raises(UnexpectedError), tell_unexpected("x"):
        raise ERRORS[0]


@pytest.mark.usefixtures("project")
def test_one_measure_that_fails_takes_no_other_with_it(
    pytester: pytest.Pytester, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise ERRORS[0]

    monkeypatch.setattr("circuit_assertions.measures.kinds.attention._mean_attention_back", fail)
    result = pytester.runpytest_inprocess(f"--model={tiny_folder}", "-k", "not against and not by-role")
    result.assert_outcomes(passed=1, failed=1, errors=1, deselected=2)
    result.stdout.fnmatch_lines(["previous-token-score on *: AttributeError: *"])


VERBS = {
    "diagnose": ["--baseline=MODEL"],
    "discover": ["-o", "out.yaml"],
    "edges": [],
    "graft": ["--from=MODEL", "--components=L0H0", "-o", "out"],
    "trajectory": ["--baseline=MODEL"],
    "show-task": [],
}


@pytest.mark.parametrize("error", ERRORS[:4], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_it_in_one_sentence_with_the_checkpoints_name(
    tmp_path: Path,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    error: Exception,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"tiny.yaml": TINY_SUITE})
    run = tmp_path / "run"
    for step in (1, 2):
        shutil.copytree(tiny_folder, run / f"checkpoint-{step}")
    for place in ("opening.read_weights", "grafting.read_weights", "opening._load_tokenizer"):
        monkeypatch.setattr(f"circuit_assertions.checkpoints.{place}", fail)
    model = run if verb == "trajectory" else tiny_folder
    more = [word.replace("MODEL", str(tiny_folder)) for word in VERBS[verb]]
    task = ["--task=tiny.yaml::again"] if verb in ("discover", "edges") else []
    head = [verb, "tiny.yaml"] if verb == "show-task" else [verb]
    assert main([*head, f"--model={model}", *more, *task]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1, said
    assert said[0].startswith("circuit-assertions: ")
    assert f"{sentence_of(error)} ({TRACEBACK}=1 " in said[0]
    assert str(tiny_folder) in said[0] or str(run) in said[0]
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(type(error)):
        main([*head, f"--model={model}", *more, *task])


def test_an_error_of_ours_stays_as_it_is() -> None:
    ours = CircuitAssertionsError("this is known")
    with pytest.raises(CircuitAssertionsError) as raised, tell_unexpected("x"):
        raise ours
    assert raised.value is ours
