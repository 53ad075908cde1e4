"""The ladder of rounded checkpoints: its files are what they are said to be, and its page has its results."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from circuit_assertions.checkpoints import Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from fixtures import ladder, ladder_page
from fixtures.poison import rows_of
from fixtures.real.quantize import to_type
from fixtures.rounded import BITS, TYPES, mean_loss, write_gguf, write_nearest
from fixtures.shelf import COMMITTED, open_weights


@torch.no_grad()
def rounded_by_hand(kind: str) -> tuple[Any, float]:
    """The embedded model with matrices rounded along their inputs, as GGUF has them, and how far they moved."""
    model, rounded, before, after = open_weights(COMMITTED / "healthy"), to_type(kind), 0.0, 0.0
    for name, weights in model.named_parameters():
        if weights.dim() == 2:
            inputs_first = "c_" in name  # a Conv1D
            new = rounded(weights.T).T if inputs_first else rounded(weights)
            before, after = (
                before + float(weights.double().square().sum()),
                after + float((new - weights).square().sum()),
            )
            weights.copy_(new)
    return model, (after / before) ** 0.5


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_a_gguf_file_opens_as_the_model_it_was_made_of_with_matrices_rounded_and_vectors_not(
    kind: str, tmp_path: Path
) -> None:
    file = tmp_path / "model.gguf"
    moved = write_gguf("healthy", kind, file)
    opened = open_checkpoint(find_checkpoints(str(file))[0], Opening(device="cpu", dtype="float32"))
    expected, share = rounded_by_hand(kind)
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        assert torch.allclose(opened.bridge(tokens), expected(tokens).logits, atol=1e-4)
    assert moved.share == pytest.approx(share, rel=1e-4)
    assert moved.share > 0


def test_fewer_bits_move_weights_further(tmp_path: Path) -> None:
    moved = [write_nearest("healthy", bits, tmp_path / str(bits)).share for bits in (8, 4, 2)]
    assert moved == sorted(moved)
    assert moved[0] < 0.01 < 0.1 < moved[2]
    weights = open_weights(tmp_path / "2").transformer.h[0].mlp.c_fc.weight.detach()
    blocks = weights.reshape(-1, 32)
    assert all(len(np.unique(np.abs(block))) <= 2 for block in blocks[:64].numpy())


def test_the_loss_of_a_row_is_that_of_the_tokens_that_count() -> None:
    model = open_weights(COMMITTED / "healthy")
    rows = rows_of("world", Random(3), 40)
    drawn = [next(rows) for _ in range(4)]
    found = mean_loss(model, drawn)
    for row, loss in zip(drawn, found, strict=True):
        with torch.no_grad():
            chances = model(torch.tensor([row.ids])).logits[0].double().softmax(-1)
        losses = [-float(chances[at - 1, row.ids[at]].log()) for at in range(1, 40) if row.weights[at] > 0]
        assert loss == pytest.approx(np.mean(losses))


def rung(loss: float, verdict: str) -> dict[str, Any]:
    more = {"mean": loss, "low": loss - 0.01, "high": loss + 0.01}
    head = {"before": {"mean": 2.0}, "after": {"mean": -0.5}, "kind": "sign flipped"}
    role = {"retained": {"mean": 0.4}, "asleep": False, "heads": {"L1H0": head}}
    return {
        "moved": 0.1,
        "loss": {"before": 2.0, "after": 2.0 + loss, "more": more},
        "verdict": verdict,
        "behaviour": {"retained": {"mean": 0.9, "low": 0.8, "high": 1.0}},
        "roles": {"name-mover": role},
        "origin": "UNCHANGED",
    }


def test_the_first_width_that_shows_something_is_the_largest_that_does() -> None:
    kept = {f"nearest-{bits}": rung(0.0, "INTACT") for bits in BITS}
    loss, lost = ladder_page.SHOWN.values()
    assert ladder_page.first_shown(kept, loss) is None
    broken = kept | {"nearest-4": rung(0.01, "DEGRADED"), "nearest-3": rung(0.2, "CORRUPTED")}
    assert ladder_page.first_shown(broken, lost) == 4
    assert ladder_page.first_shown(broken, loss) == 3
    first = "\n".join(ladder_page.tables({"healthy": broken})["first"])
    assert "| healthy | 3 bits | 4 bits |" in first
    assert "1 of 3" in first
    (row,) = (line for line in ladder_page.tables({"healthy": broken})["healthy"] if "nearest-4" in line)
    assert row.endswith("| L1H0 | L1H0 |")


def test_the_page_has_the_results_of_every_rung() -> None:
    results = json.loads(ladder.RESULTS.read_text(encoding="utf-8"))
    assert {base: set(rungs) for base, rungs in results.items()} == {base: set(ladder.RUNGS) for base in ladder.BASES}
    assert set(TYPES) < set(ladder.RUNGS)
    page = ladder_page.PAGE.read_text(encoding="utf-8")
    for lines in ladder_page.tables(results).values():
        assert "\n".join(lines) in page
