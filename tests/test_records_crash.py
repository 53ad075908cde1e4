"""A record is written whole or not at all: killed at any point, without power, on a full disk."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from record_cases import kept_record, reading_of, spread
from test_files import FAILURES, fail_in

from circuit_assertions import files
from circuit_assertions.files import NotWrittenError
from circuit_assertions.records import store
from circuit_assertions.records.record import Record

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills a process, and syncs folders")

# Writes one file after the other in child processes, each of which is killed at its own moment. It imports nothing of
# the package but what writes files, so that a child is a copy that takes a millisecond to make.
KILLER = """\
import json, os, pathlib, random, select, signal, sys, time
from circuit_assertions import files

folder, trials, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
text = (folder / "text").read_text()
drawn = random.Random(seed)
steps = ("open", "write", "fsync", "rename", "sync")
reached = dict.fromkeys(("whole", *steps), 0)


def killed_at(step, part):
    # Dies inside one step: `part` of the way through a write, in front of any other.
    if step == "write":
        def fdopen(opened, mode, real=os.fdopen):
            stream = real(opened, mode)
            class Dying:
                def __enter__(self): return self
                def __exit__(self, *_): stream.close()
                def write(self, raw):
                    os.write(opened, raw[: int(part * len(raw))])
                    os.kill(os.getpid(), signal.SIGKILL)
            return Dying()
        os.fdopen = fdopen
        return
    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)
    if step == "open":
        os.open = die
    elif step == "fsync":
        os.fsync = die
    elif step == "rename":  # synced, and not yet in its place
        pathlib.Path.replace = die
    else:  # in its place, and the folder not yet synced
        files._sync = die


start = time.perf_counter()
files.write_whole(folder / "timed", text)
takes = time.perf_counter() - start
(folder / "timed").unlink()
for trial in range(trials):
    step = steps[trial % (2 * len(steps))] if trial % (2 * len(steps)) < len(steps) else None
    child = os.fork()
    if child == 0:
        if step is not None:
            killed_at(step, drawn.random())
        files.write_whole(folder / f"{trial}.json", text)
        os._exit(0)
    if step is None:  # at a moment that nobody chose
        time.sleep(drawn.random() * 1.2 * takes)
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
    os.waitpid(child, 0)
    reached[step or "whole"] += (folder / f"{trial}.json").exists()
print(json.dumps(reached))
"""


def some_record() -> Record:
    return kept_record(("loses", "BROKEN", reading_of(spread(1.0, 4096), "loss")))


@pytest.mark.parametrize("trials", [40, pytest.param(1000, marks=[pytest.mark.complete, pytest.mark.slow])])
def test_a_writer_that_is_killed_at_any_point_leaves_no_torn_file(tmp_path: Path, trials: int) -> None:
    record = some_record()
    (tmp_path / "text").write_text(record.to_json())
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), str(trials), "7"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    reached = json.loads(done.stdout)
    assert (reached["open"], reached["write"], reached["fsync"], reached["rename"]) == (0, 0, 0, 0)
    assert reached["sync"] == trials // 10  # what is in its place is whole
    found = store.history(tmp_path)
    assert len(found) == sum(reached.values())
    for entry in found:
        assert entry.record == record


class PowerCutError(BaseException):
    """The machine stops here."""


class Disk:
    """What is on the disk for certain: contents that were synced, and names in folders that were synced.

    Everything else is lost when the power is cut, which is the worst that a file system may do.
    """

    def __init__(self, folder: Path, cut_before: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.left = folder, cut_before
        self.contents: dict[int, bytes] = {}  # by inode
        self.names: dict[str, int] = {}
        self.steps: list[str] = []
        for owner, name in ((os, "open"), (os, "fdopen"), (os, "fsync"), (Path, "replace")):
            monkeypatch.setattr(owner, name, self.step(name, getattr(owner, name)))

    def step(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def stepped(*given: object, **more: object) -> object:
            if self.left == len(self.steps):
                raise PowerCutError
            self.steps.append(name)
            result = real(*given, **more)
            if name == "fsync":
                self.synced(int(given[0]))  # type: ignore[call-overload]
            return result

        return stepped

    def synced(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self.names = {file.name: file.stat().st_ino for file in self.folder.iterdir()}
        else:
            self.contents[status.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def after_the_cut(self) -> dict[str, bytes]:
        """The files that are there when the machine starts again. A name may survive that was not synced."""
        inodes = {file.name: file.stat().st_ino for file in self.folder.iterdir()} | self.names
        return {name: self.contents.get(inode, b"") for name, inode in inodes.items() if not name.startswith(".")}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at open files through /proc")
def test_without_power_at_any_step_a_record_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails where the file is not synced before it is renamed, is not renamed, or the folder is not synced after."""
    record = some_record()
    text = record.to_json().encode()
    for cut in range(40):
        folder = tmp_path / str(cut)
        folder.mkdir()
        with monkeypatch.context() as patched:
            disk = Disk(folder, cut, patched)
            try:
                store.save(folder, record)
                saved = True
            except PowerCutError:
                saved = False
        found = disk.after_the_cut()
        assert all(content == text for content in found.values())
        if saved:  # what was reported as written is on the disk, its name too
            assert disk.names.keys() == {f"{record.name}.json"}
            assert list(found.values()) == [text]
            assert disk.steps == ["open", "fdopen", "fsync", "replace", "open", "fsync"]
            return
    pytest.fail("it has more steps than were tried")


@pytest.mark.parametrize("broken", ["no file sync", "no rename", "no folder sync", "renamed first"])
def test_the_test_above_fails_where_a_step_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def replace(target: Path, raw: bytes) -> None:
        beside = target if broken == "no rename" else target.with_name(".part")
        opened = os.open(beside, os.O_WRONLY | os.O_CREAT, 0o666)
        with os.fdopen(opened, "wb") as stream:
            stream.write(raw)
            stream.flush()
            if broken == "renamed first":
                beside.replace(target)
            if broken != "no file sync":
                os.fsync(stream.fileno())
        if broken not in ("no rename", "renamed first"):
            beside.replace(target)
        if broken != "no folder sync":
            files._sync(target.parent)

    monkeypatch.setattr(files, "_replace", replace)
    with pytest.raises(AssertionError):
        test_without_power_at_any_step_a_record_is_whole_or_not_there(tmp_path, monkeypatch)


@pytest.mark.parametrize("error", FAILURES[:3], ids=str)
@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_disk_that_is_full_leaves_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: OSError
) -> None:
    with monkeypatch.context() as patched:
        fail_in(patched, where, error)
        with pytest.raises(NotWrittenError) as raised:
            store.save(tmp_path, some_record())
    assert os.strerror(errno.ENOSPC if error.errno == errno.ENOSPC else error.errno or 0) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


# Reads a record, becomes a user without rights, and saves it in another folder.
WITHOUT_RIGHTS = """\
import os, pathlib, sys
from circuit_assertions.files import NotWrittenError
from circuit_assertions.records import store

record = store.read(pathlib.Path(sys.argv[1]))
if os.geteuid() == 0:
    os.setuid(65534)
try:
    store.save(pathlib.Path(sys.argv[2]), record)
except NotWrittenError as error:
    print(error)
"""


@pytest.mark.complete
def test_a_folder_that_may_only_be_read_is_one_sentence(tmp_path: Path) -> None:
    file = store.save(tmp_path, some_record())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_RIGHTS, str(file), name], capture_output=True, text=True, check=True
        )
        assert list(folder.iterdir()) == []
    (told,) = done.stdout.splitlines()
    assert name in told
    assert os.strerror(errno.EACCES) in told
