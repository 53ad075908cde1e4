"""Records: what is written is read again, files are found by what a person types, and a damaged one harms no other."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Said
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from record_cases import HEADS, STARTED, kept_record, reading_of, spread
from said import says

from circuit_assertions.files import NotWrittenError
from circuit_assertions.plugin.project_folders import RECORDS
from circuit_assertions.records import store
from circuit_assertions.records.building import new_name
from circuit_assertions.records.errors import RecordError
from circuit_assertions.records.gathering import Gathered, Sent
from circuit_assertions.records.packing import MOST_PLAIN, Values
from circuit_assertions.records.paths import Shortening
from circuit_assertions.records.record import FORMAT_VERSION, Record, ranges_of

ROOT = Path(__file__).parents[1]
FINITE = st.floats(allow_nan=False, allow_infinity=False)
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 6))


def some_record(label: str = "", after: float = 0.0, **more: Any) -> Record:
    values = np.stack([spread(one, 16, seed=index) for index, one in enumerate((1.0, 2.0, -1.0))], axis=1)
    reading = reading_of(values, heads=HEADS)
    return kept_record(("pushes", "HELD", reading), ("skips", "SKIPPED", None), label=label, after=after, **more)


# -- values ---------------------------------------------------------------------------------------------------------


@given(SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=FINITE)))
def test_values_are_read_again_to_the_last_bit(values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    stored = Values.model_validate_json(Values.of(values).model_dump_json())
    again = stored.array()
    assert again.shape == values.shape
    assert again.tobytes() == values.tobytes()
    assert (stored.plain is None) == (values.size > MOST_PLAIN)


@given(arrays(np.float32, (40, 5), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_what_a_model_in_float32_gives_takes_four_bytes(values: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    stored = Values.of(values.astype(np.float64))
    assert stored.dtype == "float32"
    assert (stored.array() == values).all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda plain: plain | {"packed": plain["packed"][:-8]},
        lambda plain: plain | {"packed": "!" * 8},
        lambda plain: plain | {"prompts": plain["prompts"] + 1},
        lambda plain: plain | {"packed": Values.of(np.zeros((500, 2))).packed},
    ],
    ids=["cut off", "no base64", "other size", "more than it says"],
)
def test_damaged_values_are_refused(damage: Any) -> None:
    plain = Values.of(np.random.default_rng(0).normal(size=(50, 2))).model_dump()
    with pytest.raises(ValueError, match=r"damaged|size"):
        Values.model_validate(damage(plain)).array()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_never_numbers(value: float) -> None:
    with pytest.raises(ValidationError):
        Values.of(np.array([[value]]))
    packed = Values.of(np.full((MOST_PLAIN + 1, 1), value))
    with pytest.raises(ValueError, match="NaN"):
        packed.array()


@given(st.lists(st.integers(0, 30), unique=True))
def test_ranges_are_the_same_rows(rows: list[int]) -> None:
    assert [row for first, end in ranges_of(rows) for row in range(first, end)] == rows


# -- a record -------------------------------------------------------------------------------------------------------


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Records of a few readings of any values, of tasks and prompts that may be the same."""
    asked = []
    for number in range(draw(st.integers(1, 4))):
        prompts = draw(st.integers(2, 40))
        heads = HEADS[: draw(st.integers(0, 3))]
        shape = (prompts, len(heads)) if heads else (prompts,)
        values = draw(arrays(np.float64, shape, elements=st.floats(-1e9, 1e9)))
        reading = reading_of(
            values, heads=heads, seed=draw(st.integers(0, 1)), alone=draw(st.booleans()), first=draw(st.integers(0, 3))
        )
        asked.append((f"assertion-{number}", draw(st.sampled_from(["HELD", "BROKEN", "UNRESOLVED"])), reading))
    label = draw(st.sampled_from(["", "base"]))
    return kept_record(*asked, label=label, redact=draw(st.booleans()))


@settings(max_examples=40, deadline=None)
@given(records())
def test_a_record_is_read_again_as_it_was_written(record: Record) -> None:
    again = Record.model_validate_json(record.to_json())
    assert again == record
    for place, read in enumerate(again.reads):
        assert read is not None
        assert set(again.audit.assertions[place].reading.components) <= set(again.readings[read].components)  # type: ignore[union-attr]
        assert all(column.size == again.readings[read].prompts for column in again.readings[read].columns().values())
    assert (again.prompts.texts is None) == record.redacted


def test_a_record_has_every_value_its_prompts_and_what_it_was_made_with() -> None:
    record = some_record(label="base")
    (reading,) = record.readings
    taken = np.stack([spread(one, 16, seed=index) for index, one in enumerate((1.0, 2.0, -1.0))], axis=1)
    assert all((reading.columns()[str(head)] == taken[:, place]).all() for place, head in enumerate(HEADS))
    assert [record.prompts.texts[index] for index in reading.indices] == [f"prompt {one}" for one in range(16)]  # type: ignore[index]
    assert (record.reads, record.seconds_of) == ((0, None), (0.25, 0.25))
    assert set(record.audit.versions) >= {"circuit-assertions", "torch", "transformers"}
    assert record.audit.assertions[0].reading is not None
    assert record.audit.assertions[0].reading.values == {}  # which the reading has


def test_of_readings_that_contain_each_other_the_largest_is_kept() -> None:
    gathered = Gathered()
    for prompts, heads in ((16, HEADS), (32, HEADS[:1]), (16, HEADS[:2]), (32, HEADS[:1]), (32, HEADS)):
        gathered.take("tuned", reading_of(np.ones((prompts, len(heads))), heads=heads))
    readings, prompts_kept = gathered.readings()
    assert [(one.prompts, one.components) for one in readings] == [(32, tuple(map(str, HEADS)))]
    assert len(prompts_kept.hashes) == 32


def test_what_depends_on_all_prompts_is_kept_for_each_number_of_them() -> None:
    gathered = Gathered()
    for prompts in (16, 32):
        gathered.take("tuned", reading_of(np.ones(prompts), "faithfulness", alone=False))
    readings, prompts_kept = gathered.readings()
    assert sorted(one.prompts for one in readings) == [16, 32]
    assert len(prompts_kept.hashes) == 32  # the first 16 are the same


def test_what_workers_send_makes_the_same_record() -> None:
    taken = [reading_of(spread(1.0), "loss"), reading_of(np.ones((64, 3)), heads=HEADS)]
    alone, controller = Gathered(), Gathered()
    for one in taken:
        alone.take("tuned", one)
        worker = Gathered()
        worker.take("tuned", one)
        controller.add(Sent.model_validate_json(worker.drain().model_dump_json()))
        assert worker.drain().readings == ()
    assert controller.readings() == alone.readings()


# -- paths and prompts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "relative", "redacted"),
    [
        ("/project/models/base", "models/base", "base"),
        ("/data/base: cannot be read", "../data/base: cannot be read", "base: cannot be read"),
        ("see '/data/my-base/x.yaml', line 3", "see '../data/my-base/x.yaml', line 3", "see 'x.yaml', line 3"),
        ("models/base and 3/4 of it", "models/base and 3/4 of it", "models/base and 3/4 of it"),
        ("https://host/a/b", "https://host/a/b", "https://host/a/b"),
        ("org/name@main", "org/name@main", "org/name@main"),
        ("pytest --model=/data/base", "pytest --model=../data/base", "pytest --model=base"),
        ("/data/with blank/base is damaged", "../data/with blank/base is damaged", "base is damaged"),
        ("~/secret/base", "base", "base"),
        ("a / b", "a / b", "a / b"),
    ],
)
def test_absolute_paths_are_made_relative_or_lose_their_folders(text: str, relative: str, redacted: str) -> None:
    named = ("/data/with blank/base",)
    assert Shortening(Path("/project"), named=named).text(text) == relative
    assert Shortening(Path("/project"), redact=True, named=named).text(text) == redacted


@given(st.text(alphabet="ab/ .:'", max_size=30))
def test_no_absolute_path_is_left_whatever_stands_around_it(text: str) -> None:
    said = Shortening(Path("/project"), redact=True).text(f"{text} /secret/folder/base")
    assert "/secret" not in said
    assert said.endswith("base")


def test_a_redacted_record_has_no_text_of_a_prompt() -> None:
    open_, closed = some_record().to_json(), some_record(redact=True).to_json()
    assert "prompt 3" in open_
    assert "prompt 3" not in closed
    assert json.loads(closed)["prompts"]["hashes"] == json.loads(open_)["prompts"]["hashes"]


# -- files ----------------------------------------------------------------------------------------------------------


def test_a_saved_record_is_listed_and_found_by_every_name_that_it_has(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "records"
    saved = [store.save(folder, some_record(label, after)) for label, after in (("base", 0), ("tuned", 5), ("base", 9))]
    assert [entry.file for entry in store.history(folder)] == saved
    first, second, third = (file.name.removesuffix(".json") for file in saved)
    for text, name in {
        first: first,
        second[:18]: second,
        "base": third,
        "tuned": second,
        "latest": third,
        "latest~1": second,
        "latest~2": first,
        str(saved[1]): second,
        os.path.relpath(saved[0]): first,
    }.items():
        assert store.find(text, folder).record.name == name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("latest~3", ("latest~3", "3")),
        ("20261201", ("3",)),
        ("bese", ("base",)),
        ("no/such.json", ("no/such.json",)),
    ],
)
def test_a_name_that_means_no_single_record_is_refused_with_what_there_is(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    for after in range(3):
        store.save(tmp_path, some_record("base", after))
    with pytest.raises(RecordError) as raised:
        store.find(text, tmp_path)
    assert says(raised.value, *parts)
    assert "\n" not in str(raised.value)


def test_names_are_sorted_by_time_and_differ_between_runs_that_start_at_once() -> None:
    times = [STARTED + timedelta(milliseconds=37 * number) for number in range(50)]
    names = [new_name(time) for time in times]
    assert names == sorted(names)
    assert len({new_name(STARTED, "base") for _ in range(200)}) == 200


def test_a_record_is_never_overwritten(tmp_path: Path) -> None:
    record = some_record()
    file = store.save(tmp_path, record)
    before = file.read_bytes()
    with pytest.raises(NotWrittenError, match="never overwritten"):
        store.save(tmp_path, record)
    assert file.read_bytes() == before


def damaged(file: Path, how: str) -> str:
    """A copy of a record's text with one thing wrong."""
    text = file.read_text()
    plain = json.loads(text)
    changes: dict[str, dict[str, Any]] = {
        "newer": {"format_version": FORMAT_VERSION + 1},
        "older": {"format_version": 0},
        "no version": {"format_version": None},
        "another kind": {"kind": "audit"},
        "rows beyond": {"prompts": {"hashes": [], "templates": [], "texts": []}},
        "no field": {"readings": [{}]},
    }
    if how in changes:
        return json.dumps(plain | changes[how])
    if how == "newer results":
        return json.dumps(plain | {"audit": plain["audit"] | {"schema_version": 99}})
    return {
        "empty": "",
        "half": text[: len(text) // 2],
        "one byte less": text[:-3],
        "a list": "[]",
        "nested": "[" * 99999,
    }[how]


@pytest.mark.parametrize(
    ("how", "parts"),
    [
        ("empty", ("damaged",)),
        ("half", ("damaged",)),
        ("one byte less", ("damaged",)),
        ("a list", ("not a record",)),
        ("nested", ("damaged",)),
        ("newer", ("format 2", "reads up to 1", "install")),
        ("newer results", ("99", "install")),
        ("older", ("format 0",)),
        ("no version", ("version",)),
        ("another kind", ("not a record",)),
        ("rows beyond", ("damaged",)),
        ("no field", ("readings.0",)),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_and_the_others_stay_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, parts: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(RECORDS)
    first = store.save(folder, some_record("base"))
    second = store.save(folder, some_record("tuned", after=60))
    broken = folder / "20261201-080030000-000000-broken.json"
    broken.write_text(damaged(first, how))
    with pytest.raises(RecordError) as raised:
        store.find(str(broken), folder).record  # noqa: B018
    assert says(raised.value, broken.name, *parts) or all(part in str(raised.value) for part in (broken.name, *parts))
    assert "\n" not in str(raised.value)
    listed = Said.by("list")
    lines = listed.out.splitlines()
    assert len(lines) == 3
    assert [lines[0].split()[0], lines[2].split()[0]] == [one.name.removesuffix(".json") for one in (first, second)]
    whole = how in ("rows beyond", "no field")  # what a list looks at is not damaged
    assert (listed.code, "cannot be read" in lines[1]) == ((0, False) if whole else (1, True))
    assert Said.by("show", "latest").code == Said.by("compare", first, "tuned").code == 0
    shown = Said.by("show", str(broken))
    assert (shown.code, shown.err.count("\n")) == (2, 1)


def test_an_older_format_is_read_where_it_can_be_made_into_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = some_record()
    plain = json.loads(record.to_json())
    plain["format_version"] = 0
    plain["title"] = plain.pop("name")
    (tmp_path / "old.json").write_text(json.dumps(plain))

    def upgraded(raw: dict[str, Any]) -> dict[str, Any]:
        return {**{key: value for key, value in raw.items() if key != "title"}, "name": raw["title"]}

    monkeypatch.setattr(store, "_UPGRADES", {0: upgraded})
    assert store.read(tmp_path / "old.json") == record


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWrittenError) as raised:
        store.save(tmp_path / "file" / "records", some_record())
    assert "\n" not in str(raised.value)
    assert says(raised.value, str(tmp_path / "file" / "records"))


def test_records_are_read_and_compared_without_torch() -> None:
    program = (
        "import sys\n"
        "import circuit_assertions.records.comparing, circuit_assertions.records.trend\n"
        "import circuit_assertions.records.store, circuit_assertions.report.compared\n"
        "assert not {'torch', 'transformers', 'transformer_lens'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_published_schema_is_what_the_command_prints() -> None:
    """`make schema` writes it again."""
    printed = Said.by("schema", "record").out
    assert (ROOT / "docs" / "record.schema.json").read_text(encoding="utf-8") == printed
    assert json.loads(printed)["properties"]["kind"]["const"] == "record"


def test_without_a_record_there_is_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed, shown = Said.by("list"), Said.by("show")
    assert (listed.code, shown.code) == (0, 2)
    assert "--circuit-save" in listed.out
    assert "--circuit-save" in shown.err
