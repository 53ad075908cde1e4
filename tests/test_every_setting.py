"""Every setting of a configuration, switched: what is measured is what Hugging Face's model does, or it is refused."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from naive_patching import NaivePatching, exact_softmax
from patching_cases import TASK, apart, naive
from reference_model import word_tokenizer
from survey_cases import SURVEY
from tiny_models import random_model
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from circuit_assertions.checkpoints import CheckpointError, Opening, find_checkpoints
from circuit_assertions.checkpoints.agreement import share_of_spread
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.components import Mlp
from circuit_assertions.engine import Model, open_patching
from circuit_assertions.heads import Head

CLASSES = (
    "gpt2",
    "gpt_neo",
    "gptj",
    "gpt_neox",
    "opt",
    "llama",
    "mistral",
    "qwen2 sliding",
    "qwen3",
    "gemma2",
    "phi",
    "bloom",
    "falcon",
    "stablelm",
    "mpt",
    "cohere",
    "granite",
    "olmo",
    "olmo2",
    "bert",
)
# What says nothing of how the model computes, or which tokens there are.
_ELSEWHERE = {"vocab_size", "dtype", "transformers_version", "return_dict", "output_hidden_states", "output_attentions"}
_SAMPLED = 1  # settings of each class that every run tries, besides those listed below
ALWAYS = (
    ("gpt2", "scale_attn_weights", False),
    ("gpt2", "scale_attn_by_inverse_layer_idx", True),
    ("gpt2", "reorder_and_upcast_attn", True),
    ("gpt_neox", "use_parallel_residual", False),
    ("gpt_neox", "attention_bias", False),
    ("opt", "do_layer_norm_before", False),
    ("llama", "attention_bias", True),
    ("llama", "num_attention_heads", 8),
    ("mistral", "sliding_window", 3),
    ("qwen2 sliding", "use_sliding_window", False),
    ("gemma2", "attn_logit_softcapping", 0.25),
    ("gemma2", "final_logit_softcapping", 0.5),
    ("gemma2", "query_pre_attn_scalar", 257),
    ("phi", "qk_layernorm", True),
    ("bloom", "apply_residual_connection_post_layernorm", True),
    ("falcon", "multi_query", False),
    ("falcon", "alibi", True),
    ("falcon", "new_decoder_architecture", True),
    ("stablelm", "num_attention_heads", 8),
    ("stablelm", "use_qkv_bias", True),
    ("cohere", "logit_scale", 2.0),
    ("granite", "residual_multiplier", 0.25),
    ("granite", "logits_scaling", 0.5),
    ("olmo", "clip_qkv", 0.5),
)
SENDERS = (Head(0, 1), Head(1, 2), Mlp(0), Mlp(1))


def switched() -> Iterator[tuple[str, str, Any]]:
    """Each boolean the other way round, each number another two, each setting left out given something."""
    for name in CLASSES:
        kind, settings, _ = SURVEY[name]
        for field, value in sorted(AutoConfig.for_model(kind, **settings).to_dict().items()):
            if field in _ELSEWHERE or field.endswith("_token_id"):
                continue
            others: tuple[Any, ...] = ()
            if isinstance(value, bool):
                others = (not value,)
            elif isinstance(value, int):
                others = (value + 1, 2 * value or 2)
            elif isinstance(value, float):
                others = (2 * value or 0.5, 0.25)
            elif value is None:
                others = (True, 2, 0.5)
            yield from ((name, field, other) for other in others)


def cases() -> list[Any]:
    every = [case for case in switched() if case not in ALWAYS]
    quick = [
        case for name in CLASSES for case in random.Random(name).sample([e for e in every if e[0] == name], _SAMPLED)
    ]
    marked = [pytest.param(*case, marks=() if case in quick else pytest.mark.complete) for case in every]
    return [*(pytest.param(*case) for case in ALWAYS), *marked]


@pytest.mark.sample(24)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "field", "value"), cases())
def test_what_is_measured_is_what_hugging_face_computes(name: str, field: str, value: Any, tmp_path: Path) -> None:
    kind, settings, _ = SURVEY[name]
    words, folder = word_tokenizer(), tmp_path / "model"
    prompts = TASK.build(words).prompts
    clean = torch.tensor([prompt.tokens for prompt in prompts])
    twins = torch.tensor([prompt.counterfactual for prompt in prompts])
    try:
        config = AutoConfig.for_model(kind, **{**settings, "vocab_size": len(words), field: value})
        model = random_model(config)
        model.save_pretrained(folder)
        with torch.no_grad():
            model(clean, use_cache=False)
    except Exception as error:  # transformers itself has no such model
        pytest.skip(f"transformers builds none: {type(error).__name__}")
    words.save_pretrained(tmp_path / "words")
    opening = Opening(device="cpu", dtype="float64", tokenizer=str(tmp_path / "words"))
    try:
        source = open_checkpoint(find_checkpoints(str(folder))[0], opening)
    except CheckpointError:
        return
    opened = Model.of(source)
    if "outputs" in opened.limits:  # its effects are refused: an MLP that is run in pieces, for one
        assert (name, field) == ("bert", "chunk_size_feed_forward")
        return
    right, wrong = (torch.tensor([getattr(prompt, which).token for prompt in prompts]) for which in ("right", "wrong"))
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    with exact_softmax(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        slow, way = NaivePatching(theirs, clean, twins, right, wrong), open_patching(opened, prompts)
        end = torch.tensor([prompt.positions["end"] for prompt in prompts])
        total = torch.stack([slow.total(naive(sender)) for sender in SENDERS])
        paths = torch.stack([slow.to_inputs(naive(one), "q", [(2, 1)], end, "through-mlps") for one in SENDERS])
        got = way.total(SENDERS), way.to_inputs(SENDERS, "q", [Head(2, 1)], "end", "through-mlps")
    assert apart(got[0], total) <= 1e-5
    scale = max(float(paths.abs().max()), 1e-3 * float(total.abs().max()))
    assert float((got[1] - paths).abs().max()) <= 1e-4 * scale


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("ours", "theirs", "share"),
    [
        ([[0.0, 4.0]], [[0.0, 4.0]], 0.0),
        ([[0.0, 3.0]], [[0.0, 4.0]], 0.25),
        ([[0.0, 4.0], [1.0, 2.0]], [[0.0, 4.0], [3.0, 2.0]], 0.5),
        ([[0.0, -INFINITY, 2.0]], [[0.0, -INFINITY, 4.0]], 0.5),
        ([[0.0, 1.0, 2.0]], [[0.0, -INFINITY, 4.0]], INFINITY),
        ([[NAN, 1.0]], [[0.0, 1.0]], INFINITY),
        ([[1.0, 1.0]], [[1.0, 1.0]], 0.0),
        ([[1.0, 2.0]], [[1.0, 1.0]], INFINITY),
        ([[1.0, 1.0, 1.0]], [[1.0, 1.0]], INFINITY),
    ],
)
def test_how_far_apart_logits_are(ours: list[Any], theirs: list[Any], share: float) -> None:
    got, expected = (Tensor(values)[None] for values in (ours, theirs))
    assert share_of_spread(got, expected) == share


def test_in_half_precision_a_quarter_of_the_positions_may_differ() -> None:
    expected = torch.tensor([[[0.0, 1.0]] * 8])
    got = expected.clone()
    got[0, :2] += 0.5
    assert share_of_spread(got, expected) == 0.5
    assert share_of_spread(got, expected, 0.75) == 0.0
    got[0, 2] += 0.25
    assert share_of_spread(got, expected, 0.75) == 0.25


def test_the_refusal_names_the_model_and_how_far_off_it_is(tmp_path: Path) -> None:
    kind, settings, _ = SURVEY["gpt2 unscaled"]
    words = word_tokenizer()
    random_model(AutoConfig.for_model(kind, **{**settings, "vocab_size": len(words)})).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    for dtype in ("float32", "float64", "bfloat16", "float16"):
        with pytest.raises(CheckpointError, match=rf"Hugging Face .*{re.escape(str(tmp_path))}.* \d\d\.\d\d%"):
            open_checkpoint(find_checkpoints(str(tmp_path))[0], Opening(device="cpu", dtype=dtype))
