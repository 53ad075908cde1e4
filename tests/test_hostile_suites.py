"""Suites, circuit files and tasks that would fill the memory or never end are refused at once, by name and limit."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from said import says
from suite_texts import REFERENCE_SUITE, TINY_SUITE

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions import SuiteError, load_circuit, load_suite, yaml_source
from circuit_assertions.assertions.packaged import packaged_suites
from circuit_assertions.assertions.task_lookup import find_task
from circuit_assertions.assertions.yaml_source import loaders, read_source
from circuit_assertions.bounded import UnreadableError, read_bounded
from circuit_assertions.plugin.items import is_suite

# -- what is no regular file, or too large a one -------------------------------------------------------------------


def _pipe(file: Path) -> None:
    os.mkfifo(file)


def _link_to(target: str) -> Callable[[Path], None]:
    return lambda file: file.symlink_to(target)


def _loop(file: Path) -> None:
    file.symlink_to(file)


def _socket(file: Path) -> None:
    here = Path.cwd()
    os.chdir(file.parent)  # the name of a socket has a hundred characters at most
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(file.name)
    finally:
        os.chdir(here)


def _huge(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(10 * 10**9)  # without taking the place on disk


STRANGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "zeros": (_link_to("/dev/zero"), "is a device, not a file"),
    "random": (_link_to("/dev/urandom"), "device"),
    "nothing": (_link_to("/dev/null"), "device"),
    "pipe": (_pipe, "named pipe"),
    "socket": (_socket, "socket"),
    "folder": (Path.mkdir, "folder"),
    "loop": (_loop, os.strerror(errno.ELOOP)),
    "nowhere": (_link_to("/nowhere/at/all"), os.strerror(errno.ENOENT)),
    "huge": (_huge, "10000000000 bytes"),
}

READERS: dict[str, Callable[[Path], Any]] = {
    "suite": load_suite,
    "circuit": load_circuit,
    "task": lambda file: find_task(str(file)),
    "prompts": lambda file: load_suite(_asking(file)),
}


def _asking(file: Path) -> Path:
    """A suite beside the file, whose task reads its prompts from there."""
    suite = file.with_name("suite.yaml")
    task = f"tasks:\n  own: {{kind: prompts, file: {file.name}}}\n"
    suite.write_text(f"suite: x\n{task}assertions:\n  - {{id: a, measure: loss, task: own, expect: {{at-most: 3}}}}\n")
    return suite


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_file_to_read_is_refused_by_name(tmp_path: Path, kind: str, reader: str) -> None:
    make, said = STRANGE[kind]
    file = tmp_path / "strange.yaml"
    make(file)
    with pytest.raises(SuiteError) as raised:
        READERS[reader](file)
    assert says(raised.value, file, said)
    assert not is_suite(file)


def test_the_input_of_the_program_is_no_file_of_prompts(tmp_path: Path) -> None:
    """Nor is a pipe under /dev/stdin waited for."""
    (tmp_path / "x.yaml").write_text(
        "suite: x\ntasks:\n  own: {kind: prompts, file: /dev/stdin}\nassertions:\n"
        "  - {id: a, measure: loss, task: own, expect: {at-most: 3}}\n"
    )
    program = "import sys; from circuit_assertions.cli import main; sys.exit(main(['validate', 'x.yaml']))"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert says(running.stdout.read(), "/dev/stdin", "named pipe")
        assert running.wait(60) == 1


@given(size=st.integers(0, 64), most=st.integers(0, 64))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path, size: int, most: int) -> None:
    content = bytes(range(size))
    (tmp_path / "x").write_bytes(content)
    if size <= most:
        assert read_bounded(tmp_path / "x", most) == content
    else:
        with pytest.raises(UnreadableError, match=rf"\b{size} bytes\b.*\b{most} bytes\b"):
            read_bounded(tmp_path / "x", most)


def test_a_file_of_the_system_that_reports_no_size_is_bounded_all_the_same() -> None:
    file = Path("/proc/self/maps")
    if not file.exists() or file.stat().st_size:
        pytest.skip("no such file on this system")
    with pytest.raises(UnreadableError, match=r"\b100 bytes\b"):
        read_bounded(file, 100)


# -- bombs ---------------------------------------------------------------------------------------------------------

HEAD = "suite: x\ntasks:\n  ioi: {kind: ioi}\nassertions:\n"
BOMBS = {
    "aliases": "a: &a [x, x]\n"
    + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "merged": "a: &a {x: y}\nb: {<<: *a}\n",
    "flow": "suite: " + "[" * 1_000_000,
    "mappings": "suite: " + "{a: " * 1_000_000,
    "dashes": "suite:\n" + "- " * 1_000_000 + "x",
    "questions": "? " * 1_000_000,
    "sixties": "suite: " + "1:" + ":".join(["1"] * 1_000_000),
    "binary": "suite: 0b" + "1" * 3_000_000,
    "float": "suite: ." + "1" * 3_000_000,
    "number": "suite: " + "7" * 3_000_000,
    "keys": HEAD + "  - {" + ", ".join(f"key-{number}: 1" for number in range(20_000)) + "}\n",
    "tasks": "suite: x\ntasks: {" + ", ".join(f"task-{number}: 1" for number in range(20_000)) + "}\nassertions: []\n",
    "id": HEAD + "  - {id: '" + "é" * 1_000_000 + "', measure: loss, task: ioi, expect: {at-most: 1}}\n",
    "word": HEAD + "  - {id: a, measure: " + "l" * 1_000_000 + ", task: ioi, expect: {at-most: 1}}\n",
    "prompts": HEAD.replace("kind: ioi", "kind: ioi, prompts: 1000000000") + "  []",
    "names": HEAD.replace("kind: ioi", f"kind: ioi, names: [{', '.join(map(str, range(100_000)))}]") + "  []",
    "templates": HEAD.replace("kind: ioi", f"kind: ioi, templates: [{', '.join(['x'] * 100_000)}]") + "  []",
    "length": HEAD.replace("kind: ioi", "kind: repeated-tokens, length: 1000000000") + "  []",
    "tokens": HEAD.replace("kind: ioi", "kind: repeated-tokens, prompts: 100000, length: 10000") + "  []",
    "heads": HEAD + "  - {id: a, measure: copy-score, task: ioi, heads: [" + "L1H1, " * 100_000 + "L0H0]}\n",
}


LONG = ("names", "heads", "keys", "tasks", "sixties", "binary", "float")  # bombs that take seconds each


@pytest.mark.sample(6)
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.complete] * (kind in LONG)) for kind in BOMBS])
def test_a_bomb_is_refused_soon_and_in_few_words(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(BOMBS[kind])
    with pytest.raises(SuiteError) as raised:
        load_suite(file)
    for line in str(raised.value).splitlines():
        assert line.startswith(f"{file}:")
        assert len(line) < 2000


def test_a_file_of_too_many_prompts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "many.yaml").write_text('{"clean": "a b"}\n' * 100_001)
    with pytest.raises(SuiteError, match=r"many\.yaml:100001: .*\b100000 prompts\b"):
        load_suite(_asking(tmp_path / "many.yaml"))


@pytest.mark.complete
def test_a_circuit_file_is_bounded_like_a_suite(tmp_path: Path) -> None:
    for kind in ("aliases", "flow", "sixties"):
        (tmp_path / "x.yaml").write_text(BOMBS[kind].replace("suite:", "circuit:"))
        with pytest.raises(SuiteError):
            load_circuit(tmp_path / "x.yaml")


# -- libyaml's loader ------------------------------------------------------------------------------------------------

needs_libyaml = pytest.mark.skipif(loaders()[0] is loaders()[1], reason="PyYAML has no libyaml here")


def read_with(loader: Any, file: Path) -> Any:
    """A file's values and the place of each, or the message that refuses it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_source, "loaders", lambda: (loader, loaders()[1]))
        try:
            read = read_source(file)
        except CircuitAssertionsError as error:
            return str(error)
        return read.values, read.marks, read.repeated


PIECES = st.sampled_from(
    [
        "a", "b: ", "- ", "? ", ": ", "{", "}", "[", "]", ", ", "\n", "\n  ", "\n    ", "'", '"', "|", ">", "#", " ",
        "é", "日本", "\t", "80%", "~", "0.5", "1e3", "yes", "2020-01-01", "&x ", "*x", "!!str ", "---\n", "...\n",
        "\r\n", "\x85", "\u2028", "suite: x", "1:30", "'it''s'", '"\\u00e9"', "|\n  text\n", ">-\n  text\n",
        "\ufeff", "%YAML 1.1\n",
    ]
)  # fmt: skip


@needs_libyaml
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=12).map("".join))
def test_both_loaders_read_the_same_at_the_same_places(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(text.encode())
    fast, plain = (read_with(loader, file) for loader in loaders())
    # PyYAML's own loader refuses a question mark in the further lines of words between brackets; libyaml reads it.
    if not (isinstance(plain, str) and plain.endswith("but got '?'")):
        assert repr(fast) == repr(plain)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@needs_libyaml
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES, flow=st.sampled_from([None, True, False]), width=st.integers(10, 90), unicode=st.booleans())
@pytest.mark.complete
def test_both_loaders_read_written_suites_alike(
    tmp_path: Path, value: Any, flow: bool | None, width: int, unicode: bool
) -> None:
    suite = yaml.safe_load(REFERENCE_SUITE) | {"more": value}
    file = tmp_path / "x.yaml"
    text = yaml.safe_dump(suite, default_flow_style=flow, width=width, allow_unicode=unicode)
    file.write_text(text, encoding="utf-8", newline="")
    fast, plain = loaders()
    assert repr(read_with(fast, file)) == repr(read_with(plain, file))


@needs_libyaml
def test_both_loaders_read_the_packaged_files_alike() -> None:
    fast, plain = loaders()
    for file in packaged_suites().rglob("*.yaml"):
        assert isinstance(read_with(fast, file), tuple)
        assert read_with(fast, file) == read_with(plain, file)


def test_files_load_where_there_is_no_libyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    loaders.cache_clear()
    try:
        assert loaders() == (yaml.SafeLoader, yaml.SafeLoader)
        (tmp_path / "x.yaml").write_text(TINY_SUITE)
        assert len(load_suite(tmp_path / "x.yaml").suite.assertions) == 5
    finally:
        monkeypatch.undo()
        loaders.cache_clear()


# -- many assertions -------------------------------------------------------------------------------------------------

MANY = 5000


def many(extra: str = "", name: str = "a-{}") -> str:
    lines = [
        f"  - id: {name.format(number)}\n    why: the heads that fetched the right name look elsewhere\n"
        "    measure: attention\n    heads: name-mover\n    query: end\n    key: indirect-object\n    task: ioi\n"
        f"{extra}    expect: {{at-least: 0.4, retains: 80%}}\n"
        for number in range(MANY)
    ]
    return HEAD.replace("tasks:", "circuit: ioi\ntasks:", 1) + "".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param(many(), 0, marks=pytest.mark.complete),
        (many(name="same"), MANY - 1),
        (many(extra="    unknwon: 1\n    unkown-2: 2\n    unkown-3: 3\n"), 3 * MANY),
        pytest.param(many(extra="    without: nobody\n"), MANY, marks=pytest.mark.complete),
    ],
    ids=["valid", "repeated ids", "unknown keys", "unknown roles"],
)
@pytest.mark.parametrize("fast", [True, pytest.param(False, marks=pytest.mark.complete)], ids=["libyaml", "plain"])
@pytest.mark.complete
def test_thousands_of_assertions_are_checked(
    tmp_path: Path, text: str, problems: int, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fast:
        monkeypatch.setattr(yaml_source, "loaders", lambda: (yaml.SafeLoader, yaml.SafeLoader))
    elif loaders()[0] is yaml.SafeLoader:
        pytest.skip("PyYAML has no libyaml here")
    file = tmp_path / "x.yaml"
    file.write_text(text)
    if problems:
        with pytest.raises(SuiteError) as raised:
            load_suite(file)
        assert len(str(raised.value).splitlines()) == problems
    else:
        assert len(load_suite(file).suite.assertions) == MANY
