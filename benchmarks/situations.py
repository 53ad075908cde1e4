"""A model that does a task and copies of it that do not: what a diagnosis or a discovery really has to search in.

A random model does no task. This one is a random model in which the heads of the published circuit speak louder and
attend more sharply than the others, and whose last MLP was given the answers to the very prompts that it will be asked,
by least squares. So damage anywhere costs the behaviour, and those heads carry more of it than others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from benchmarks.models import WORDS
from circuit_assertions.assertions import load_circuit
from circuit_assertions.heads import Head
from circuit_assertions.tasks import END, IoiTask, Prompt
from fixtures.planted import plant

__all__ = ["CIRCUIT", "Situation", "heads_of", "make_situation"]

CIRCUIT = Path(__file__).parents[1] / "suites" / "circuits" / "gpt2.ioi.yaml"
_LOUDER = 8.0
_SHARPER = 4.0
_DIFFERENCE = 5.0  # logits between right and wrong answer that the last MLP is given
_RIDGE = 1e-3  # of what the prompts' hidden rows have in common
_NOISE = 0.1  # of each weight's own spread, on all weights


@dataclass(frozen=True)
class Situation:
    """Checkpoint folders of one shape: `healthy`, and damaged copies by what was done to them."""

    healthy: Path
    damaged: dict[str, Path]
    task: IoiTask


def heads_of(layers: int, heads: int, role: str) -> tuple[Head, ...]:
    """The heads that play a role in the published circuit; in a smaller model, the heads that stand for them."""
    published = load_circuit(CIRCUIT).roles[role]
    return tuple(dict.fromkeys(Head(one.layer % layers, one.head % heads) for one in published))


def make_situation(config: GPT2Config, folder: Path, task: IoiTask) -> Situation:
    """Write the checkpoints; the same numbers every time."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(str(WORDS), model_max_length=config.n_positions)
    model = GPT2LMHeadModel(config).eval()
    _amplify(model)
    _memorise(model, task.build(tokenizer).prompts)
    damages: dict[str, Callable[[GPT2LMHeadModel], None]] = {
        "three heads negated": _negate,
        "all weights noised": _noise,
    }

    def write(name: str) -> Path:
        tokenizer.save_pretrained(folder / name)
        model.save_pretrained(folder / name)
        return folder / name

    healthy = write("healthy")
    damaged = {}
    for name, damage in damages.items():
        with _put_back(model):
            damage(model)
            damaged[name] = write(name.replace(" ", "-"))
    return Situation(healthy, damaged, task)


@torch.no_grad()
def _amplify(model: GPT2LMHeadModel) -> None:
    """Let the heads of the published circuit speak louder and attend more sharply than the others."""
    config = model.config
    width = config.n_embd // config.n_head
    for head in sorted(
        {head for role in load_circuit(CIRCUIT).roles for head in heads_of(config.n_layer, config.n_head, role)}
    ):
        block = model.transformer.h[head.layer].attn
        first = head.head * width
        block.c_proj.weight[first : first + width] *= _LOUDER
        block.c_attn.weight[:, first : first + width] *= _SHARPER  # queries


@torch.no_grad()
def _memorise(model: GPT2LMHeadModel, prompts: tuple[Prompt, ...]) -> None:
    """Let the last MLP write the difference of right and wrong answer at the end of every prompt."""
    last = model.transformer.h[-1].mlp
    hidden, finals = zip(*(_at_end(model, prompt) for prompt in prompts), strict=True)
    rows = torch.stack(hidden).double()  # [prompts, hidden]
    unembedding = model.lm_head.weight
    answers = torch.stack(
        [unembedding[prompt.right.token] - unembedding[prompt.wrong.token] for prompt in prompts]
    ).double()
    spread = torch.stack(finals).double().std(dim=-1)  # what the final norm divides by [prompts]
    wanted = answers * (_DIFFERENCE * spread / answers.square().sum(dim=-1))[:, None]  # [prompts, d_model]
    alike = rows @ rows.T
    alike += _RIDGE * alike.diagonal().mean() * torch.eye(len(prompts))
    last.c_proj.weight += (rows.T @ torch.linalg.solve(alike, wanted)).float()


def _at_end(model: GPT2LMHeadModel, prompt: Prompt) -> tuple[Tensor, Tensor]:
    """What the last MLP's output is made of [hidden], and the final residual stream [d_model]."""
    kept: list[Tensor] = []
    place = prompt.positions[END]
    taps = (model.transformer.h[-1].mlp.c_proj, model.transformer.ln_f)
    hooks = [tap.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0][0, place])) for tap in taps]
    try:
        model.transformer(torch.tensor([prompt.tokens]))
    finally:
        for hook in hooks:
            hook.remove()
    return kept[0], kept[1]


def _negate(model: GPT2LMHeadModel) -> None:
    plant(model, "negate", heads_of(model.config.n_layer, model.config.n_head, "name-mover"))


@torch.no_grad()
def _noise(model: GPT2LMHeadModel) -> None:
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        scale = weight.std() if weight.std() > 0 else weight.new_tensor(model.config.initializer_range)
        weight += _NOISE * scale * torch.randn(weight.shape, generator=generator)


@contextmanager
def _put_back(model: GPT2LMHeadModel) -> Iterator[None]:
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    yield
    model.load_state_dict(before)
