"""Head scores are those of TransformerLens's own head detector, up to a normalisation that is written down here.

`detect_head` with its "mul" measure divides the attention that falls on a detection pattern by all attention of the
head. Every row of an attention pattern sums to 1, so that divisor is the number of tokens n. The project's scores
average over the `period` tokens of the repetition alone. With a detection pattern that is 1 on those rows only:

    score = detect_head * n / period
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from auditing import HEALTHY, STORIES, Audited, repeated
from tiny_models import ARCHITECTURES, save_tiny
from torch import Tensor
from transformer_lens.head_detector import (
    compute_head_attention_similarity_score,
    detect_head,
    get_duplicate_token_head_detection_pattern,
    get_induction_head_detection_pattern,
    get_previous_token_head_detection_pattern,
)

from circuit_assertions.tasks import Prompt

SCORES = {
    "previous-token-score": get_previous_token_head_detection_pattern,
    "duplicate-token-score": get_duplicate_token_head_detection_pattern,
    "induction-score": get_induction_head_detection_pattern,
}
REPEATED = repeated(prompts=3, length=10)


@dataclass
class Tokens:
    """Hands `detect_head`, which would tokenize text, the token ids themselves."""

    bridge: Any

    @property
    def cfg(self) -> Any:
        return self.bridge.cfg

    def to_tokens(self, tokens: Tensor) -> Tensor:
        return tokens

    def run_with_cache(self, *args: Any, **options: Any) -> Any:
        return self.bridge.run_with_cache(*args, **options)


@pytest.fixture(scope="module", params=[*ARCHITECTURES, "stories260K", "healthy"])
def audited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Audited:
    folders: dict[str, Path] = {"stories260K": STORIES, "healthy": HEALTHY}
    if request.param not in folders:
        return Audited(save_tiny(tmp_path_factory.mktemp(request.param), request.param))
    if not (folders[request.param] / "model.safetensors").is_file():
        pytest.skip(f"a model that is no part of the project is not here: {folders[request.param]}")
    return Audited(folders[request.param])


def second_half(prompt: Prompt, measure: str) -> Tensor:
    """TransformerLens's own detection pattern [tokens, tokens], on the rows of the repetition only."""
    assert prompt.repeat is not None
    start, period = prompt.repeat
    pattern: Tensor = SCORES[measure](torch.tensor([prompt.tokens])).clone()
    pattern[: start + period] = 0.0
    assert pattern.sum() == period  # one key for each repeated token
    return pattern


@pytest.mark.sample(12)
@pytest.mark.parametrize("measure", list(SCORES))
@torch.no_grad()
def test_scores_are_those_of_the_head_detector(audited: Audited, measure: str) -> None:
    bridge = audited.audit.model(audited.checkpoint).bridge
    prompts = audited.audit.prompts(REPEATED, audited.checkpoint).prompts
    values = audited.read(measure, REPEATED).values  # [prompts, heads]
    assert np.abs(values).max() > 0.01
    for row, prompt in zip(values, prompts, strict=True):
        assert prompt.repeat is not None
        found = detect_head(
            Tokens(bridge),
            torch.tensor([prompt.tokens]),
            second_half(prompt, measure),
        )  # [layers, heads]
        expected = found.flatten() * len(prompt.tokens) / prompt.repeat[1]
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)


@torch.no_grad()
def test_previous_token_score_over_all_rows_is_another_number(audited: Audited) -> None:
    """What the relation is worth: without the restriction to the repetition the two definitions do differ."""
    bridge = audited.audit.model(audited.checkpoint).bridge
    prompt = audited.audit.prompts(REPEATED, audited.checkpoint).prompts[0]
    pattern = get_previous_token_head_detection_pattern(torch.tensor([prompt.tokens]))
    _, cache = bridge.run_with_cache(torch.tensor([prompt.tokens]))
    plain = [
        compute_head_attention_similarity_score(
            cache["pattern", head.layer][0, head.head],
            pattern,
            exclude_bos=False,
            exclude_current_token=False,
            error_measure="mul",
        )
        for head in audited.read("previous-token-score", REPEATED).heads
    ]
    scores = audited.read("previous-token-score", REPEATED).values[0]
    assert np.abs(scores - np.array(plain)).max() > 1e-3
