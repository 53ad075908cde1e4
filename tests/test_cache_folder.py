"""The folder of the cache: what is kept comes back exactly, and whatever happens to a file is no error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_cases import HEADS, reading_of, spread

from circuit_assertions.plugin.project_folders import CACHE
from circuit_assertions.records.cache_folder import CacheFolder
from circuit_assertions.records.gathering import Kept, kept, taken
from circuit_assertions.tasks import END, Prompt, PromptSet
from circuit_assertions.tasks.answers import Answers
from circuit_assertions.tasks.kept_prompts import plain_prompts, prompts_from
from circuit_assertions.tasks.metrics import METRICS

KEY = {"files": "a" * 64, "measure": "loss", "heads": ["L0H0"]}


def the_entry(folder: Path) -> Path:
    (file,) = folder.glob("*/*.entry")
    return file


def test_what_is_written_is_read_again_by_the_same_key_alone(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path / "cache")
    assert cache.read("readings", KEY) is None
    cache.write("readings", KEY, {"values": [0.1, -0.0, 1e-300]})
    assert CacheFolder(tmp_path / "cache").read("readings", KEY) == {"values": [0.1, -0.0, 1e-300]}
    assert cache.read("prompts", KEY) is None
    for name in KEY:
        assert cache.read("readings", {**KEY, name: "other"}) is None
    assert cache.problem == ""


def test_git_ignores_the_folder(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    CacheFolder(tmp_path / CACHE).write("readings", KEY, 1)
    seen = subprocess.run(["git", "status", "--short"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert seen.stdout == ""


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"not zlib",
        zlib.compress(b"[]"),
        zlib.compress(b"{"),
        zlib.compress(b"\xff\xfe"),
        zlib.compress(json.dumps({"format": 0, "key": KEY, "value": 1}).encode()),
        zlib.compress(json.dumps({"format": 1, "key": {}, "value": 1}).encode()),
        zlib.compress(b"[" * 100_000),
    ],
)
def test_a_file_with_something_else_is_not_there_and_is_written_again(tmp_path: Path, damaged: bytes) -> None:
    cache = CacheFolder(tmp_path)
    cache.write("readings", KEY, 1)
    the_entry(tmp_path).write_bytes(damaged)
    assert cache.read("readings", KEY) is None
    cache.write("readings", KEY, 2)
    assert cache.read("readings", KEY) == 2


def test_no_damage_to_any_byte_gives_another_value(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path)
    cache.write("readings", KEY, [0.125, 3])
    whole = the_entry(tmp_path).read_bytes()
    for place in range(len(whole)):
        the_entry(tmp_path).write_bytes(whole[:place])
        assert cache.read("readings", KEY) is None
        the_entry(tmp_path).write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        assert cache.read("readings", KEY) in (None, [0.125, 3])


def test_a_folder_that_cannot_be_written_is_told_and_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    cache = CacheFolder(tmp_path / "cache")
    cache.write("readings", KEY, 1)
    assert cache.read("readings", KEY) is None
    assert str(tmp_path / "cache") in cache.problem


def test_what_was_not_used_for_longest_is_removed(tmp_path: Path) -> None:
    value = os.urandom(500).hex()
    cache = CacheFolder(tmp_path)
    for number in range(10):
        cache.write("readings", {"number": number}, value)
    for age, file in enumerate(sorted(tmp_path.glob("*/*.entry"), key=lambda file: file.stat().st_mtime_ns)):
        os.utime(file, (1e9 + age, 1e9 + age))
    assert cache.read("readings", {"number": 0}) == value  # which is thereby the one that was used last
    left_over = tmp_path / "readings" / ".circuit-assertions.0.part"
    left_over.write_text("a process that was killed")
    os.utime(left_over, (1e9, 1e9))
    cache.trim()
    assert cache.size().entries == 10
    assert not left_over.exists()
    cache.most_bytes = cache.size().size // 2
    cache.trim()
    kept_ones = [number for number in range(10) if cache.read("readings", {"number": number}) is not None]
    assert cache.size().size <= cache.most_bytes
    assert kept_ones == [0, *range(10 - len(kept_ones) + 1, 10)]
    assert cache.clear().entries == len(kept_ones)
    assert cache.size().entries == 0


def test_threads_that_write_one_entry_leave_a_whole_one(tmp_path: Path) -> None:
    wrong: list[object] = []

    def use(number: int) -> None:
        cache = CacheFolder(tmp_path)
        for _ in range(20):
            cache.write("readings", KEY, [number] * 500)
            found = cache.read("readings", KEY)
            if found is None or len(found) != 500 or len(set(found)) != 1:
                wrong.append(found)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []


@pytest.mark.complete
def test_processes_that_are_killed_while_they_write_leave_whole_entries(tmp_path: Path) -> None:
    program = (
        "import itertools, pathlib, sys\n"
        "from circuit_assertions.records.cache_folder import CacheFolder\n"
        "cache = CacheFolder(pathlib.Path(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "for number in itertools.count():\n"
        "    cache.write('readings', {'number': number % 5}, [number] * 5000)\n"
    )
    cache = CacheFolder(tmp_path)
    for turn in range(12):
        started = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
        assert started.stdout is not None
        started.stdout.readline()
        time.sleep(0.01 * turn)
        started.kill()
        started.communicate()
        for file in tmp_path.glob("*/*.entry"):
            assert len(json.loads(zlib.decompress(file.read_bytes()))["value"]) == 5000
    assert cache.size().entries == 5


# -- readings and prompts ---------------------------------------------------------------------------------------------

floats = st.floats(-1e30, 1e30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(floats, floats, floats), min_size=1, max_size=40), st.booleans())
def test_a_reading_comes_back_to_the_last_bit(rows: list[tuple[float, float, float]], by_head: bool) -> None:
    values = np.array(rows) if by_head else np.array(rows)[:, 0]
    reading = reading_of(values, heads=HEADS if by_head else ())
    sent = kept("", reading)
    assert sent is not None
    again = taken(Kept.model_validate(json.loads(json.dumps(sent.model_dump(mode="json")))))
    assert again.values.tobytes() == np.ascontiguousarray(values).tobytes()
    assert (again == reading, repr(again)) == (True, repr(reading))
    for name in ("texts", "templates", "hashes", "alone", "rounding", "kind", "components"):
        assert getattr(again, name) == getattr(reading, name)
    assert all(again.settings[name] == value for name, value in reading.settings.items())


tokens = st.lists(st.integers(0, 50_000), min_size=1, max_size=9, unique=True)
answers = tokens.flatmap(
    lambda own: st.lists(st.floats(0.01, 1), min_size=len(own), max_size=len(own)).map(
        lambda weights: Answers(tuple(own), tuple(weights))
    )
)
prompts = st.builds(
    Prompt,
    tokens=tokens.map(tuple),
    text=st.text(max_size=20),
    positions=st.dictionaries(st.sampled_from([END, "subject", "io"]), st.integers(0, 8)),
    right=answers | st.just(Answers()),
    wrong=answers | st.just(Answers()),
    counterfactual=st.none() | tokens.map(tuple),
    template=st.text(max_size=5),
    targets=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 99)), max_size=3).map(tuple),
    repeat=st.none() | st.tuples(st.integers(0, 3), st.integers(1, 5)),
    metric=st.sampled_from(sorted(METRICS)).map(METRICS.__getitem__),
    before=st.text(max_size=5),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(prompts, min_size=1, max_size=4))
def test_prompts_come_back_as_they_are(some: list[Prompt]) -> None:
    made = PromptSet(tuple(some), {"kind": "ioi", "seed": 3})
    again = prompts_from(json.loads(json.dumps(plain_prompts(made))))
    assert again == made
    assert again.token_hash == made.token_hash


def test_a_reading_of_many_values_is_spread_over_prompts_as_it_was() -> None:
    values = np.stack([spread(mean, 128, seed=seed) for seed, mean in enumerate((0.1, 5.0, -3.0))], axis=1)
    sent = kept("", reading_of(values, heads=HEADS))
    assert sent is not None
    again = taken(sent)
    assert again.values.tobytes() == values.tobytes()
    assert again.values.flags.c_contiguous
