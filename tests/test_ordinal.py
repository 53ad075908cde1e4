"""A circuit that the package does not know: task, chain and suite are data, and `discover` finds exactly its cast.

The second reference model has weights set by hand (tests/ordinal_model.py), so that what is found can only be right or
wrong.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from auditing import Audited
from ordinal_model import build_ordinal_model, write_pairs
from reference_model import ReferenceModel, permute_heads
from suite_texts import write

from circuit_assertions.assertions.task_lookup import find_task
from circuit_assertions.diagnosis.discovery import Discovery, circuit_file, discover

DATA = Path(__file__).parent / "ordinal"


def project(folder: Path, prompts: int = 64, seed: int = 0) -> Path:
    """A project with the suite, the chain and the prompts, and the suite's path."""
    shutil.copytree(DATA, folder / "suites")
    write_pairs(folder / "suites" / "ordinal.jsonl", prompts, seed)
    return folder / "suites" / "ordinal.yaml"


def found_in(reference: ReferenceModel, suite: Path, folder: Path) -> Discovery:
    name, task = find_task(f"{suite}::ordinal")
    audited = Audited(reference.save(folder))
    return discover(audited.audit, audited.checkpoint, task, name=name)


def same_cast(found: Discovery, reference: ReferenceModel) -> bool:
    cast = {role: tuple(f"L{layer}H{head}" for layer, head in heads) for role, heads in reference.cast.items()}
    return {role: tuple(map(str, heads)) for role, heads in found.followed.roles.items()} == cast


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Discovery]:
    """The model as it is built, and what is found in it."""
    folder = tmp_path_factory.mktemp("ordinal")
    return folder / "healthy", found_in(build_ordinal_model(), project(folder), folder / "healthy")


def test_exactly_the_cast_is_found(healthy: tuple[Path, Discovery]) -> None:
    assert same_cast(healthy[1], build_ordinal_model())


@pytest.mark.complete
@pytest.mark.parametrize("order", range(3))
def test_the_cast_is_found_where_heads_have_changed_places(order: int, tmp_path: Path) -> None:
    reference = permute_heads(build_ordinal_model(), order)
    assert same_cast(found_in(reference, project(tmp_path, seed=order), tmp_path / "model"), reference)


@pytest.mark.sample(1)
@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize(
    ("silenced", "broken"),
    [
        (None, set()),
        ((3, 0), {"item-movers-read-the-item"}),
        pytest.param((2, 1), {"place-readers-steer-the-item-movers"}, marks=pytest.mark.complete),
        pytest.param((0, 2), {"ordinal-carriers-tell-the-place"}, marks=pytest.mark.complete),
    ],
    ids=["healthy", "item-mover", "place-reader", "ordinal-carrier"],
)
def test_the_suite_holds_and_tells_which_role_was_damaged(
    healthy: tuple[Path, Discovery],
    silenced: tuple[int, int] | None,
    broken: set[str],
    tmp_path: Path,
    pytester: pytest.Pytester,
) -> None:
    reference, suite = build_ordinal_model(), project(pytester.path)
    write(suite.parent, {"circuits/healthy.ordinal.yaml": circuit_file(healthy[1])})
    if silenced is not None:
        silence(reference, *silenced)
    tested = reference.save(tmp_path / "tested")
    result = pytester.runpytest_inprocess(
        str(suite), f"--model={tested}", f"--baseline={healthy[0]}", "-p", "no:xdist", "--no-diagnosis"
    )
    told = {line.split()[1].rpartition("::")[2] for line in result.outlines if line.startswith("FAILED")}
    assert told >= broken
    assert bool(told) == bool(broken)
    assert result.ret == (1 if broken else 0), result.stdout.str()


def silence(reference: ReferenceModel, layer: int, head: int) -> None:
    """Take a head's queries away, so that it looks everywhere alike, and its output."""
    attention = reference.model.transformer.h[layer].attn
    size = attention.head_dim
    own = slice(head * size, (head + 1) * size)
    with torch.no_grad():
        attention.c_attn.weight[:, own] = 0
        attention.c_attn.bias[own] = 0
        attention.c_proj.weight[own] = 0
