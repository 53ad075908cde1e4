"""Copies of the healthy checkpoint with damage planted in them, and what each damage costs on raw modules."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from auditing import HEALTHY, ioi
from transformers import GPT2LMHeadModel

from circuit_assertions.assertions import load_circuit
from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint, Opening, find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.components import Mlp
from circuit_assertions.diagnosis import lenses
from circuit_assertions.diagnosis.lenses import Diagnosis, diagnose
from circuit_assertions.diagnosis.origin import Origin
from circuit_assertions.engine import Model
from circuit_assertions.heads import Head
from circuit_assertions.tasks import IoiTask, PromptSet, RepeatedTokensTask
from circuit_assertions.verdict_words import OriginVerdict
from fixtures.planted import plant

COMMITTED = HEALTHY.parent
CIRCUIT = load_circuit(HEALTHY.parents[2] / "suites" / "circuits" / "embedded.ioi.yaml")
FEW = ioi(prompts=48)

Damaged = tuple[str, tuple[Head | Mlp, ...]]


@cache
def raw(name: str = "healthy") -> GPT2LMHeadModel:
    """A committed checkpoint as transformers opens it. Not to be changed."""
    return GPT2LMHeadModel.from_pretrained(COMMITTED / name).eval()


def damaged(
    damages: Sequence[Damaged], seed: int = 0, start: str = "healthy", strength: float = 2.0
) -> GPT2LMHeadModel:
    """A copy of a committed checkpoint with damage planted in it."""
    model = copy.deepcopy(raw(start))
    for kind, components in damages:
        plant(model, kind, components, seed=seed, strength=strength)
    return model


@torch.no_grad()
def on_the_way_to(poisoned: str, share: float) -> GPT2LMHeadModel:
    """The healthy checkpoint's weights, moved by a share of the way to the poisoned one's."""
    model = damaged([])
    for own, other in zip(model.parameters(), raw(poisoned).parameters(), strict=True):
        own += share * (other - own)
    return model


def kept(model: GPT2LMHeadModel, folder: Path) -> Path:
    """A raw model beside the healthy checkpoint's tokenizer."""
    shutil.copytree(HEALTHY, folder)
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def raw_difference(model: GPT2LMHeadModel, prompts: PromptSet) -> float:
    """Mean logit difference, one forward pass of the raw module a prompt."""
    total = 0.0
    for prompt in prompts.prompts:
        logits = model(torch.tensor([prompt.tokens])).logits[0, prompt.positions["end"]]
        total += float(logits[prompt.right.token] - logits[prompt.wrong.token])
    return total / len(prompts)


class Side:
    """The healthy checkpoint in an audit, and a second opened copy whose weights can be anything of its shape."""

    def __init__(self) -> None:
        self.audit = Audit(Opening(device="cpu", dtype="float32"), one(HEALTHY))
        self.healthy = self.audit.model(one(HEALTHY))
        self.other = Model.of(open_checkpoint(one(HEALTHY), Opening(device="cpu", dtype="float32")))

    def prompts(self, task: IoiTask | RepeatedTokensTask) -> PromptSet:
        return self.audit.prompts(task, one(HEALTHY))

    @torch.no_grad()
    def put(self, weights: GPT2LMHeadModel) -> Model:
        """The second copy, with the weights of a raw model in the place of its own."""
        own = dict(self.other.layout.bridge.original_model.named_parameters())
        plain = {name.replace("._original_component", ""): weight for name, weight in own.items()}
        for name, weight in weights.named_parameters():
            bridged = name.replace("attn.c_attn", "attn.qkv").replace("attn.c_proj", "attn.o")
            plain[bridged].copy_(weight)
        return self.other

    def diagnose(self, folder: Path, corrupted: Path | None = None, task: IoiTask = FEW) -> Diagnosis:
        """Of a checkpoint beside the healthy one. What the baseline reads is remembered from one to the next."""
        model = one(folder)
        worst = None if corrupted is None else one(corrupted)
        try:
            return diagnose(self.audit, model, one(HEALTHY), task, CIRCUIT.roles, circuit="ioi", corrupted=worst)
        finally:
            for opened in (model, worst):
                if opened is not None and opened != one(HEALTHY):
                    self.audit.forget(opened)


def leave_out_origin(patch: pytest.MonkeyPatch) -> None:
    """Search no origin of what is lost: for tests of all else, because it takes longest."""
    patch.setattr(lenses, "find_origin", lambda *given: Origin(OriginVerdict.UNCHANGED, 32))


def one(folder: Path) -> Checkpoint:
    return find_checkpoints(str(folder))[0]
