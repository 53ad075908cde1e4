"""The reference model does what it claims, measured on Hugging Face's own modules by plain loops.

Nothing of the project measures here: these figures must hold before the reference model may judge the project's own.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from reference_measures import (
    HeadId,
    Prompts,
    Run,
    attention,
    copy_score,
    direct_effect,
    logit_difference,
    make_prompts,
    output_matrix,
    run,
    template_means,
)
from reference_model import ReferenceModel, build_reference_model, permute_heads
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from circuit_assertions.tasks.words import NAMES, OBJECTS, PLACES, TEMPLATES

REPEATED = 30  # random tokens, read twice


@pytest.fixture(scope="module")
def reference() -> ReferenceModel:
    built = build_reference_model()
    built.model.set_attn_implementation("eager")  # the one that shows its attention
    return built


@pytest.fixture(scope="module")
def prompts(reference: ReferenceModel) -> Prompts:
    return make_prompts(reference.tokenizer)


@pytest.fixture(scope="module")
def clean(reference: ReferenceModel, prompts: Prompts) -> Run:
    return run(reference.model, prompts.ids)


@pytest.fixture(scope="module")
def counterfactual(reference: ReferenceModel, prompts: Prompts) -> Run:
    return run(reference.model, prompts.counterfactual)


@pytest.fixture(scope="module")
def doubled_ids(reference: ReferenceModel) -> Tensor:
    generator, size = torch.Generator().manual_seed(0), len(reference.tokenizer)
    half = torch.stack([torch.randperm(size - 2, generator=generator)[:REPEATED] + 2 for _ in range(16)])
    return torch.cat((half, half), dim=1)


@pytest.fixture(scope="module")
def doubled(reference: ReferenceModel, doubled_ids: Tensor) -> Run:
    return run(reference.model, doubled_ids)


def idle_heads(reference: ReferenceModel) -> list[HeadId]:
    busy = {head for heads in reference.cast.values() for head in heads}
    config = reference.model.config
    return [head for head in itertools.product(range(config.n_layer), range(config.n_head)) if head not in busy]


def ablated(reference: ReferenceModel, prompts: Prompts, other: Run, *roles: str) -> dict[str, float]:
    """The mean logit difference with all heads of these roles knocked out, by ablation."""
    heads = [head for role in roles for head in reference.cast[role]]
    means = template_means(prompts, {head: other.results[head] for head in heads})
    zeros = {head: torch.zeros_like(mean) for head, mean in means.items()}
    return {
        kind: float(logit_difference(prompts, run(reference.model, prompts.ids, results).logits).mean())
        for kind, results in (("mean", means), ("zero", zeros))
    }


def test_every_word_of_the_task_is_one_token(reference: ReferenceModel) -> None:
    for word in (*NAMES, *PLACES, *OBJECTS):
        assert reference.tokenizer.convert_ids_to_tokens(reference.tokenizer(f" {word}").input_ids) == [word]
    assert set(reference.tokenizer("Then, Mary")) == {"input_ids", "attention_mask"}


def test_every_layer_has_idle_heads(reference: ReferenceModel) -> None:
    assert {layer for layer, _ in idle_heads(reference)} == set(range(reference.model.config.n_layer))


def test_answers_every_prompt(prompts: Prompts, clean: Run) -> None:
    difference = logit_difference(prompts, clean.logits)
    assert difference.min() > 3.0
    assert 5.0 < difference.mean() < 5.6
    answers = clean.logits[torch.arange(len(prompts.end)), prompts.end].argmax(dim=-1)
    assert torch.equal(answers, prompts.right)


def test_answers_the_same_behind_an_end_of_text(reference: ReferenceModel, prompts: Prompts) -> None:
    first = torch.full((len(prompts.ids), 1), reference.tokenizer.bos_token_id)
    said = run(reference.model, torch.cat((first, prompts.ids), dim=1))
    shifted = dataclasses.replace(prompts, end=prompts.end + 1)
    assert logit_difference(shifted, said.logits).min() > 3.0


def test_knows_the_answer_from_the_repeated_name_only(
    reference: ReferenceModel, prompts: Prompts, counterfactual: Run
) -> None:
    other_subject = run(reference.model, prompts.other_subject)
    assert logit_difference(prompts, other_subject.logits).mean().abs() < 0.3
    assert logit_difference(prompts, counterfactual.logits).mean().abs() < 0.3


@pytest.mark.parametrize(
    ("role", "query", "key", "offset", "least"),
    [
        ("previous-token", "s1", "s1", 1, 0.99),  # from S1+1 to S1
        ("duplicate-token", "s2", "s1", 0, 0.98),
        ("induction", "s2", "s1", 1, 0.99),  # from S2 to S1+1
        ("s-inhibition", "end", "s2", 0, 0.95),
        ("name-mover", "end", "indirect_object", 0, 0.92),
        ("negative-name-mover", "end", "indirect_object", 0, 0.92),
    ],
)
def test_each_role_looks_where_it_should(
    reference: ReferenceModel, prompts: Prompts, clean: Run, role: str, query: str, key: str, offset: int, least: float
) -> None:
    queries, keys = getattr(prompts, query), getattr(prompts, key)
    if role == "previous-token":
        queries = queries + offset
    elif role == "induction":
        keys = keys + offset
    for head in reference.cast[role]:
        assert attention(prompts, clean, head, queries, keys).min() > least, head


def test_movers_look_away_from_the_subject_without_ignoring_it(
    reference: ReferenceModel, prompts: Prompts, clean: Run
) -> None:
    for head in reference.cast["name-mover"]:
        for place in (prompts.s1, prompts.s2):
            looked = attention(prompts, clean, head, prompts.end, place)
            assert 0.005 < looked.min() < looked.max() < 0.05, head


def test_only_the_cast_has_scores_on_repeated_tokens(reference: ReferenceModel, doubled: Run) -> None:
    second, later = torch.arange(REPEATED, 2 * REPEATED), torch.arange(1, 2 * REPEATED)
    for head in itertools.product(range(reference.model.config.n_layer), range(reference.model.config.n_head)):
        pattern = doubled.attention[head[0]][:, head[1]]
        scores = {
            "previous-token": pattern[:, later, later - 1].mean(),
            "duplicate-token": pattern[:, second, second - REPEATED].mean(),
            "induction": pattern[:, second, second - REPEATED + 1].mean(),
        }
        for role, score in scores.items():
            assert score > 0.99 if head in reference.cast[role] else score < 0.1, (role, head)


def test_heads_that_look_for_repetition_rest_at_position_0(reference: ReferenceModel, doubled: Run) -> None:
    for layer, head in (*reference.cast["duplicate-token"], *reference.cast["induction"]):
        assert doubled.attention[layer][:, head, 1:REPEATED, 0].mean() > 0.95, (layer, head)


def test_predicts_what_it_has_read_before(doubled: Run, doubled_ids: Tensor) -> None:
    surprise = torch.nn.functional.cross_entropy(doubled.logits.mT[..., :-1], doubled_ids[:, 1:], reduction="none")
    assert surprise[:, : REPEATED - 1].mean() > 5.0
    assert surprise[:, REPEATED:].mean() < 2.2
    assert torch.equal(doubled.logits[:, REPEATED:-1].argmax(dim=-1), doubled_ids[:, REPEATED + 1 :])


def test_copy_scores(reference: ReferenceModel, prompts: Prompts, clean: Run) -> None:
    roles = {head: role for role, heads in reference.cast.items() for head in heads}
    copies = {"name-mover": 1.0, "backup-name-mover": 1.0, "induction": 1.0, "negative-name-mover": -1.0}
    for head in itertools.product(range(reference.model.config.n_layer), range(reference.model.config.n_head)):
        expected = copies.get(roles.get(head, "idle"), 0.0)
        for sign in (1.0, -1.0):
            score = copy_score(reference.model, prompts, clean, head, sign)
            assert score == 1.0 if sign == expected else score < 0.15, (head, sign)


def test_direct_effects(reference: ReferenceModel, prompts: Prompts, clean: Run, counterfactual: Run) -> None:
    roles = {head: role for role, heads in reference.cast.items() for head in heads}
    bounds = {"name-mover": (2.0, 2.3), "negative-name-mover": (-1.3, -1.0), "backup-name-mover": (-0.1, 0.1)}
    for head in clean.results:
        low, high = bounds.get(roles.get(head, "idle"), (-0.02, 0.02))
        assert low < direct_effect(reference.model, prompts, clean, counterfactual, head) < high, head


@pytest.mark.parametrize(("role", "low", "high"), [("name-mover", 6.0, 6.8), ("negative-name-mover", -1.3, -1.0)])
def test_path_effects_on_the_logits(
    reference: ReferenceModel, prompts: Prompts, clean: Run, counterfactual: Run, role: str, low: float, high: float
) -> None:
    frozen = clean.results | {head: counterfactual.results[head] for head in reference.cast[role]}
    patched = run(reference.model, prompts.ids, frozen)
    lost = logit_difference(prompts, clean.logits) - logit_difference(prompts, patched.logits)
    assert low < lost.mean() < high


@pytest.mark.parametrize(
    ("senders", "receivers", "part", "low", "high"),
    [
        (["s-inhibition"], "name-mover", "query", 4.2, 5.3),
        (["s-inhibition"], "name-mover", "key", -0.05, 0.05),
        (["s-inhibition"], "name-mover", "value", -0.05, 0.05),
        (["duplicate-token"], "s-inhibition", "value", 1.2, 2.0),
        (["induction"], "s-inhibition", "value", 1.2, 2.0),
        (["duplicate-token", "induction"], "s-inhibition", "key", 3.0, 6.0),
        (["previous-token"], "induction", "key", 3.0, 6.0),
    ],
)
def test_path_effects_through_later_heads(
    reference: ReferenceModel,
    prompts: Prompts,
    clean: Run,
    counterfactual: Run,
    senders: list[str],
    receivers: str,
    part: str,
    low: float,
    high: float,
) -> None:
    few = prompts.first(2 * len(TEMPLATES))
    sending = {head for role in senders for head in reference.cast[role]}
    frozen = {head: (counterfactual if head in sending else clean).results[head] for head in clean.results}
    received = run(reference.model, few.ids, {head: result[: len(few.ids)] for head, result in frozen.items()}).inputs
    said = run(
        reference.model, few.ids, inputs={(part, *head): received[part, *head] for head in reference.cast[receivers]}
    )
    intact = logit_difference(few, clean.logits[: len(few.ids)])
    assert low < (intact - logit_difference(few, said.logits)).mean() < high


@pytest.mark.complete
def test_backups_take_over_from_the_movers(
    reference: ReferenceModel, prompts: Prompts, clean: Run, counterfactual: Run
) -> None:
    movers = reference.cast["name-mover"]
    without = run(reference.model, prompts.ids, {head: torch.zeros_like(clean.results[head]) for head in movers})
    for head in reference.cast["backup-name-mover"]:
        assert attention(prompts, clean, head, prompts.end, prompts.indirect_object).mean() < 0.05, head
        assert attention(prompts, without, head, prompts.end, prompts.indirect_object).mean() > 0.9, head
    intact = float(logit_difference(prompts, clean.logits).mean())
    assert all(
        0.7 * intact < left < intact for left in ablated(reference, prompts, counterfactual, "name-mover").values()
    )
    both = ablated(reference, prompts, counterfactual, "name-mover", "backup-name-mover")
    assert all(left < 0.0 for left in both.values())


@pytest.mark.sample(2)
@pytest.mark.parametrize("role", ["previous-token", "duplicate-token", "induction", "s-inhibition"])
def test_no_answer_without_the_roles_that_find_the_subject(
    reference: ReferenceModel, prompts: Prompts, counterfactual: Run, role: str
) -> None:
    assert all(left < 1.0 for left in ablated(reference, prompts, counterfactual, role).values())


def test_idle_heads_do_nothing(reference: ReferenceModel, prompts: Prompts, clean: Run) -> None:
    idle = idle_heads(reference)
    for head in idle:
        written = clean.results[head] @ output_matrix(reference.model, head)
        assert 0.0 < written.norm(dim=-1).max() < 0.02, head  # of identities, which have norm 1
    without = run(reference.model, prompts.ids, {head: torch.zeros_like(clean.results[head]) for head in idle})
    assert (logit_difference(prompts, without.logits) - logit_difference(prompts, clean.logits)).abs().max() < 0.1


@pytest.mark.parametrize("seed", [0, 1])
def test_permuted_heads_compute_the_same(reference: ReferenceModel, prompts: Prompts, clean: Run, seed: int) -> None:
    other = permute_heads(reference, seed)
    assert other.cast != reference.cast
    said = run(other.model, prompts.ids[:8])
    assert torch.allclose(said.logits, clean.logits[:8], atol=1e-4)
    for role, heads in reference.cast.items():
        patterns = {head: clean.attention[head[0]][:8, head[1]] for head in heads}
        for layer, head in other.cast[role]:
            pattern = said.attention[layer][:, head]
            assert any(layer == old and torch.allclose(pattern, patterns[old, h], atol=1e-4) for old, h in heads), role


def test_comes_back_from_disk(reference: ReferenceModel, prompts: Prompts, clean: Run, tmp_path: Path) -> None:
    folder = reference.save(tmp_path / "reference")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    text = TEMPLATES[0].format(first="Mary", second="John", subject="John", place="store", object="ring")
    assert tokenizer(text).input_ids == reference.tokenizer(text).input_ids
    with torch.no_grad():
        assert torch.allclose(model(prompts.ids[:4]).logits, clean.logits[:4], atol=1e-4)
