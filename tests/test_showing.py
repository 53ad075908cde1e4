"""What a report shows of a circuit: what a limit of the model refuses is left out with the reason, all else is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from auditing import HEALTHY, Audited, ioi
from said import says

from circuit_assertions.assertions.chains import chain_for
from circuit_assertions.checkpoints import find_checkpoints
from circuit_assertions.diagnosis import showing
from circuit_assertions.diagnosis.showing import Showing, show_circuit
from circuit_assertions.diagnosis.view import View
from circuit_assertions.engine.limits import Limit
from circuit_assertions.heads import Head
from circuit_assertions.tasks import Prompt

TASK = ioi(prompts=8)
ROLES = {"name-mover": (Head(3, 0), Head(3, 1)), "s-inhibition": (Head(1, 0), Head(3, 1))}


def shown(audited: Audited, baseline: Path | None = None) -> Showing:
    model = View(audited.audit, audited.checkpoint, TASK)
    beside = None if baseline is None else replace(model, checkpoint=find_checkpoints(str(baseline))[0])
    return show_circuit(chain_for(TASK, "ioi"), ROLES, model, beside)


def limited(audited: Audited, *facts: str) -> Audited:
    opened = audited.audit.model(audited.checkpoint)
    limits = {fact: Limit((fact,), f"no {fact} here") for fact in facts}
    audited.audit.adopt(audited.checkpoint, replace(opened, limits=limits), audited.checkpoint)
    return audited


def test_every_head_has_an_effect_and_those_of_the_circuit_their_attention() -> None:
    audited = Audited(HEALTHY)
    found = shown(audited)
    values = audited.read("path-effect", TASK)
    assert list(found.effects) == list(values.heads)
    for head, effect in found.effects.items():
        assert effect.after.mean == pytest.approx(float(values.of_head(head).mean()))
        assert effect.after.interval.low <= effect.after.mean <= effect.after.interval.high
    assert [look.head for look in found.looked_at[0].looks] == [Head(3, 0), Head(3, 1), Head(1, 0)]
    prompts = audited.audit.prompts(TASK, audited.checkpoint)
    rows = prompts.taking_turns()[:3]
    attended = audited.read("attention", TASK, Head(3, 0), query="end", key="indirect-object").of_head(Head(3, 0))
    for row, one in zip(rows, found.looked_at, strict=True):
        look = one.looks[0]
        assert look.query == prompts.prompts[row].positions["end"]
        assert look.key == prompts.prompts[row].positions["indirect-object"]
        assert look.shares[look.key] == pytest.approx(float(attended[row]), abs=1e-6)
        assert "".join("".join(one.tokens).split()) == "".join(prompts.prompts[row].text.split())
    assert (found.prompts, found.left_out) == (8, ())


def test_what_a_limit_refuses_is_left_out_with_the_reason() -> None:
    found = shown(limited(Audited(HEALTHY), "patterns"))
    assert len(found.effects) == 20
    assert found.looked_at == ()
    (said,) = found.left_out
    assert says(said, "attention", "no patterns here")
    found = shown(limited(Audited(HEALTHY), "outputs"))
    assert found.effects == {}
    assert len(found.looked_at) == 3
    (said,) = found.left_out
    assert says(said, "path-effect", "no outputs here")


def test_a_baseline_of_another_shape_is_left_out(tiny_folder: Path) -> None:
    found = shown(Audited(HEALTHY), tiny_folder)
    assert all(effect.before is None for effect in found.effects.values())
    assert found.looked_at[0].looks[0].before is None
    (said,) = found.left_out
    assert says(said, str(tiny_folder))


def test_of_a_large_circuit_the_heads_with_the_largest_effects_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showing, "_MOST_HEADS", 2)
    found = shown(Audited(HEALTHY))
    sizes = {head: abs(found.effects[head].after.mean) for heads in ROLES.values() for head in heads}
    largest = sorted(sizes, key=lambda head: -sizes[head])[:2]
    assert {look.head for look in found.looked_at[0].looks} == set(largest)
    (said,) = found.left_out
    assert says(said, 2)


def test_tokens_keep_the_space_in_front_of_them() -> None:
    pieces = {1: "\u2581Mary", 2: "'s", 3: "<s>"}
    tokenizer: Any = SimpleNamespace(
        decode=lambda ids, **_: pieces[ids[0]].replace("\u2581", ""),
        convert_ids_to_tokens=lambda ids: [pieces[ids[0]]],
    )
    prompt = Prompt(tokens=(3, 1, 2), text="", positions={"end": 2})
    assert list(showing._texts(tokenizer, prompt)) == ["<s>", " Mary", "'s"]
