"""Discovery on the reference model, whose roles are known: exactly its cast, wherever its heads are moved."""

from __future__ import annotations

from pathlib import Path

import pytest
from auditing import Audited, ioi
from reference_model import CAST, build_reference_model, permute_heads

from circuit_assertions.diagnosis.discovery import Discovery, discover

PROMPTS = 16  # the parts of this model do their work on every prompt: few tell as much as many


def found_on(folder: Path) -> Discovery:
    audited = Audited(folder)
    return discover(audited.audit, audited.checkpoint, ioi(prompts=PROMPTS))


def roles_of(found: Discovery) -> dict[str, tuple[tuple[int, int], ...]]:
    return {role: tuple((head.layer, head.head) for head in heads) for role, heads in found.followed.roles.items()}


@pytest.fixture(scope="module")
def as_built(reference_folder: Path) -> Discovery:
    return found_on(reference_folder)


@pytest.mark.complete  # test_ordinal.py has such a model in the normal run
@pytest.mark.parametrize("seed", range(10))
def test_exactly_the_cast_is_found_wherever_its_heads_are(seed: int, tmp_path: Path) -> None:
    reference = permute_heads(build_reference_model(), seed)
    assert roles_of(found_on(reference.save(tmp_path))) == dict(reference.cast)


def test_exactly_the_cast_is_found(as_built: Discovery) -> None:
    assert roles_of(as_built) == dict(CAST)
    assert as_built.followed.went_on_from == {}  # every role has its heads
    assert as_built.not_proposed == ()


def test_the_cast_alone_does_the_task_and_random_heads_do_not(as_built: Discovery) -> None:
    assert as_built.faithfulness["circuit"].mean > 0.9 > as_built.faithfulness["random"].interval.high


def test_halves_of_the_prompts_agree(as_built: Discovery) -> None:
    assert as_built.stability.jaccard > 0.9  # a weak head is not always clear of zero on half of the prompts
    assert as_built.stability.by_role["name-mover"] == 1.0
    assert set(as_built.stability.by_role) == set(CAST)
    assert not as_built.stability.low


def test_every_role_says_which_effect_it_was_given_for(as_built: Discovery) -> None:
    placed = as_built.followed.placed
    stages = {one.role: tuple(one.telling.stage.split()[::2]) for one in placed}  # without "of", "at", "knocked"
    assert stages == {
        "name-mover": ("logits",),
        "negative-name-mover": ("logits",),
        "s-inhibition": ("queries", "name-mover", "end"),
        "duplicate-token": ("values", "s-inhibition", "subject-2"),
        "induction": ("values", "s-inhibition", "subject-2"),
        "previous-token": ("keys", "induction", "after-subject-1"),
        "backup-name-mover": ("name-mover", "out"),
    }
    for one in placed:
        low, high = one.telling.interval.low, one.telling.interval.high
        assert high < 0 if one.role == "negative-name-mover" else low > 0
