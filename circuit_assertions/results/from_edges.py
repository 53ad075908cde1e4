"""The result of the `edges` verb, from the scored edges."""

from __future__ import annotations

import re
from collections.abc import Sequence

from circuit_assertions.components import Mlp, Residual
from circuit_assertions.diagnosis.edges import FoundEdges
from circuit_assertions.engine.edges import EdgeReceiver, EdgeSender, Input
from circuit_assertions.measures.kinds.edges import Edge
from circuit_assertions.results.edges import EdgeScored, EdgesResult
from circuit_assertions.results.values import CheckpointFacts

__all__ = ["edges_result"]

_WORDS = {"q": "query", "k": "key", "v": "value"}


def edges_result(found: FoundEdges, most: int) -> EdgesResult:
    """The result with the strongest edges.

    Args:
        most: how many edges are kept.
    """
    prompts = found.prompts
    return EdgesResult(
        checkpoint=str(found.checkpoint),
        model=CheckpointFacts.of(found.model.source.checkpoint, found.model.opened()),
        called=found.called,
        task=dict(prompts.settings),
        token_hash=prompts.token_hash,
        balance=prompts.balance,
        prompts=len(prompts),
        steps=found.steps,
        unit=found.unit,
        edges_of_model=len(found.edges),
        edges=tuple(
            EdgeScored(
                sender=_name(edge.sender),
                receiver=_name(edge.receiver),
                mostly_at=edge.at,
                score=edge.score,
                share=edge.share,
            )
            for edge in found.edges[:most]
        ),
        to_confirm=_assertion(found.edges, found.called),
    )


def _assertion(edges: Sequence[Edge], task: str) -> tuple[str, ...]:
    """What a suite says of the strongest edge that path-effect measures: not of the embedding, not into MLPs."""
    edge = next(edge for edge in edges if not isinstance(edge.sender, Residual) and not isinstance(edge.receiver, Mlp))
    receiver = _name(edge.receiver)
    if isinstance(edge.receiver, Input):
        heads = ", ".join(map(str, edge.receiver.heads))
        receiver = f"{{{_WORDS[edge.receiver.which]}: [{heads}], at: {edge.at}}}"
    name = re.sub(r"\W+", "-", f"{edge.sender} to {_name(edge.receiver)}")
    sign = "positive" if edge.score > 0 else "negative"
    return (
        f"- {{id: {name}, task: {task}, measure: path-effect, components: [{edge.sender}],",
        f"   receiver: {receiver}, semantics: direct, expect: {{sign: {sign}}}}}",
    )


def _name(component: EdgeSender | EdgeReceiver) -> str:
    if isinstance(component, Residual):
        return "embedding"
    if isinstance(component, Input):
        return f"{_WORDS[component.which]} of {', '.join(map(str, component.heads))}"
    return str(component)
