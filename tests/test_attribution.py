"""Edge attribution against the model written out, against exact path effects, and for what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch
from naive_attribution import EMBEDDING, LOGITS, NaiveAttribution, Node, exact_floats, node_scores
from patching_cases import FURTHER, Both
from tiny_models import ARCHITECTURES
from torch import Tensor

from circuit_assertions.components import Mlp, Residual
from circuit_assertions.engine import MeasuringError
from circuit_assertions.engine.attribution import Attribution
from circuit_assertions.engine.cache import Run
from circuit_assertions.engine.edges import EdgeReceiver, EdgeSender
from circuit_assertions.engine.memory import VARIABLE
from circuit_assertions.heads import Head


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Both]:
    """A random model by the name of its shape, opened once for all tests."""

    @cache
    def by_name(name: str) -> Both:
        return Both(name, tmp_path_factory.mktemp("models"))

    return by_name


@pytest.fixture
def both(opened: Callable[[str], Both], request: pytest.FixtureRequest) -> Iterator[Both]:
    """One random model, computing in its own dtype throughout."""
    both = opened(request.param)
    assert both.slow.model is not None  # loaded before float32 is anything else
    with exact_floats():
        yield both


def shapes(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("both", names, indirect=True)


def node(component: EdgeSender | EdgeReceiver) -> Node:
    """A component as the naive implementation calls it; keys and values by their group."""
    if isinstance(component, str):
        return LOGITS
    if isinstance(component, Residual):
        return EMBEDDING
    if isinstance(component, Mlp):
        return ("mlp", component.layer, 0)
    if isinstance(component, Head):
        return ("head", component.layer, component.head)
    return (component.which, component.layer, component.heads[0].head // len(component.heads))


def off(got: Tensor, expected: Tensor) -> float:
    """The largest difference, in units of the largest expected score."""
    return float((got - expected).abs().max() / expected.abs().max())


@shapes("gpt2", "llama", "gpt-neox")
@pytest.mark.parametrize("steps", [1, 3])
def test_every_edge_is_that_of_the_model_written_out(both: Both, steps: int) -> None:
    raw = both.slow
    naive = NaiveAttribution(raw.model, raw.tokens, raw.twins, raw.right, raw.wrong)
    whole = raw.keep(raw.tokens).logits
    assert float((naive.clean.logits - whole).abs().max()) < 1e-12, "the model written out is not the model"
    expected = naive.scores(steps)
    edges = Attribution.of(both.fast, steps)
    graph = edges.graph
    (scores,) = edges.scores(graph.receivers)
    largest = max(float(score.abs().max()) for score in expected.values())
    assert largest > 1e-3
    seen = set()
    for row, sender in enumerate(graph.senders):
        for column, receiver in enumerate(graph.receivers):
            edge = (node(sender), node(receiver))
            score = expected.get(edge)
            assert (score is not None) == (row < graph.below(receiver)), f"{edge} is an edge in one of the two only"
            seen.add(edge)
            wanted = torch.zeros(len(raw.right)) if score is None else score
            assert float((scores[:, row, column] - wanted).abs().max()) < 1e-9 * largest, edge
    assert seen >= set(expected)


@shapes(*ARCHITECTURES, *FURTHER)
def test_the_edges_out_of_a_sender_add_up_to_its_gradient(both: Both) -> None:
    """In every block shape: nothing that reads a sender is left out, and nothing is counted twice."""
    raw = both.slow
    expected = node_scores(raw.model, raw.tokens, raw.twins, raw.right, raw.wrong)
    edges = Attribution.of(both.fast, 1)
    (scores,) = edges.scores(edges.graph.receivers)
    out = dict(zip(map(node, edges.graph.senders), scores.sum(dim=2).T, strict=True))
    # A norm on the attention output is taken as it is, not to first order: a head's change there is another.
    checked = [EMBEDDING] if both.model.layout.attention_post_norm(0) is not None else list(expected)
    got, wanted = (torch.stack([found[sender] for sender in checked]) for found in (out, expected))
    assert off(got, wanted) < 1e-9


@shapes(*ARCHITECTURES, *FURTHER)
def test_for_a_small_change_edges_are_exact_direct_path_effects(both: Both) -> None:
    pair, step = both.fast, 1e-5

    def nearly(mine: list[Tensor], theirs: list[Tensor]) -> list[Tensor]:
        return [own + step * (other - own) for own, other in zip(mine, theirs, strict=True)]

    base, other = pair.base, pair.other
    twin: Run = replace(
        other,
        head_outputs=nearly(base.head_outputs, other.head_outputs),
        mlp_writes=nearly(base.mlp_writes, other.mlp_writes),
    )
    near = replace(pair, other=twin)
    edges = Attribution.of(near, 1)
    senders = [sender for sender in edges.graph.senders if not isinstance(sender, Residual)]
    got = edges.scores(["logits"])[0, :, 1:, 0].T
    assert off(got, near.to_logits(senders, "direct")) < 1e-4
    for which in ("q", "k", "v"):
        for at in ("subject-2", "end")[which == "q" :]:  # queries elsewhere are read by nobody in the last layer
            receivers = [Head(2, 1)] if which == "q" else both.group(2)
            got = edges.scores(edges.graph.inputs(which, receivers), [at])[1, :, 1:, 0].T
            assert off(got, near.to_inputs(senders, which, receivers, at, "direct")) < 1e-3, (which, at)


@shapes("gpt2")
@pytest.mark.complete
def test_with_many_steps_the_edges_out_of_the_embedding_add_up_to_what_the_twins_change(both: Both) -> None:
    """The completeness of integrated gradients: the embedding is all in which the two runs differ."""
    pair = both.fast
    with torch.no_grad():
        changed = pair.difference - pair.difference_of(pair.at_end(pair.other.final))

    def error(steps: int) -> float:
        edges = Attribution.of(pair, steps)
        (scores,) = edges.scores(edges.graph.receivers)
        return float((scores[:, 0].sum(dim=1) - changed).abs().max() / changed.abs().max())

    few, many = error(8), error(64)
    assert many < 0.05
    assert many < few / 4  # a sum of rectangles: the error falls as the steps do


@shapes("llama")
def test_a_receiver_scores_the_same_alone_and_among_others_and_in_pieces(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges = Attribution.of(both.fast, 2)
    chosen = (edges.graph.receivers[-1], edges.graph.receivers[5], edges.graph.receivers[-2])
    together = edges.scores(edges.graph.receivers, ["end", "subject-2"])
    columns = [edges.graph.receivers.index(receiver) for receiver in chosen]
    monkeypatch.setenv(VARIABLE, "1B")  # a prompt at a time
    alone = edges.scores(chosen, ["end", "subject-2"])
    assert torch.allclose(alone, together[..., columns], rtol=0, atol=1e-12)
    assert torch.allclose(alone[1, :, :, 0], alone[0, :, :, 0], rtol=0, atol=1e-12)  # logits are read at the end alone
    assert float(alone[2, :, :, 0].abs().max()) == 0.0


@shapes("gpt2")
def test_the_model_is_left_as_it_was(both: Both) -> None:
    bridge = both.model.bridge
    wanted = [parameter.requires_grad for parameter in bridge.parameters()]
    edges = Attribution.of(both.fast, 2)
    with torch.no_grad():
        scores = edges.scores(edges.graph.receivers)
    assert not scores.requires_grad
    assert [parameter.requires_grad for parameter in bridge.parameters()] == wanted
    assert all(parameter.grad is None for parameter in bridge.parameters())
    assert not any(point.fwd_hooks or point.bwd_hooks for point in bridge.hook_dict.values())
    runs = (both.fast.base, both.fast.other)
    assert not any(tensor.requires_grad for run in runs for tensor in (run.final, *run.residual, *run.mlp_writes))


@shapes("llama")
def test_keys_of_some_heads_of_a_group_are_no_receiver(both: Both) -> None:
    graph = Attribution.of(both.fast, 1).graph
    with pytest.raises(MeasuringError, match=r"\b2\b.*\bgroup\b"):
        graph.inputs("k", [Head(1, 0)])
    assert [receiver.heads for receiver in graph.inputs("k", [Head(1, 1), Head(1, 0)])] == [(Head(1, 0), Head(1, 1))]


@shapes("gpt2")
def test_a_model_that_is_measured_with_hooks_is_refused_with_the_way_out(both: Both) -> None:
    with pytest.raises(MeasuringError, match="path-effect"):
        Attribution.of(both.hooked, 1)
