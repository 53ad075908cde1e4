"""What is read while heads are knocked out: equal to hooks on Hugging Face's own modules, and how backups show."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from auditing import Audited, ioi
from naive import Naive, Seen
from naive_patching import exact_softmax
from reference_model import CAST
from said import says
from suite_texts import circuit_text, write
from tiny_models import save_tiny
from torch import Tensor

from circuit_assertions.assertions import SuiteError, Verdict, load_suite
from circuit_assertions.assertions.loading import load_circuits
from circuit_assertions.assertions.runner import NotApplicable, PlannedAssertion, SuiteRunner
from circuit_assertions.assertions.verdicts import Judgement
from circuit_assertions.engine import Layout, MeasuringError
from circuit_assertions.heads import Head
from circuit_assertions.request import Request
from circuit_assertions.tasks import Prompt, PromptSet
from circuit_assertions.tasks.words import TEMPLATES

TASK = ioi(prompts=8, templates=[TEMPLATES[0], TEMPLATES[12]])
ASIDE = (Head(1, 2), Head(0, 1), Head(1, 0))
MOVERS, BACKUPS = (tuple(Head(*head) for head in CAST[f"{kind}name-mover"]) for kind in ("", "backup-"))


class Aside:
    """A tiny model with some heads knocked out, read by the project and slowly."""

    def __init__(self, folder: Path) -> None:
        self.fast = Audited(folder, "float64")
        self.prompts: PromptSet = self.fast.audit.prompts(TASK, self.fast.checkpoint)
        with exact_softmax():
            self.slow = Naive(folder, torch.float64)
            self.twins = [self.slow.see(prompt.counterfactual or ()).projected for prompt in self.prompts.prompts]

    def expected(self, read: Callable[[Seen, Prompt, tuple[int, int]], float]) -> np.ndarray[Any, Any]:
        """What is read of every head [prompts, heads]."""
        with exact_softmax():
            rows = []
            for prompt in self.prompts.prompts:
                with self._knocked_out(prompt):
                    seen = self.slow.see(prompt.tokens)
                rows.append([read(seen, prompt, head) for head in self.slow.every_head])
        return np.array(rows)

    def read(self, measure: str, without: tuple[Head, ...] = ASIDE, **operands: Any) -> np.ndarray[Any, Any]:
        with exact_softmax():
            return self.fast.read(measure, TASK, without=without, **operands).values

    @contextlib.contextmanager
    def _knocked_out(self, prompt: Prompt) -> Iterator[None]:
        alike = [
            twin
            for twin, other in zip(self.twins, self.prompts.prompts, strict=True)
            if other.template == prompt.template
        ]
        with contextlib.ExitStack() as stack:
            for layer in {head.layer for head in ASIDE}:
                mean = torch.stack([twin[layer] for twin in alike]).mean(0)  # [positions, heads * d_head]
                projection = attrgetter(self.slow.places.projection)(self.slow.blocks[layer])
                stack.callback(projection.register_forward_pre_hook(self._putting(layer, mean)).remove)
            yield

    def _putting(self, layer: int, mean: Tensor) -> Callable[[Any, Any], tuple[Tensor]]:
        def hook(_module: Any, inputs: Any) -> tuple[Tensor]:
            put = inputs[0].clone()
            into, source = (value.unflatten(-1, (self.slow.heads, -1)) for value in (put, mean))
            for head in (head.head for head in ASIDE if head.layer == layer):
                into[0, :, head] = source[:, head]
            return (put,)

        return hook


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma2", "gpt-neox"])
def aside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Aside:
    return Aside(save_tiny(tmp_path_factory.mktemp("model"), request.param))


def test_direct_effects_without_some_heads(aside: Aside) -> None:
    expected = aside.expected(
        lambda seen, prompt, head: aside.slow.direct_effect(seen, head, prompt.right.token, prompt.wrong.token)
    )
    np.testing.assert_allclose(aside.read("direct-effect"), expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_attention_without_some_heads(aside: Aside) -> None:
    def paid(seen: Seen, prompt: Prompt, head: tuple[int, int]) -> float:
        return aside.slow.attention(seen, head, prompt.positions["end"], prompt.positions["subject-2"])

    got = aside.read("attention", query="end", key="subject-2")
    np.testing.assert_allclose(got, aside.expected(paid), rtol=0, atol=1e-10)
    whole = aside.read("attention", without=(), query="end", key="subject-2")
    np.testing.assert_allclose(got[:, :4], whole[:, :4], rtol=0, atol=1e-10)  # nothing in block 0 reads a head
    assert np.abs(got[:, 8:] - whole[:, 8:]).max() > 1e-3


def test_with_and_without_are_read_together_as_apart(tiny_folder: Path) -> None:
    alone, together = Audited(tiny_folder, "float64"), Audited(tiny_folder, "float64")
    requests = [Request("direct-effect", TASK, (("without", heads),)) for heads in ((), ASIDE[:1], ASIDE)]
    together.plan(*requests)
    for request in requests:
        got, expected = (each.audit.read(request, each.checkpoint) for each in (together, alone))
        np.testing.assert_allclose(got.values, expected.values, rtol=0, atol=1e-12)
    assert got.settings["operands"]["without"] == "L1H2, L0H1, L1H0"


def test_without_name_movers_their_backups_and_nobody_else_push_the_answer(reference_folder: Path) -> None:
    reference = Audited(reference_folder)
    whole, left = (reference.read("direct-effect", TASK, **given) for given in ({}, {"without": MOVERS}))
    gained = dict(zip(whole.heads, (left.values - whole.values).mean(axis=0), strict=True))
    assert {head for head, gain in gained.items() if gain > 0.5} == set(BACKUPS)


@pytest.mark.usefixtures("opened_anew")
def test_heads_and_models_that_cannot_be_knocked_out(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MeasuringError, match=r"\bL3H0\b"):
        Audited(tiny_folder).read("direct-effect", TASK, without=(Head(3, 0),))
    weights = Layout.W_O
    monkeypatch.setattr(Layout, "W_O", lambda layout, layer: 1.01 * weights(layout, layer))
    damaged = Audited(tiny_folder)
    assert damaged.read("attention", TASK, query="end", key="subject-2").prompts == 8
    with pytest.raises(MeasuringError, match=r"\bwrites .*\bblock 0\b"):
        damaged.read("direct-effect", TASK, without=ASIDE)


HEADER = """\
suite: x
circuit: ioi
tasks:
  ioi: {kind: ioi, prompts: 64}
  own: {kind: prompts, pairs: [{clean: Then the, right: ring, wrong: bone}]}
assertions:
"""
ASKED = "measure: direct-effect, heads: backup-name-mover, without: name-mover, task: ioi"
LINE = f"  - {{id: a, {ASKED}, expect: {{at-least: 0.5}}}}"


def judged(project: Path, folder: Path, line: str) -> Judgement | NotApplicable:
    roles = {role: CAST[role] for role in ("name-mover", "backup-name-mover")}
    audited = Audited(folder)
    shape = audited.audit.model(audited.checkpoint).shape.plain()
    write(project, {"x.yaml": f"{HEADER}{line}\n", "circuits/x.yaml": circuit_text(shape, roles)})
    circuits = load_circuits(project / "circuits")
    suite = load_suite(project / "x.yaml", circuits)
    return SuiteRunner(audited.audit).judge(
        PlannedAssertion(suite, suite.suite.assertions[0], audited.checkpoint, circuits)
    )


@pytest.mark.complete
def test_a_suite_names_a_role_and_its_absence_shows_in_the_verdict(tmp_path: Path, reference_folder: Path) -> None:
    judgement = judged(tmp_path, reference_folder, LINE)
    assert isinstance(judgement, Judgement)
    assert judgement.verdict is Verdict.HELD
    assert judgement.reading.settings["operands"]["without"] == "L4H1, L4H3, L5H0"
    whole = judged(tmp_path, reference_folder, LINE.replace("without: name-mover, ", ""))
    assert isinstance(whole, Judgement)
    assert whole.verdict is Verdict.BROKEN


def test_a_role_that_the_circuit_does_not_bind_is_not_asked(tmp_path: Path, reference_folder: Path) -> None:
    answer = judged(tmp_path, reference_folder, LINE.replace("without: name-mover", "without: induction"))
    assert isinstance(answer, NotApplicable)
    assert says(answer.reason, "x.yaml", "induction")


@pytest.mark.parametrize(
    ("was", "said", "named"),
    [
        ("without: name-mover", "without: name-moover", ["role 'name-moover'", "'name-mover'"]),
        ("without: name-mover", "without: [9.1]", ["9.1"]),
        ("task: ioi", "task: own", ["counterfactual", "'own'"]),
        ("measure: direct-effect", "measure: path-effect", ["path-effect", "`without`"]),
        ("measure: direct-effect", "measure: copy-score", ["copy-score", "`without`"]),
    ],
)
def test_a_mistake_is_told_where_it_stands(tmp_path: Path, was: str, said: str, named: list[str]) -> None:
    text = LINE.replace(was, said)
    file = write(tmp_path, {"x.yaml": f"{HEADER}{text}\n"}) / "x.yaml"
    with pytest.raises(SuiteError) as raised:
        load_suite(file)
    (problem,) = str(raised.value).splitlines()
    place = text.index("without:") + 1
    assert problem.startswith((f"{file}:7:{place}: ", f"{file}:7:{place + len('without: [')}: "))
    assert says(problem, *named)
