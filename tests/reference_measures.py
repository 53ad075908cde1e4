"""Plain, slow measures on Hugging Face's own modules: what the project's measures should say, computed another way."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from circuit_assertions.tasks.words import NAMES, OBJECTS, PLACES, TEMPLATES

HeadId = tuple[int, int]
InputId = tuple[str, int, int]  # "query", "key" or "value", and the head
PROMPTS_PER_TEMPLATE = 5


@dataclass(frozen=True)
class Prompts:
    """Prompts of all templates, padded on the right, where a causal model never looks from `end`."""

    ids: Tensor  # [prompt, position]
    counterfactual: Tensor  # the same with three unrelated names
    other_subject: Tensor  # the same with another name at S2
    template: Tensor
    indirect_object: Tensor  # positions
    s1: Tensor
    s2: Tensor
    end: Tensor
    right: Tensor  # token ids
    wrong: Tensor

    def first(self, count: int) -> Prompts:
        return Prompts(**{key: value[:count] for key, value in vars(self).items()})


@dataclass
class Run:
    """What one forward pass said."""

    logits: Tensor = field(default_factory=lambda: torch.empty(0))  # [prompt, position, vocabulary]
    states: tuple[Tensor, ...] = ()  # [prompt, position, d_model] before each block, and after the final norm
    attention: tuple[Tensor, ...] = ()  # [prompt, head, query, key] of each layer
    last: Tensor = field(default_factory=lambda: torch.empty(0))  # before the final norm
    results: dict[HeadId, Tensor] = field(default_factory=dict)  # [prompt, position, d_head], what each head has read
    inputs: dict[InputId, Tensor] = field(default_factory=dict)  # [prompt, position, d_head], their q, k, v


def read(tokenizer: PreTrainedTokenizerFast, template: str, names: list[str], things: dict[str, str]) -> Tensor:
    text = template.format(first=names[0], second=names[1], subject=names[2], **things)
    ids: Tensor = tokenizer(text, return_tensors="pt").input_ids[0]
    return ids


def make_prompts(tokenizer: PreTrainedTokenizerFast) -> Prompts:
    rng = random.Random(0)
    rows: dict[str, list[Any]] = defaultdict(list)
    for number in range(PROMPTS_PER_TEMPLATE * len(TEMPLATES)):
        round_, template = divmod(number, len(TEMPLATES))
        things = {"place": rng.choice(PLACES), "object": rng.choice(OBJECTS)}
        first, second, third, *others = rng.sample(NAMES, 6)
        right, wrong = (first, second) if round_ % 2 else (second, first)  # ABBA or BABA
        ids = read(tokenizer, TEMPLATES[template], [first, second, wrong], things)
        words = tokenizer.convert_ids_to_tokens(ids)
        rows["ids"].append(ids)
        rows["counterfactual"].append(read(tokenizer, TEMPLATES[template], others, things))
        rows["other_subject"].append(read(tokenizer, TEMPLATES[template], [first, second, third], things))
        rows["template"].append(template)
        rows["indirect_object"].append(words.index(right))
        rows["s1"].append(words.index(wrong))
        rows["s2"].append(words.index(wrong, words.index(wrong) + 1))
        rows["end"].append(len(words) - 1)
        rows["right"].append(tokenizer.convert_tokens_to_ids(right))
        rows["wrong"].append(tokenizer.convert_tokens_to_ids(wrong))
    texts = ("ids", "counterfactual", "other_subject")
    padded = {key: torch.nn.utils.rnn.pad_sequence(rows[key], batch_first=True) for key in texts}
    return Prompts(**padded, **{key: torch.tensor(rows[key]) for key in rows if key not in texts})


@torch.no_grad()
def run(
    model: GPT2LMHeadModel,
    ids: Tensor,
    results: Mapping[HeadId, Tensor] | None = None,
    inputs: Mapping[InputId, Tensor] | None = None,
) -> Run:
    """One forward pass in which the given heads' results and inputs are replaced."""
    said, heads = Run(), model.config.n_head
    size = model.config.n_embd // heads

    def swap(flat: Tensor, keys: list[Any], given: Mapping[Any, Tensor] | None, seen: dict[Any, Tensor]) -> Tensor:
        parts = dict(zip(keys, torch.split(flat, size, dim=-1), strict=True))
        seen.update({key: (given or {}).get(key, part) for key, part in parts.items()})
        return torch.cat([seen[key] for key in keys], dim=-1)

    def attach(layer: int, attention: Any) -> list[Any]:
        of_inputs = [(part, layer, head) for part in ("query", "key", "value") for head in range(heads)]
        of_results = [(layer, head) for head in range(heads)]
        return [
            attention.c_attn.register_forward_hook(lambda _m, _i, joint: swap(joint, of_inputs, inputs, said.inputs)),
            attention.c_proj.register_forward_pre_hook(lambda _m, i: (swap(i[0], of_results, results, said.results),)),
        ]

    handles = [handle for layer, block in enumerate(model.transformer.h) for handle in attach(layer, block.attn)]
    handles.append(model.transformer.ln_f.register_forward_pre_hook(lambda _m, i: setattr(said, "last", i[0])))
    try:
        output = model(ids, output_attentions=True, output_hidden_states=True)
    finally:
        for handle in handles:
            handle.remove()
    said.logits, said.states, said.attention = output.logits, output.hidden_states, output.attentions
    return said


def logit_difference(prompts: Prompts, logits: Tensor) -> Tensor:
    """Logit of the right name minus that of the wrong one, at the end of each prompt."""
    each = torch.arange(len(prompts.end))
    at_end = logits[each, prompts.end]
    return at_end[each, prompts.right] - at_end[each, prompts.wrong]


def attention(prompts: Prompts, said: Run, head: HeadId, query: Tensor, key: Tensor) -> Tensor:
    return said.attention[head[0]][torch.arange(len(prompts.end)), head[1], query, key]


def template_means(prompts: Prompts, results: Mapping[HeadId, Tensor]) -> dict[HeadId, Tensor]:
    """Each head's results averaged over the prompts of the same template: what a mean ablation puts in their place."""
    means = {}
    for head, value in results.items():
        means[head] = value.clone()
        for template in set(prompts.template.tolist()):
            same = prompts.template == template
            means[head][same] = value[same].mean(dim=0)
    return means


def output_matrix(model: GPT2LMHeadModel, head: HeadId) -> Tensor:
    size = model.config.n_embd // model.config.n_head
    weight: Tensor = model.transformer.h[head[0]].attn.c_proj.weight
    return weight[head[1] * size : (head[1] + 1) * size].detach()  # [d_head, d_model]


def value_matrix(model: GPT2LMHeadModel, head: HeadId) -> Tensor:
    width = model.config.n_embd
    size = width // model.config.n_head
    start = 2 * width + head[1] * size
    weight: Tensor = model.transformer.h[head[0]].attn.c_attn.weight
    return weight[:, start : start + size].detach()  # [d_model, d_head]


@torch.no_grad()
def copy_score(model: GPT2LMHeadModel, prompts: Prompts, said: Run, head: HeadId, sign: float = 1.0) -> float:
    """How often a name is among the five that the head's OV circuit raises most when it reads that name."""
    each, hits = torch.arange(len(prompts.end)), []
    circuit = sign * value_matrix(model, head) @ output_matrix(model, head)
    for places, token in ((prompts.indirect_object, prompts.right), (prompts.s1, prompts.wrong)):
        names = said.states[1][each, places]  # after block 0
        written = model.transformer.h[1].ln_1(names) @ circuit
        top = model.lm_head(model.transformer.ln_f(written)).topk(5).indices
        hits.append((top == token[:, None]).any(dim=1))
    return float(torch.cat(hits).float().mean())


@torch.no_grad()
def direct_effect(model: GPT2LMHeadModel, prompts: Prompts, clean: Run, other: Run, head: HeadId) -> float:
    """What the logit difference loses when the head tells the logits, and them alone, what it says counterfactually."""
    change = (other.results[head] - clean.results[head]) @ output_matrix(model, head)
    patched = model.lm_head(model.transformer.ln_f(clean.last + change))
    return float((logit_difference(prompts, clean.logits) - logit_difference(prompts, patched)).mean())
