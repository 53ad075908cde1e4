"""`snapshot:` in suites and `circuit_snapshot` in Python: kept by syrupy, compared as numbers with a tolerance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from said import says
from suite_texts import write
from test_plugin_gate import gate_of, run

from circuit_assertions.assertions import SuiteError, load_suite
from circuit_assertions.assertions.kept import Allowed, KeptReading, SnapshotError, Within, compared
from circuit_assertions.heads import Head
from circuit_assertions.measures import Reading
from circuit_assertions.measures.tolerances import IncomparableError
from circuit_assertions.verdict_words import Outcome

HEAD = """\
suite: kept
tasks:
  again: {kind: repeated-tokens, prompts: 16, length: 8}
assertions:
"""
OF_HEADS = "{id: heads-all, measure: previous-token-score, heads: all, task: again, expect: {snapshot: {rel: 10%}}}"
OF_MODEL = "{id: heads-none, measure: loss, task: again, expect: {snapshot: interval, at-least: 0}}"
SUITE = f"{HEAD}  - {OF_HEADS}\n  - {OF_MODEL}\n".replace(", at-least: 0", "")
FOLDER = Path("suites", "snapshots", "kept")

finite = st.floats(-1e6, 1e6, allow_subnormal=False)


def reading(means: dict[str, float], tokens: str = "t", dtype: str = "float32") -> KeptReading:
    values = np.array([list(means.values())] * 4)
    settings = {"token_hash": tokens, "task": {"kind": "x"}, "model": {"dtype": dtype, "device": "cpu"}}
    heads = tuple(Head(0, index) for index in range(len(means)))
    return KeptReading.of(Reading("direct-effect", "logits", "value", values, heads, settings))


# -- what is allowed -----------------------------------------------------------------------------------------------


@given(finite, finite, st.floats(0.01, 1), st.floats(0.01, 100))
def test_a_mean_is_unchanged_within_the_wider_tolerance(kept: float, now: float, rel: float, absolute: float) -> None:
    within = Allowed.model_validate({"rel": rel, "abs": absolute})
    (one,) = compared(reading({"a": now}), reading({"a": kept}), within).differences
    room = max(rel * abs(kept), absolute)
    if abs(now - kept) < 0.999 * room:
        assert one.is_within
    if abs(now - kept) > 1.001 * room + 2e-5 * abs(kept):
        assert not one.is_within


@given(st.lists(finite, min_size=1, max_size=6))
def test_a_reading_survives_its_file_and_is_its_own_snapshot(means: list[float]) -> None:
    kept = reading({f"h{index}": mean for index, mean in enumerate(means)})
    assert KeptReading.read(kept.text(), "x") == kept
    found = compared(kept, kept, Allowed.model_validate({"rel": 1e-3}))
    assert all(one.is_within for one in found.differences)


@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=6))
def test_the_largest_difference_stands_first(pairs: list[tuple[float, float]]) -> None:
    now, kept = (reading({str(index): pair[side] for index, pair in enumerate(pairs)}) for side in (0, 1))
    sizes = [one.size for one in compared(now, kept, "interval").differences]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("value", [{}, {"abs": 0}, {"abs": -1}, {"rel": "110%"}, {"relative": 0.1}, "exact", 3])
def test_what_allows_nothing_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Within).validate_python(value)


def test_other_prompts_heads_and_settings_are_refused() -> None:
    kept, within = reading({"a": 1.0}), Allowed.model_validate({"rel": 0.5})
    with pytest.raises(SnapshotError, match="prompts"):
        compared(reading({"a": 1.0}, tokens="u"), kept, within)
    with pytest.raises(SnapshotError, match="heads"):
        compared(reading({"a": 1.0, "b": 1.0}), kept, within)
    with pytest.raises(IncomparableError):
        compared(reading({"a": 1.0}, dtype="bfloat16"), kept, within)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"measure": "loss"}'])
def test_a_damaged_file_is_named_with_the_way_out(text: str) -> None:
    with pytest.raises(SnapshotError) as raised:
        KeptReading.read(text, "suites/snapshots/a.json")
    assert says(raised.value, "suites/snapshots/a.json", "--snapshot-update")


@pytest.mark.parametrize("expect", ["heads: any", "heads: all, at-least-heads: 2"])
def test_a_snapshot_is_of_every_head(tmp_path: Path, expect: str) -> None:
    write(tmp_path, {"x.yaml": SUITE.replace("heads: all", expect)})
    with pytest.raises(SuiteError, match="every head"):
        load_suite(tmp_path / "x.yaml")


# -- under pytest --------------------------------------------------------------------------------------------------


def change(file: Path, *, of: str, by: float) -> None:
    kept = json.loads(file.read_text())
    kept["columns"][of][0] += by
    file.write_text(json.dumps(kept))


@pytest.mark.usefixtures("opened_once")
def test_a_snapshot_is_demanded_written_held_and_broken(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    write(pytester.path, {"suites/kept.yaml": SUITE})
    missing = run(pytester, tiny_folder, "suites")
    assert missing.ret == 1
    assert says(missing.stdout.str(), FOLDER / "heads-all.json", "--snapshot-update")
    assert gate_of(missing).startswith(f"GATE: FAIL (nothing was judged, 2 {Outcome.ERROR.said}")

    written = run(pytester, tiny_folder, "suites", "--snapshot-update")
    assert written.ret == 0
    files = sorted((pytester.path / FOLDER).iterdir())
    assert [file.name for file in files] == ["heads-all.json", "heads-none.json"]
    before = [file.read_bytes() for file in files]
    assert run(pytester, tiny_folder, "suites").ret == 0

    for head, by in (("L1H1", 0.3), ("L0H1", 0.4)):
        change(files[0], of=head, by=by)
    broken = run(pytester, tiny_folder, "suites")
    assert broken.ret == 1
    measured = [line for line in broken.outlines if line.endswith(Outcome.BROKEN) and "kept" in line]
    assert ["L0H1" in measured[0], "L1H1" in measured[1]] == [True, True]

    updated = run(pytester, tiny_folder, "suites", "--snapshot-update", "-k", "heads-all")
    assert updated.ret == 0
    assert [file.read_bytes() for file in files] == before


@pytest.mark.usefixtures("opened_once")
def test_unused_snapshots_are_reported_and_a_part_of_a_run_claims_none(
    pytester: pytest.Pytester, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # by which syrupy would leave the removal to a controller
    write(pytester.path, {"suites/kept.yaml": SUITE})
    assert run(pytester, tiny_folder, "suites", "--snapshot-update").ret == 0
    for part in (("suites", "-k", "heads-none"), ("suites/kept.yaml::heads-none",)):
        assert run(pytester, tiny_folder, *part, "--snapshot-update").ret == 0
        assert len(list((pytester.path / FOLDER).iterdir())) == 2
    write(pytester.path, {"suites/kept.yaml": SUITE.replace("heads-all", "renamed")})
    assert run(pytester, tiny_folder, "suites").ret == 1
    assert run(pytester, tiny_folder, "suites", "--snapshot-update").ret == 0
    assert sorted(file.name for file in (pytester.path / FOLDER).iterdir()) == ["heads-none.json", "renamed.json"]


TEST = """\
TASK = {"kind": "repeated-tokens", "prompts": 16, "length": 8}

def test_kept(audit, circuit_snapshot):
    assert audit.measure("previous-token-score", task=TASK) == circuit_snapshot(abs=0.1)
    assert audit.measure("loss", task=TASK) == circuit_snapshot()
"""


@pytest.mark.usefixtures("opened_once")
def test_readings_are_kept_in_python_too(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    write(pytester.path, {"suites/kept.yaml": SUITE, "suites/test_kept.py": TEST})
    args = ("suites/test_kept.py", "-p", "no:randomly")
    assert run(pytester, tiny_folder, *args).ret == 1
    assert run(pytester, tiny_folder, *args, "--snapshot-update").ret == 0
    files = sorted((pytester.path / "suites" / "snapshots" / "test_kept").iterdir())
    assert [file.name for file in files] == ["test_kept.1.json", "test_kept.json"]
    assert run(pytester, tiny_folder, *args).ret == 0
    change(files[1], of="L1H1", by=0.15)
    change(files[1], of="L0H0", by=0.11)
    broken = run(pytester, tiny_folder, *args)
    assert broken.ret == 1
    shown = [line for line in broken.outlines if ", kept " in line]
    assert ["L1H1" in shown[0], "L0H0" in shown[1], len(shown)] == [True, True, 2]


@pytest.mark.complete
def test_updating_with_workers_loses_nothing(pytester: pytest.Pytester, tiny_folder: Path) -> None:
    many = "".join(f"  - {OF_HEADS.replace('heads-all', f'heads-{number}')}\n" for number in range(12))
    write(pytester.path, {"suites/kept.yaml": HEAD + many})
    args = (f"--model={tiny_folder}", "suites", "-n", "2", "--dist", "load", "-p", "no:hypothesispytest")
    assert pytester.runpytest_subprocess(*args, "--snapshot-update").ret == 0
    files = sorted((pytester.path / FOLDER).iterdir())
    assert len(files) == 12
    for file in files:
        change(file, of="L1H1", by=0.5)
    assert pytester.runpytest_subprocess(*args).ret == 1
    assert pytester.runpytest_subprocess(*args, "--snapshot-update").ret == 0
    assert len({file.read_text() for file in files}) == 1
    assert pytester.runpytest_subprocess(*args).ret == 0
