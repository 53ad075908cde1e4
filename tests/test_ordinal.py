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

from circuit_assertions.assertions.task_lookup import find_task
from circuit_assertions.diagnosis.discovery import circuit_file, discover

DATA = Path(__file__).parent / "ordinal"


def project(folder: Path, prompts: int = 64, seed: int = 0) -> Path:
    """A project with the suite, the chain and the prompts, and the suite's path."""
    shutil.copytree(DATA, folder / "suites")
    write_pairs(folder / "suites" / "ordinal.jsonl", prompts, seed)
    return folder / "suites" / "ordinal.yaml"


def found_roles(reference: ReferenceModel, suite: Path, folder: Path) -> dict[str, tuple[str, ...]]:
    name, task = find_task(f"{suite}::ordinal")
    audited = Audited(reference.save(folder))
    found = discover(audited.audit, audited.checkpoint, task, name=name)
    return {role: tuple(map(str, heads)) for role, heads in found.followed.roles.items()}


@pytest.mark.parametrize("order", [None, 0, 1, 2], ids=["as-built", "permuted-0", "permuted-1", "permuted-2"])
def test_exactly_the_cast_is_found(order: int | None, tmp_path: Path) -> None:
    reference = build_ordinal_model()
    if order is not None:
        reference = permute_heads(reference, order)
    cast = {role: tuple(f"L{layer}H{head}" for layer, head in heads) for role, heads in reference.cast.items()}
    assert found_roles(reference, project(tmp_path, seed=order or 0), tmp_path / "model") == cast


@pytest.mark.parametrize(
    ("silenced", "broken"),
    [
        (None, set()),
        ((3, 0), {"item-movers-read-the-item"}),
        ((2, 1), {"place-readers-steer-the-item-movers"}),
        ((0, 2), {"ordinal-carriers-tell-the-place"}),
    ],
    ids=["healthy", "item-mover", "place-reader", "ordinal-carrier"],
)
def test_the_suite_holds_and_tells_which_role_was_damaged(
    silenced: tuple[int, int] | None, broken: set[str], tmp_path: Path, pytester: pytest.Pytester
) -> None:
    reference = build_ordinal_model()
    suite = project(pytester.path)
    name, task = find_task(f"{suite}::ordinal")
    audited = Audited(reference.save(tmp_path / "healthy"))
    circuits = suite.parent / "circuits"
    circuits.mkdir()
    text = circuit_file(discover(audited.audit, audited.checkpoint, task, name=name))
    (circuits / "healthy.ordinal.yaml").write_text(text)
    if silenced is not None:
        silence(reference, *silenced)
    tested = reference.save(tmp_path / "tested")
    result = pytester.runpytest_subprocess(
        str(suite), f"--model={tested}", f"--baseline={tmp_path / 'healthy'}", "-p", "no:xdist", "--no-diagnosis"
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
