"""Readings of more prompts begin with what was read of the first ones, and are those of one reading of all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from auditing import Audited, ioi

from circuit_assertions.heads import Head

pytestmark = pytest.mark.usefixtures("opened_once")

FEW, MANY = ioi(prompts=12), ioi(prompts=30)
SOME = (Head(1, 0), Head(0, 1))


def read_of(audited: Audited) -> list[int]:
    """How many prompts had been read whenever that is told."""
    told: list[int] = []
    audited.audit.progress = lambda what, done, total: told.append(done)
    return told


@pytest.mark.parametrize(
    ("measure", "heads", "operands"),
    [
        ("logit-difference", (), {}),
        ("answer-rate", (), {}),
        ("attention", (), {"query": "end", "key": "indirect-object"}),
        ("path-effect", SOME, {}),
        ("copy-score", (), {}),
    ],
)
def test_only_new_prompts_are_read_and_nothing_else_changes(
    tiny_folder: Path, measure: str, heads: tuple[Head, ...], operands: dict[str, str]
) -> None:
    audited = Audited(tiny_folder)
    audited.read(measure, FEW, **operands)
    told = read_of(audited)
    found, at_once = (one.read(measure, MANY, *heads, **operands) for one in (audited, Audited(tiny_folder)))
    assert (told[0], told[-1]) == (12, 30)
    np.testing.assert_allclose(found.values, at_once.values, rtol=1e-5, atol=1e-6)
    for name in ("components", "settings", "texts", "templates", "rounding"):
        assert getattr(found, name) == getattr(at_once, name)


@pytest.mark.parametrize(
    ("measure", "operands"),
    [
        ("ablation-effect", {"set": SOME}),  # by means over a template
        ("attention", {"query": "end", "key": "indirect-object", "without": (Head(1, 1),)}),
        ("copy-in-context", {}),  # among the answers of all prompts
    ],
)
def test_what_depends_on_all_prompts_is_read_again(
    tiny_folder: Path, measure: str, operands: dict[str, object]
) -> None:
    audited = Audited(tiny_folder)
    audited.read(measure, FEW, **operands)
    told = read_of(audited)
    found, at_once = (one.read(measure, MANY, **operands) for one in (audited, Audited(tiny_folder)))
    assert told[0] == 0
    assert found == at_once


def test_prompts_that_begin_otherwise_are_read_from_the_first_on(tiny_folder: Path) -> None:
    audited = Audited(tiny_folder)
    audited.read("answer-rate", FEW)
    told = read_of(audited)
    audited.read("answer-rate", ioi(prompts=30, seed=1))
    assert told[0] == 0
