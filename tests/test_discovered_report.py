"""What `discover` prints: the table, the head map, and how far to trust them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from auditing import Audited, ioi
from said import says
from syrupy.assertion import SnapshotAssertion

from circuit_assertions.diagnosis.discovery import Discovery, Stability, discover
from circuit_assertions.heads import Head
from circuit_assertions.report.discovered import discovery_lines, map_of
from circuit_assertions.report.headmap import HeadMap, map_lines, map_picture
from circuit_assertions.results import DiscoveryResult


def record(found: Discovery) -> DiscoveryResult:
    """The result of a discovery, as it is read back from JSON."""
    return DiscoveryResult.model_validate_json(DiscoveryResult.of(found, "found.yaml").to_json())


def printed(found: Discovery) -> str:
    return "\n".join(discovery_lines(record(found)))


@pytest.fixture(scope="module")
def found(reference_folder: Path) -> Discovery:
    audited = Audited(reference_folder)
    return discover(audited.audit, audited.checkpoint, ioi(prompts=16))


@pytest.mark.complete
def test_the_table_and_the_map(found: Discovery, reference_folder: Path, snapshot: SnapshotAssertion) -> None:
    text = printed(found).replace(str(reference_folder), "reference")
    text = text.replace(found.model["fingerprint"][:12], "0123456789ab")
    assert text == snapshot


@pytest.mark.complete
def test_an_unstable_circuit_is_warned_of(found: Discovery) -> None:
    shaky = replace(found, stability=Stability((0.5, 0.7), {"name-mover": 1.0, "s-inhibition": 0.5}))
    said = printed(shaky)
    assert says(said, "WARNING: unstable (s-inhibition 0.50)")
    assert "WARNING" not in printed(found)


@pytest.mark.complete
def test_a_circuit_no_better_than_random_ones_is_warned_of(found: Discovery) -> None:
    same = replace(found, faithfulness={**found.faithfulness, "circuit": found.faithfulness["random"]})
    (warning,) = (line for line in discovery_lines(record(same)) if "WARNING" in line)
    assert says(warning, "faithful", "random")


@pytest.mark.complete
def test_colours_say_the_sign_in_a_terminal_and_letters_where_there_are_none(found: Discovery) -> None:
    drawn = map_of(record(found))
    plain, coloured = "\n".join(map_lines(drawn, None)), "\n".join(map_lines(drawn, "truecolor"))
    assert "NN-" in plain
    assert "NM+" in plain
    assert "\x1b[" not in plain
    assert re.search(r"\x1b\[[0-9;]*48;2;", coloured)


@pytest.mark.complete
def test_the_picture_names_every_head_that_was_found(found: Discovery) -> None:
    picture = map_picture(map_of(record(found)))
    for one in found.followed.placed:
        assert f"<title>{one.head} {one.role} {one.telling.mean:+.3g}</title>" in picture
    assert picture.count("no effect</title>") == 28 - len(found.everyone)


def test_what_was_not_found_is_said_and_not_drawn() -> None:
    for undecided, begins in ((False, "no circuit: nobody"), (True, "nobody")):
        nothing = DiscoveryResult(checkpoint="m", undecided=undecided, reason="nobody moves names")
        (line,) = discovery_lines(nothing)
        assert line.startswith(begins)
        with pytest.raises(ValueError, match="nobody moves names"):
            map_of(nothing)


def test_a_title_cannot_break_the_picture() -> None:
    drawn = HeadMap("a<b & c", layers=1, heads=2, effects={Head(0, 1): -1.0}, roles={Head(0, 1): "x<y"})
    picture = map_picture(drawn)
    assert "a&lt;b &amp; c" in picture
    assert "x<y" not in picture
