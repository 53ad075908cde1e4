"""Every architecture is measured, or refused in one sentence: no traceback, whatever a model is made of."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from auditing import repeated
from patching_cases import TASK
from reference_model import word_tokenizer
from survey_cases import QUICK, SURVEY
from tiny_models import random_model
from transformers import AutoConfig

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import CheckpointError, Opening, find_checkpoints
from circuit_assertions.engine import MeasuringError, SlowPatchingWarning
from circuit_assertions.heads import Head
from circuit_assertions.measures import MEASURES, Receiver
from circuit_assertions.request import Request

REPEATED = repeated(prompts=2, length=6)
RECEIVER = Receiver("q", (Head(1, 2), Head(2, 3)), "end")
SLOW = tuple(pytest.param(name, marks=() if name in QUICK else pytest.mark.complete) for name in SURVEY)


def requests() -> list[Request]:
    """Every measure of one model that does not search, and paths of each kind."""
    found = []
    for spec in MEASURES.values():
        keys = spec.operands.by_key()
        if spec.compares or {"search", "ranked-by"} & set(keys):
            continue
        operands: dict[str, Any] = {"query": "end", "key": "subject-1"} if "query" in keys else {}
        if "receiver" in keys and keys["receiver"].is_required():
            operands["receiver"] = RECEIVER
        if spec.joint:
            operands["set"] = (Head(1, 0), Head(2, 3))
        found.append(Request(spec.name, REPEATED if "repeat" in spec.needs else TASK, tuple(operands.items())))
    found.append(Request("path-effect", TASK, (("receiver", RECEIVER),)))
    return [*found, Request("path-effect", TASK, (("semantics", "direct"),))]


def saved(name: str, folder: Path) -> tuple[Path, Path]:
    """A checkpoint, and a tokenizer beside it that no model type has a say in."""
    kind, settings, _ = SURVEY[name]
    words = word_tokenizer()
    config = AutoConfig.for_model(kind, **{**settings, "vocab_size": len(words)})
    config._experts_implementation = "eager"
    random_model(config).save_pretrained(folder / "model")
    words.save_pretrained(folder / "words")
    return folder / "model", folder / "words"


def one_sentence(error: CircuitAssertionsError) -> str:
    said = str(error)
    assert said, "an error that says nothing"
    assert "\n" not in said
    return said


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.complete
def test_an_architecture_is_measured_or_refused(name: str, tmp_path: Path) -> None:
    folder, words = saved(name, tmp_path)
    audit = Audit(Opening(device="cpu", dtype="float64", tokenizer=str(words)))
    (checkpoint,) = find_checkpoints(str(folder))
    expected = SURVEY[name][2]
    if expected == "refused":
        with pytest.raises(CheckpointError) as refused:
            audit.model(checkpoint)
        assert str(folder) in one_sentence(refused.value)
        return
    limits = audit.model(checkpoint).limits
    refusals = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for request in requests():
            try:
                audit.read(request, checkpoint)
            except MeasuringError as error:
                refusals[request.measure] = one_sentence(error)
    slow = any(issubclass(one.category, SlowPatchingWarning) for one in caught)
    assert slow == (expected == "hooks")
    assert ("outputs" in limits) == (expected == "behaviour")
    assert not {"logit-difference", "answer-rate", "probability", "loss"} & set(refusals)
    for measure, said in refusals.items():
        assert (
            any(limit.reason in said for limit in limits.values())
            or "has no head" in said
            or (slow and measure == "edge-score")
        )
    if expected != "behaviour":
        assert not {"path-effect", "total-effect", "faithfulness", "attention"} & set(refusals)
