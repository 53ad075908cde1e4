"""Whatever is written is written whole or not at all."""

from __future__ import annotations

import ast
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from said import says

import circuit_assertions
from circuit_assertions.cli import main
from circuit_assertions.files import NotWrittenError, whole_folder, write_whole

PACKAGE = Path(circuit_assertions.__file__).parent
HEALTHY = Path(__file__).parents[1] / "fixtures" / "checkpoints" / "healthy"
OLD, NEW = "old\n", "new, größer\n" * 1000
NO_SPACE = os.strerror(errno.ENOSPC)


def fail_in(monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException) -> None:
    """Let the next call of a system function fail."""

    def fail(*_: object, **__: object) -> None:
        raise error

    if where == "write":

        class Full:
            def __init__(self, descriptor: int) -> None:
                self.descriptor = descriptor

            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: object) -> None:
                os.close(self.descriptor)

            def write(self, raw: bytes) -> int:
                os.write(self.descriptor, raw[:7])  # a part of it fits
                raise error

        fdopen = os.fdopen  # files are read by it too
        monkeypatch.setattr(os, "fdopen", lambda opened, mode: Full(opened) if "w" in mode else fdopen(opened, mode))
    elif where == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    else:
        monkeypatch.setattr(os, where, fail)


FAILURES = (
    OSError(errno.ENOSPC, NO_SPACE),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EIO, "Input/output error"),
    KeyboardInterrupt(),
)


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: str(error) or "interrupted")
@pytest.mark.parametrize("where", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("there", [True, False])
def test_a_failure_at_any_step_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException, there: bool
) -> None:
    file = tmp_path / "circuit.yaml"
    if there:
        file.write_text(OLD)
    with monkeypatch.context() as patched:
        fail_in(patched, where, error)
        with pytest.raises(NotWrittenError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
            write_whole(file, NEW)
    assert [path.name for path in tmp_path.iterdir()] == (["circuit.yaml"] if there else [])
    assert not there or file.read_text() == OLD
    if isinstance(error, OSError):
        assert str(raised.value).startswith(f"{file} ")
        assert says(raised.value, error.strerror)
        assert ("untouched" in str(raised.value)) == there
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [NEW, NEW.encode(), "", b"\0\xff"])
def test_a_file_holds_what_was_written(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "a"
    for _ in range(2):
        write_whole(file, content)
        assert file.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are those of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_permissions_and_links_stay(tmp_path: Path, mode: int) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text(OLD)
    target.chmod(mode)
    link.symlink_to(target)
    write_whole(link, NEW)
    assert link.is_symlink()
    assert target.read_text() == NEW
    assert stat.S_IMODE(target.stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "a", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "full.yaml").symlink_to("/dev/full")
    (tmp_path / "null.yaml").symlink_to("/dev/null")
    write_whole(tmp_path / "null.yaml", NEW)
    with pytest.raises(NotWrittenError, match=rf"full\.yaml .*: {NO_SPACE}$"):
        write_whole(tmp_path / "full.yaml", NEW)
    assert Path("/dev/full").is_char_device()


# -- folders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_is_there_once_all_of_it_is(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "deep" / "out" if not there else tmp_path / "out"
    if there:
        folder.mkdir()
    with whole_folder(folder) as made:
        (made / "config.json").write_text("{}")
        (made / "sub").mkdir()
        (made / "sub" / "weights").write_text(NEW)
        assert folder.exists() == there
        assert not (folder / "config.json").exists()
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} == {"config.json", "sub", "sub/weights"}
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), ValueError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("there", [True, False])
def test_of_a_folder_that_failed_nothing_is_left(tmp_path: Path, there: bool, error: BaseException) -> None:
    folder = tmp_path / "out"
    if there:
        folder.mkdir()

    def write() -> None:
        with whole_folder(folder) as made:
            (made / "config.json").write_text("{}")
            raise error

    with pytest.raises(type(error)):
        write()
    assert folder.exists() == there
    assert list(tmp_path.rglob("*")) == ([folder] if there else [])


# -- the verbs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["fsync", pytest.param("write", marks=pytest.mark.complete)])
def test_discover_on_a_full_disk_leaves_the_circuit_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    file = tmp_path / "found.yaml"
    asked = [
        "discover",
        f"--model={HEALTHY}",
        "--task=repeated-tokens",
        "--prompts=16",
        "--device=cpu",
        "-o",
        str(file),
    ]
    assert main(asked) == 0
    before = file.read_bytes()
    with monkeypatch.context() as patched:
        fail_in(patched, where, OSError(errno.ENOSPC, NO_SPACE))
        assert main([*asked, "--seed=3"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"circuit-assertions: {file} ")
    assert says(said, NO_SPACE)
    assert file.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"found.yaml", "found.svg"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files")
def test_a_file_that_may_not_grow_leaves_the_old_one(tmp_path: Path) -> None:
    """The system's own refusal in the middle of a write, no stand-in for it."""
    (tmp_path / "a").write_text(OLD)
    program = (
        "import pathlib, resource, signal\n"
        "from circuit_assertions.files import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_whole(pathlib.Path('a'), 'x' * 100_000)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert says(done.stderr, "NotWrittenError: a", os.strerror(errno.EFBIG))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == OLD


# -- nobody writes otherwise ----------------------------------------------------------------------------------------

WRITES = {"write_text", "write_bytes", "save_file", "save_pretrained", "savez", "copyfile", "copy2", "copytree"}
WRITES_OF = {
    ("shutil", "copy"),
    ("shutil", "move"),
    ("os", "rename"),
    ("os", "replace"),
    ("torch", "save"),
    ("np", "save"),
}
ALLOWED = {
    ("files.py", "open"),
    ("files.py", "fdopen"),
    ("cli/output.py", "open"),  # of the null device, for a closed stream
    ("checkpoints/writing.py", "save_pretrained"),  # into the folder that `whole_folder` makes
    ("checkpoints/writing.py", "copyfile"),
    ("checkpoints/adapters.py", "copyfile"),  # into a temporary folder
    ("checkpoints/adapters.py", "save_file"),
    ("bounded.py", "open"),  # for reading
}


def called(node: ast.Call) -> tuple[str, str]:
    """The name of what is called, and of the module or value that it is taken from."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr, node.func.value.id if isinstance(node.func.value, ast.Name) else ""
    return (node.func.id, "") if isinstance(node.func, ast.Name) else ("", "")


def opens_for_writing(node: ast.Call, name: str) -> bool:
    place = 1 if isinstance(node.func, ast.Name) or called(node)[1] in ("os", "io") else 0
    modes = [arg.value for arg in node.args[place:] if isinstance(arg, ast.Constant)]
    modes += [key.value.value for key in node.keywords if key.arg == "mode" and isinstance(key.value, ast.Constant)]
    written = any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes)
    return name in ("open", "fdopen") and (written or (called(node)[1] == "os" and name == "open"))


def writers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name, owner = called(node)
            if name in WRITES or (owner, name) in WRITES_OF or opens_for_writing(node, name):
                yield name


def test_nothing_in_the_package_writes_a_file_but_by_the_helper() -> None:
    found = {
        (str(file.relative_to(PACKAGE)), name)
        for file in sorted(PACKAGE.rglob("*.py"))
        for name in writers(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found - ALLOWED == set()


@pytest.mark.parametrize(
    "text",
    [
        "p.write_text('')",
        "open(p, 'w')",
        "p.open('ab')",
        "save_file(t, p)",
        "shutil.copy(a, b)",
        "os.open(p, os.O_WRONLY)",
    ],
)
def test_the_search_for_writers_finds_them(text: str) -> None:
    assert list(writers(ast.parse(text)))


@pytest.mark.parametrize("text", ["p.read_text()", "open(p)", "p.open('rb')", "model.copy()", "copy.copy(x)"])
def test_the_search_for_writers_finds_nothing_else(text: str) -> None:
    assert list(writers(ast.parse(text))) == []
