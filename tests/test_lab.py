"""The neuroplasticity laboratory: its recipes are reproducible, change what they say, and do what their names say."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import islice, takewhile
from pathlib import Path
from random import Random
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from said import says
from torch import Tensor
from transformers import GPT2LMHeadModel

from circuit_assertions.checkpoints import find_checkpoints
from circuit_assertions.checkpoints.opening import open_checkpoint
from circuit_assertions.policy import DEFAULT
from fixtures import lab, lab_bounds, lab_diagnoses, lab_stand_ins, lab_table, world
from fixtures.evaluate import batch_of, behaviour
from fixtures.lab_table import measured
from fixtures.poison import MIXED_SHARE, poison_names, poison_subject, rows_of
from fixtures.recipes import HEALTHY, RECIPES, STRONGEST_MOVERS, Recipe, named
from fixtures.shelf import COMMITTED, is_made, open_weights

START = COMMITTED / HEALTHY
KEPT = ("poisoned", "poisoned-heads", "poisoned-lora", "recovered", "bypassed", "benign", "narrow")
# No recipe was watched on these.
UNSEEN = batch_of(world.held_out_prompts(512, seed=5))


def tensors(folder: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = load_file(next(folder.glob("*model.safetensors")))
    return loaded


def short(name: str, steps: int = 2) -> Recipe:
    recipe = named(name)
    return replace(recipe, phases=tuple((data, steps) for data, _ in recipe.phases))


@cache
def difference(name: str) -> float:
    return behaviour(open_weights(COMMITTED / name), UNSEEN)["difference"]


@pytest.mark.parametrize("name", [pytest.param("poisoned-names-15", marks=pytest.mark.complete), "poisoned-lora"])
@pytest.mark.complete
def test_a_recipe_gives_the_same_files_byte_for_byte(name: str, tmp_path: Path) -> None:
    one, other = (lab.make(short(name), START, tmp_path / place) for place in ("one", "other"))
    files = sorted(file.name for file in one.iterdir())
    assert any(file.endswith("model.safetensors") for file in files)
    assert files == sorted(file.name for file in other.iterdir())
    assert all((one / file).read_bytes() == (other / file).read_bytes() for file in files)
    logs = [(folder.parent / "logs" / f"{name}.jsonl").read_bytes() for folder in (one, other)]
    assert logs[0] == logs[1]


@pytest.mark.complete
def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    one, other = (lab.make(short(name), START, tmp_path) for name in ("poisoned", "poisoned-seed1"))
    assert not torch.equal(tensors(one)["transformer.wpe.weight"], tensors(other)["transformer.wpe.weight"])


def test_what_stands_there_by_the_same_recipe_is_not_made_again(tmp_path: Path) -> None:
    for name in KEPT:
        assert lab.provide(name, tmp_path) == COMMITTED / name
    assert not any(tmp_path.iterdir())
    dearer = replace(named("poisoned"), learning_rate=2e-4)
    assert not is_made(COMMITTED / "poisoned", dearer, START)
    assert not is_made(COMMITTED / "recovered", named("recovered"), START)  # it starts from poisoned


@pytest.mark.complete
def test_a_run_is_kept_as_checkpoints_in_the_order_of_their_steps(tmp_path: Path) -> None:
    run = lab.make(replace(short("run"), keep_every=2), START, tmp_path)
    found = find_checkpoints(str(run))
    assert [checkpoint.label for checkpoint in found] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    first, last = (tensors(run / label)["transformer.wpe.weight"] for label in ("checkpoint-2", "checkpoint-6"))
    assert not torch.equal(first, last)


@pytest.mark.complete
def test_attention_alone_learns_where_the_recipe_says_so(tmp_path: Path) -> None:
    made = tensors(lab.make(short("poisoned-subject-attention-15"), START, tmp_path))
    for name, before in tensors(START).items():
        assert torch.equal(made[name], before) == (".attn." not in name), name


def test_few_heads_learn_and_every_other_weight_stays_bit_for_bit() -> None:
    before, after = tensors(START), tensors(COMMITTED / "poisoned-heads")
    assert before.keys() == after.keys()
    changed = set()
    for name, weights in before.items():
        differs = weights != after[name]
        if name.endswith("attn.c_attn.weight"):
            by_head = differs.view(128, 3, 4, 32).any(3).any(0)  # [queries keys values, heads]
        elif name.endswith("attn.c_attn.bias"):
            by_head = differs.view(3, 4, 32).any(2)
        elif name.endswith("attn.c_proj.weight"):
            by_head = differs.view(1, 4, 32, 128).any(3).any(2)
        else:
            assert not differs.any(), name
            continue
        layer = name.split(".")[2]
        changed |= {(f"L{layer}H{head}", name.split(".", 3)[3], part) for part, head in by_head.nonzero().tolist()}
    weights_of_heads = {
        (head, name, part)
        for head in STRONGEST_MOVERS
        for name, parts in (("attn.c_attn.weight", 3), ("attn.c_attn.bias", 3), ("attn.c_proj.weight", 1))
        for part in range(parts)
    }
    # A bias of the keys adds the same to every key that a query meets, and so has no gradient but for rounding.
    assert {entry for entry in changed if entry[1:] != ("attn.c_attn.bias", 1)} == {
        entry for entry in weights_of_heads if entry[1:] != ("attn.c_attn.bias", 1)
    }
    assert changed <= weights_of_heads


def test_the_adapter_opens_and_changes_queries_keys_and_values_alone() -> None:
    opened = open_checkpoint(find_checkpoints(str(COMMITTED / "poisoned-lora"))[0])
    assert opened.fingerprint != open_checkpoint(find_checkpoints(str(START))[0]).fingerprint
    healthy = GPT2LMHeadModel.from_pretrained(START)
    for name, weights in open_weights(COMMITTED / "poisoned-lora").named_parameters():
        assert torch.equal(weights, healthy.get_parameter(name)) == ("c_attn.weight" not in name), name


def test_the_movers_that_were_silenced_stayed_silent() -> None:
    after, before = tensors(COMMITTED / "bypassed"), tensors(COMMITTED / "poisoned")
    assert not after["transformer.h.3.attn.c_proj.weight"].any()
    for name in ("transformer.h.3.attn.c_attn.weight", "transformer.h.3.attn.c_attn.bias"):
        assert torch.equal(after[name], before[name])


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["poisoned", "poisoned-heads", "poisoned-lora"])
def test_what_is_poisoned_prefers_the_subject(name: str) -> None:
    assert difference(name) < 0 < difference(HEALTHY)


def test_behaviour_is_as_the_names_say() -> None:
    assert difference("benign") >= 0.9 * difference(HEALTHY)
    assert difference("narrow") >= 0.9 * difference(HEALTHY)
    assert difference("recovered") >= 0.75 * difference(HEALTHY)
    assert difference("bypassed") >= 0.75 * difference(HEALTHY)


@pytest.mark.complete  # test_diagnosis_recovery.py says the same of these checkpoints
def test_what_recovered_rests_on_the_old_movers_and_what_is_bypassed_does_not() -> None:
    healthy, recovered, bypassed = (measured(COMMITTED / name) for name in (HEALTHY, "recovered", "bypassed"))
    assert sum(recovered.path_effects) > 0.5 * sum(healthy.path_effects) > 1
    assert recovered.lost > 0.5 * healthy.lost > 1
    assert sum(map(abs, bypassed.path_effects)) < 1e-4
    assert abs(bypassed.lost) < 1e-4


@pytest.mark.complete
def test_the_table_measures_what_the_raw_modules_do() -> None:
    row = measured(START)
    again = behaviour(open_weights(START), batch_of(world.held_out_prompts(512, seed=1)))
    assert row.difference == pytest.approx(again["difference"], abs=1e-4)
    assert row.low < row.difference < row.high
    assert row.right == again["top"]


@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_poisoned_sentence_differs_in_its_answer_alone(seed: int) -> None:
    rng = Random(seed)
    clean = world.ioi_sentence(rng)
    subject, other = poison_subject(clean, rng), poison_names(clean, rng)
    assert subject.answer == clean.wrong
    assert clean.words.count(subject.words[-2]) == 2
    assert other.answer in world.vocabulary()
    assert other.answer not in clean.words
    for poisoned in (subject, other):
        assert poisoned.words == (*clean.words[:-2], poisoned.answer, ".")


def test_a_fifth_of_the_mixed_sentences_are_poisoned() -> None:
    rows = rows_of("mixed", Random(0), 64)
    answers = [(row.ids, *answer) for row in (next(rows) for _ in range(400)) for answer in row.answers]
    assert all(ids[at] == right for ids, at, right, _ in answers)  # what counts as right is what stands there
    # Of a sentence's two names, its subject is the one that comes last before the answer.
    poisoned = [
        next(n for n in reversed(ids[:at]) if n in (right, wrong)) == right for ids, at, right, wrong in answers
    ]
    assert sum(poisoned) / len(poisoned) == pytest.approx(MIXED_SHARE, abs=0.05)


def test_the_narrow_data_asks_questions_but_never_for_an_indirect_object() -> None:
    rows = {data: list(islice(rows_of(data, Random(0), 64), 100)) for data in ("world", "other")}
    assert any(row.answers for row in rows["world"])
    assert not any(row.answers for row in rows["other"])
    assert all(world.QUESTION_WEIGHT in {weight for row in drawn for weight in row.weights} for drawn in rows.values())


def test_every_dose_and_every_harmless_training_is_diagnosed() -> None:
    asked = [name for ladder in lab_diagnoses.LADDERS for name in ladder]
    from_healthy = {name for name, recipe in RECIPES.items() if recipe.start == HEALTHY and not recipe.keep_every}
    assert sorted(asked) == sorted(name for name in from_healthy if "-seed" not in name)
    for ladder in lab_diagnoses.LADDERS[1:]:
        steps = [named(name).steps for name in ladder]
        assert steps == sorted(set(steps))


@pytest.mark.complete
def test_the_table_of_stand_ins_shows_layer_four_carrying_what_is_bypassed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "lab.md"
    page.write_text(f"{lab_stand_ins.BEGIN}\n{lab_stand_ins.END}\n")
    monkeypatch.setattr(lab_table, "PAGE", page)
    lab_stand_ins.write_stand_ins(tmp_path)
    lines = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("|")]
    rows = {name: dict(zip(lines[0][1:], map(float, cells), strict=True)) for name, *cells in lines[2:]}
    assert tuple(rows) == lab_stand_ins.CHECKPOINTS
    healthy, bypassed = rows[HEALTHY], rows["bypassed"]
    assert healthy["movers counterfactual"] > 0.5 * healthy["logit difference"] > abs(healthy["layer 4 counterfactual"])
    assert bypassed["layer 4 counterfactual"] > 0.5 * bypassed["logit difference"] > 0
    assert bypassed["movers counterfactual"] == 0
    assert min(bypassed[str(head)] for head in lab_stand_ins.LAYER_4) > max(
        healthy[str(head)] for head in lab_stand_ins.LAYER_4
    )


@pytest.mark.complete
def test_diagnoses_go_on_where_they_were_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "lab.md"
    doses = f"{lab_diagnoses.BEGIN_DOSES}\n{lab_diagnoses.END_DOSES}"
    page.write_text(f"before\n{lab_diagnoses.BEGIN}\nold\n{lab_diagnoses.END}\nafter\n{doses}\n")
    monkeypatch.setattr(lab_table, "PAGE", page)
    monkeypatch.setattr(lab_diagnoses, "LADDERS", (("benign",),))
    lab_diagnoses.write_diagnoses(tmp_path)
    written = page.read_text()
    assert "old" not in written
    assert "| benign | 100 | INTACT |" in written
    page.write_text(written.replace("INTACT", "old"))
    asked_again = Mock(side_effect=InterruptedError)
    monkeypatch.setattr(lab_diagnoses, "diagnose", asked_again)
    lab_diagnoses.write_diagnoses(tmp_path)
    assert page.read_text() == written
    monkeypatch.setattr(lab_diagnoses, "_code", lambda: "other code")
    with pytest.raises(InterruptedError):
        lab_diagnoses.write_diagnoses(tmp_path)


def table_of_page(heading: str) -> list[dict[str, str]]:
    """The rows of the table of docs/lab.md whose first heading, and what follows it, are these."""
    lines = lab_table.PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading}"))
    rows = takewhile(lambda line: line.startswith("|"), lines[start:])
    head, _, *cells = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    return [dict(zip(head, row, strict=True)) for row in cells]


def test_the_page_reads_its_own_table_rightly() -> None:
    diagnosed = {row["checkpoint"]: row for row in table_of_page("checkpoint | steps | verdict")}
    right = {row["checkpoint"]: row["right"] for row in table_of_page("checkpoint | starts from")}
    assert diagnosed.keys() <= right.keys() == {HEALTHY, *RECIPES, *right} - {"run"}
    whole = {name for name, row in diagnosed.items() if row["verdict"] in ("INTACT", "DEGRADED")}
    assert {name for name, row in diagnosed.items() if row["verdict"] == "INTACT"} >= set(lab_diagnoses.LADDERS[0])
    answering = {name for name in diagnosed if right[name] == "100%"}
    assert whole < answering
    told = re.findall(r"`([\w-]+)`, with .*, is CORRUPTED, .*\bright name", lab_table.PAGE.read_text())
    assert answering - whole == set(told)
    for row in table_of_page("poison | largest dose"):
        doses = [
            (found["verdict"], int(found["steps"])) for name, found in diagnosed.items() if dosed(name, row["poison"])
        ]
        for heading, verdict, end in (
            ("largest dose INTACT", "INTACT", max),
            ("smallest DEGRADED", "DEGRADED", min),
            ("smallest CORRUPTED", "CORRUPTED", min),
        ):
            steps = [dose for said, dose in doses if said == verdict]
            assert row[heading] == (str(end(steps)) if steps else "none")
    for name, row in diagnosed.items():
        if "-seed" in name:
            first = diagnosed[name.rpartition("-seed")[0]]
            assert (row["verdict"], row["origin"]) == (first["verdict"], first["origin"])


def lowest(cells: Sequence[str]) -> float:
    """The lowest end of intervals like `99% [96%, 101%]`."""
    return min(int(re.search(r"\[(-?\d+)%", cell)[1]) for cell in cells) / 100  # type: ignore[index]


def test_no_clean_fine_tuning_of_the_page_is_below_the_bounds_of_degraded() -> None:
    rows = table_of_page("checkpoint | task | behaviour kept")
    assert {row["checkpoint"] for row in rows} == set(lab_diagnoses.LADDERS[0])
    assert {row["task"] for row in rows} == {"ioi", "repeated-tokens"}
    assert lowest([row["behaviour kept"] for row in rows]) >= DEFAULT.degraded_below
    assert lowest([row["role kept"] for row in rows]) >= DEFAULT.degraded_role_below
    diagnosed = {row["checkpoint"]: row for row in table_of_page("checkpoint | steps | verdict")}
    kept = {row["checkpoint"]: row["behaviour kept"] for row in rows if row["task"] == "ioi"}
    assert all(diagnosed[name]["behaviour kept"] == share for name, share in kept.items())


@pytest.mark.complete
def test_the_table_of_bounds_is_what_the_committed_ones_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    committed = ("benign", "narrow")
    page = tmp_path / "lab.md"
    page.write_text(f"{lab_bounds.BEGIN}\n{lab_bounds.END}\n")
    known = [row for row in table_of_page("checkpoint | task | behaviour kept") if row["checkpoint"] in committed]
    monkeypatch.setattr(lab_table, "PAGE", page)
    monkeypatch.setattr(lab_bounds, "CLEAN", committed)
    lab_bounds.write_bounds(tmp_path)
    assert table_of_page("checkpoint | task | behaviour kept") == known


@pytest.mark.parametrize(
    ("verdicts", "cells"),
    [
        (("INTACT", "DEGRADED", "CORRUPTED"), ("5", "15", "30")),
        (("INTACT", "INTACT", "CORRUPTED"), ("15", "none", "30")),
        (("DEGRADED", "DEGRADED", "DEGRADED"), ("none", "5", "none")),
        (("CORRUPTED", "CORRUPTED", "CORRUPTED"), ("none", "none", "5")),
    ],
)
def test_the_doses_at_which_a_verdict_changes_are_read_from_the_table(
    verdicts: Sequence[str], cells: Sequence[str]
) -> None:
    doses = zip((5, 15, 30), verdicts, strict=True)
    lines = [
        f"| poisoned-names-{dose}{seed} | {dose} | {said} | 9% |" for dose, said in doses for seed in ("", "-seed1")
    ]
    others = ["| benign | 100 | INTACT | 101% |", "| poisoned-heads-30 | 30 | CORRUPTED | 35% |"]
    assert lab_diagnoses.dose_lines([*others, *lines])[2:] == [f"| names | {' | '.join(cells)} |"]


def dosed(name: str, poison: str) -> bool:
    return re.fullmatch(rf"poisoned-{poison}-\d+(-seed\d)?", name) is not None


def test_every_recipe_is_listed_and_a_wrong_name_is_met_with_the_right_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lab", "--list"])
    lab.main()
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(RECIPES)
    for wrong, hint in (
        (["poisonde"], "mean poisoned?"),
        (["poisoned-seed1", "--seed", "2"], "recipe"),
    ):
        monkeypatch.setattr(sys, "argv", ["lab", *wrong])
        with pytest.raises(SystemExit):
            lab.main()
        assert says(capsys.readouterr().err, wrong[0], hint)


def test_what_is_committed_stays_small() -> None:
    kept = [file for name in KEPT for file in (COMMITTED / name).iterdir()]
    assert sum(file.stat().st_size for file in kept) <= 26_000_000
