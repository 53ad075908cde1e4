"""Every measure says what a plain loop over Hugging Face's own modules says, on every architecture that is claimed.

The error is relative to the largest value of the measure. In float64 both sides agree to rounding even where Hugging
Face itself passes through float32 (softmax and root-mean-square norms of the Llama kind), because they pass at the same
places: a difference here is a wrong formula, not a lost digit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from auditing import HEALTHY, STORIES, Audited, given, ioi, repeated
from naive import Naive, Seen
from numpy.typing import NDArray
from reference_model import word_tokenizer
from tiny_models import ARCHITECTURES, random_model, save_tiny
from transformers import Olmo2Config, OlmoConfig

from circuit_assertions.measures import MEASURES
from circuit_assertions.tasks import Prompt, Task

Array = NDArray[np.float64]
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
LOOKS = (("end", "indirect-object"), ("end", "subject-2"), ("subject-2", "subject-1"))
ANSWERING = (
    "logit-difference",
    "logit-margin",
    "probability-difference",
    "answer-rate",
    "probability",
    "loss",
    "copy-score",
    "negative-copy-score",
    "copy-in-context",
    "negative-copy-in-context",
)
LOOKING_BACK = ("previous-token-score", "duplicate-token-score", "induction-score")


@dataclass
class Pair:
    """The same checkpoint, measured by the project and by the loop."""

    audited: Audited
    naive: Naive
    dtype: str

    @classmethod
    def of(cls, folder: Path, dtype: str) -> Pair:
        return cls(Audited(folder, dtype), Naive(folder, getattr(torch, dtype)), dtype)

    def error(self, measure: str, task: Task, **operands: str) -> float:
        """The largest difference between the two, as a share of the largest value."""
        prompts = self.audited.audit.prompts(task, self.audited.checkpoint).prompts
        by_head = MEASURES[measure].by_head
        loop = _LOOPS[measure]
        told = operands | {"answers": sorted({answer for prompt in prompts for answer in _tokens(prompt)})}
        rows = []
        for prompt in prompts:
            seen = self._see(prompt.tokens)
            if by_head:
                rows.append([loop(self.naive, seen, prompt, head, told) for head in self.naive.every_head])
            else:
                rows.append([loop(self.naive, seen, prompt, (0, 0), told)])
        expected = np.array(rows)  # [prompts, heads]
        values = self.audited.read(measure, task, **operands).values
        got = values if by_head else values[:, None]
        assert got.shape == expected.shape
        return float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-9))

    def _see(self, tokens: tuple[int, ...]) -> Seen:
        if not hasattr(self, "_remembered"):
            self._remembered = cache(self.naive.see)
        return self._remembered(tokens)


Loop = Callable[[Naive, Seen, Prompt, tuple[int, int], Mapping[str, Any]], float]


def _answers(prompt: Prompt) -> tuple[int, int]:
    return prompt.right.token, prompt.wrong.token


def _tokens(prompt: Prompt) -> tuple[int, ...]:
    return (*prompt.right.tokens, *prompt.wrong.tokens)


def _margin(naive: Naive, seen: Seen, prompt: Prompt, head: tuple[int, int], operands: Mapping[str, Any]) -> float:
    right, wrong = _answers(prompt)
    return float(seen.logits[-1, right] - seen.logits[-1, wrong])


def _difference_of_probabilities(
    naive: Naive, seen: Seen, prompt: Prompt, head: tuple[int, int], operands: Mapping[str, Any]
) -> float:
    last = len(prompt.tokens) - 1
    right, wrong = naive.log_probabilities(seen, [(last, token) for token in _answers(prompt)])
    return float(np.exp(right) - np.exp(wrong))


def _looking_back(back: Callable[[int], int]) -> Loop:
    def loop(naive: Naive, seen: Seen, prompt: Prompt, head: tuple[int, int], operands: Mapping[str, Any]) -> float:
        assert prompt.repeat is not None
        start, period = prompt.repeat
        return naive.look_back(seen, head, back(period), start, period)

    return loop


def _copying(sign: float) -> Loop:
    return lambda naive, seen, prompt, head, operands: naive.copy_score(
        seen, head, prompt.tokens, *_answers(prompt), sign=sign
    )


def _copying_in_context(
    naive: Naive, seen: Seen, prompt: Prompt, head: tuple[int, int], operands: Mapping[str, Any]
) -> float:
    standing = [place for place, token in enumerate(prompt.tokens) if token in _tokens(prompt)]
    places = [prompt.positions[operands["at"]]] if "at" in operands else standing
    return naive.copy_in_context(seen, head, prompt.tokens, places, operands["answers"])


_LOOPS: dict[str, Loop] = {
    "logit-difference": _margin,
    "logit-margin": _margin,  # of one wrong answer; test_entity_tracking has several
    "probability-difference": lambda *given: _difference_of_probabilities(*given),
    "answer-rate": lambda *given: float(_margin(*given) > 0),
    "probability": lambda naive, seen, prompt, head, operands: float(
        np.mean(np.exp(naive.log_probabilities(seen, prompt.targets)))
    ),
    "loss": lambda naive, seen, prompt, head, operands: float(-np.mean(naive.log_probabilities(seen, prompt.targets))),
    "attention": lambda naive, seen, prompt, head, operands: naive.attention(
        seen, head, prompt.positions[operands["query"]], prompt.positions[operands["key"]]
    ),
    "previous-token-score": _looking_back(lambda period: 1),
    "duplicate-token-score": _looking_back(lambda period: period),
    "induction-score": _looking_back(lambda period: period - 1),
    "copy-score": _copying(1.0),
    "negative-copy-score": _copying(-1.0),
    "copy-in-context": _copying_in_context,
    "negative-copy-in-context": lambda *given: 1 - _copying_in_context(*given),
    "direct-effect": lambda naive, seen, prompt, head, operands: naive.direct_effect(seen, head, *_answers(prompt)),
}


family = pytest.mark.family(main="architecture", turns=("task", "measure", "query", "key", "at"))
DTYPES = ["float64", pytest.param("float32", marks=pytest.mark.complete)]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=list(TOLERANCE))
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def random_pair(architecture: str, dtype: str, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair.of(save_tiny(tmp_path_factory.mktemp(architecture), architecture), dtype)


@pytest.fixture(scope="module", params=DTYPES)
def stories(request: pytest.FixtureRequest) -> Pair:
    if not STORIES.is_dir():
        pytest.skip(f"a model that is no part of the project is not here: {STORIES}")
    return Pair.of(STORIES, request.param)


@pytest.fixture(scope="module", params=DTYPES)
def healthy(request: pytest.FixtureRequest) -> Pair:
    if not (HEALTHY / "model.safetensors").is_file():
        pytest.skip("the embedded checkpoint is not here")
    return Pair.of(HEALTHY, request.param)


IOI = ioi(prompts=4)
IOI_BEHIND_BOS = ioi(prompts=2, bos="always")
REPEATED = repeated(prompts=2, length=9)
STORY = given(
    {
        "clean": "{indirect-object:Lily} and {subject-1:Tim} went to the park. {subject-2:Tim} gave a ball to",
        "right": "Lily",
        "wrong": "Tim",
    },
    {
        "clean": "One day, {subject-1:Lily} and {indirect-object:Tim} were sad. {subject-2:Lily} wanted to play with",
        "right": "Tim",
        "wrong": "Lily",
    },
)


def test_every_measure_has_its_loop() -> None:
    here = {*ANSWERING, *LOOKING_BACK, "attention", "direct-effect"}
    alone = {name for name, spec in MEASURES.items() if not spec.compares} - {"probe-accuracy"}  # see test_wrapped
    patched = {name for name, spec in MEASURES.items() if "counterfactual" in spec.needs}
    assert set(_LOOPS) == here == alone - patched  # test_path_patching and test_knockouts have these


@family
@pytest.mark.parametrize("task", [IOI, IOI_BEHIND_BOS], ids=["plain", "behind-bos"])
@pytest.mark.parametrize("measure", [*ANSWERING, "direct-effect"])
def test_answers_of_random_models(random_pair: Pair, measure: str, task: Task) -> None:
    assert random_pair.error(measure, task) < TOLERANCE[random_pair.dtype]


@family
@pytest.mark.parametrize(("query", "key"), LOOKS)
def test_attention_of_random_models(random_pair: Pair, query: str, key: str) -> None:
    assert random_pair.error("attention", IOI, query=query, key=key) < TOLERANCE[random_pair.dtype]


@family
@pytest.mark.parametrize("at", ["indirect-object", "after-subject-1"])
def test_copying_in_context_at_a_position_of_random_models(random_pair: Pair, at: str) -> None:
    """Also where no answer stands."""
    assert random_pair.error("copy-in-context", IOI, at=at) < TOLERANCE[random_pair.dtype]


@family
@pytest.mark.parametrize("measure", [*LOOKING_BACK, "probability", "loss"])
def test_random_models_on_repeated_tokens(random_pair: Pair, measure: str) -> None:
    assert random_pair.error(measure, REPEATED) < TOLERANCE[random_pair.dtype]


def olmo(folder: Path, family: type[OlmoConfig | Olmo2Config], **changes: float) -> Pair:
    words = word_tokenizer()
    config = family(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        **changes,
    )
    random_model(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return Pair.of(folder, "float64")


@pytest.mark.parametrize("measure", ["copy-score", "negative-copy-score", "copy-in-context", "direct-effect"])
def test_an_architecture_without_a_norm_before_attention(measure: str, tmp_path: Path) -> None:
    assert olmo(tmp_path, Olmo2Config).error(measure, IOI) < TOLERANCE["float64"]


@pytest.mark.parametrize("measure", ["copy-score", "negative-copy-score", "copy-in-context", "direct-effect"])
def test_an_architecture_that_clamps_its_values(measure: str, tmp_path: Path) -> None:
    assert olmo(tmp_path, OlmoConfig, clip_qkv=0.3).error(measure, IOI) < TOLERANCE["float64"]


def test_nothing_is_refused_on_random_models(random_pair: Pair) -> None:
    assert random_pair.audited.audit.model(random_pair.audited.checkpoint).limits == {}


@pytest.mark.parametrize("measure", [*ANSWERING, "direct-effect"])
def test_answers_of_a_story_teller(stories: Pair, measure: str) -> None:
    assert stories.error(measure, STORY) < TOLERANCE[stories.dtype]


@pytest.mark.parametrize(("query", "key"), LOOKS)
def test_attention_of_a_story_teller(stories: Pair, query: str, key: str) -> None:
    assert stories.error("attention", STORY, query=query, key=key) < TOLERANCE[stories.dtype]


@pytest.mark.parametrize("measure", [*LOOKING_BACK, "probability", "loss"])
def test_a_story_teller_on_repeated_tokens(stories: Pair, measure: str) -> None:
    assert stories.error(measure, REPEATED) < TOLERANCE[stories.dtype]


@pytest.mark.parametrize("measure", [*ANSWERING, "direct-effect"])
def test_answers_of_the_embedded_model(healthy: Pair, measure: str) -> None:
    assert healthy.error(measure, IOI) < TOLERANCE[healthy.dtype]


@pytest.mark.parametrize(("query", "key"), LOOKS)
def test_attention_of_the_embedded_model(healthy: Pair, query: str, key: str) -> None:
    assert healthy.error("attention", IOI, query=query, key=key) < TOLERANCE[healthy.dtype]


@pytest.mark.parametrize("measure", [*LOOKING_BACK, "probability", "loss"])
def test_the_embedded_model_on_repeated_tokens(healthy: Pair, measure: str) -> None:
    assert healthy.error(measure, REPEATED) < TOLERANCE[healthy.dtype]


def test_some_heads_copy_and_some_do_not(random_pair: Pair) -> None:
    """Guards the tests above: a score that were 0 for everybody would agree with any formula."""
    scores = [random_pair.audited.read(measure, IOI).values for measure in ("copy-score", "negative-copy-score")]
    assert 0.0 < np.mean(scores) < 1.0
    assert np.abs(random_pair.audited.read("direct-effect", IOI).values).max() > 0.01
