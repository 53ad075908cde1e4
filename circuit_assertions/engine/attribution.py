"""Edge attribution: every edge between two components scored at once, to first order. For triage, never for a verdict.

An edge runs from a sender's write to one receiver's own reading of the residual stream: a head's query, key or value
input, an MLP's input, the logits. Its score is the change of the sender's write between the two runs, times the
gradient of the answer metric with respect to what that receiver reads, before the receiver's norm. EAP takes the
gradient at the clean run (Syed et al. 2023, arXiv 2310.10348); EAP-IG averages it over `steps` points on the line from
the counterfactual's embeddings to the clean ones (Hanna et al. 2024, arXiv 2403.17806, EAP-IG-inputs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from circuit_assertions.engine.backends import AnyPatching
from circuit_assertions.engine.edges import EdgeGraph, EdgeReceiver, Input
from circuit_assertions.engine.errors import MeasuringError
from circuit_assertions.engine.layout import UNEMBED_INPUT
from circuit_assertions.engine.memory import budget, in_pieces
from circuit_assertions.engine.module_calls import apply_norm
from circuit_assertions.engine.patching import Patching
from circuit_assertions.tasks import END

__all__ = ["Attribution"]


class _Station(NamedTuple):
    """Receivers that one place in the model serves: the attention or the MLP of a layer, or the end.

    Attributes:
        columns: where the receivers stand among those that were asked for.
        below: how many senders, in their order, can reach them.
    """

    receivers: tuple[EdgeReceiver, ...]
    columns: list[int]
    below: int


@dataclass(frozen=True)
class Attribution:
    """Edge scores for the prompts of a captured pair of runs.

    Attributes:
        steps: points that gradients are averaged over; 1 is EAP.
    """

    patching: Patching
    steps: int

    @classmethod
    def of(cls, patching: AnyPatching, steps: int) -> Attribution:
        """Edge scores by as many steps.

        Raises:
            MeasuringError: if the model's blocks are not recognised: what a receiver reads is then not known.
        """
        if not isinstance(patching, Patching):
            raise MeasuringError(
                f"{patching.model.source.checkpoint} has blocks that are not recognised, so edges cannot be "
                f"approximated: path-effect measures its heads exactly, with hooks"
            )
        return cls(patching.towards("counterfactual-into-clean"), steps)

    @cached_property
    def graph(self) -> EdgeGraph:
        """The edges that this model has."""
        return EdgeGraph(self.patching.model.layout, self.patching.blocks)

    @torch.no_grad()
    def scores(self, receivers: Sequence[EdgeReceiver], labels: Sequence[str] = ()) -> Tensor:
        """Scores of the edges from every sender to these receivers [1 + labels, prompts, senders, receivers].

        Positive pushes towards the right answer: about what is lost of the answer metric when the edge carries the
        counterfactual's output. First summed over all positions, then at each labelled position alone. Where a sender
        stands above a receiver there is no edge, and the score is 0.

        A head's write is taken through the norm on the attention block's output, where there is one (Gemma 2 and 3):
        what the write changes by when this head alone carries the counterfactual's output.
        """
        prompts = len(self.patching.prompts)
        shape = (1 + len(labels), prompts, len(self.graph.senders), len(receivers))
        scores = self.patching.base.final.new_zeros(shape)
        for piece, fits in in_pieces(range(prompts), self._most):
            rows = slice(piece[0], piece[-1] + 1)
            with fits:
                scores[:, rows] = self._of_piece(rows, self._stations(receivers), scores[:, rows].shape, labels)
        return scores

    def _of_piece(
        self, rows: slice, stations: dict[tuple[int, str], _Station], shape: torch.Size, labels: Sequence[str]
    ) -> Tensor:
        changes = self._changes(rows)
        scores = changes.new_zeros(shape)  # [1 + labels, prompts, senders, receivers]
        places = [self.patching.positions(label)[rows] for label in labels]
        for step in range(1, self.steps + 1):
            for station, gradients in self._gradients(rows, step / self.steps, stations):
                reaching = changes[:, : station.below]
                products = [torch.einsum("pstm,prtm->psr", reaching, gradients)]
                for place in places:
                    at = torch.arange(len(place), device=place.device), slice(None), place
                    products.append(torch.einsum("psm,prm->psr", reaching[at], gradients[at]))
                for score, product in zip(scores, products, strict=True):
                    score[:, : station.below, station.columns] += product / self.steps
        return scores

    def _stations(self, receivers: Sequence[EdgeReceiver]) -> dict[tuple[int, str], _Station]:
        """The receivers by layer and kind, in the order of the model."""
        layers = self.patching.model.layout.layers
        found: dict[tuple[int, str], list[int]] = {}
        for column, receiver in enumerate(receivers):
            place = (layers, "logits") if isinstance(receiver, str) else (receiver.layer, type(receiver).__name__)
            found.setdefault(place, []).append(column)
        return {
            place: _Station(
                tuple(receivers[column] for column in columns), columns, self.graph.below(receivers[columns[0]])
            )
            for place, columns in sorted(found.items())
        }

    def _changes(self, rows: slice) -> Tensor:
        """Each sender's write in the clean run less that in the other [prompts, senders, positions, d_model]."""
        base, other, layout = self.patching.base, self.patching.other, self.patching.model.layout
        changes = [(base.residual[0][rows] - other.residual[0][rows])[:, None]]
        for layer, block in enumerate(self.patching.blocks):
            change = other.head_outputs[layer][rows] - base.head_outputs[layer][rows]
            written = torch.einsum("bphd,hdm->bhpm", change, layout.W_O(layer).to(change))
            outputs = base.attention_outputs[layer][rows, None] + written  # [prompts, heads, positions, d_model]
            changes.append(base.attention_writes[layer][rows, None] - block.attention_write(outputs))
            changes.append((base.mlp_writes[layer][rows] - other.mlp_writes[layer][rows])[:, None])
        return torch.cat(changes, dim=1)

    def _gradients(
        self, rows: slice, share: float, stations: dict[tuple[int, str], _Station]
    ) -> Iterator[tuple[_Station, Tensor]]:
        """Gradients of the answer metric with respect to what each receiver reads of the residual stream.

        Args:
            share: where the embeddings lie on the line from the counterfactual (0) to the clean run (1).

        Yields:
            a station, gradients [prompts, receivers, positions, d_model]
        """
        layout, precise = self.patching.model.layout, self.patching.base.final
        wanted = [name for (layer, kind) in stations for name in self._taps(layer, kind)]
        seen = self._run(rows, share, wanted)
        found = torch.autograd.grad(
            self._difference(rows, seen[layout.final_residual]), [seen[name] for name in wanted]
        )
        gradients = {name: gradient.to(precise) for name, gradient in zip(wanted, found, strict=True)}
        for (layer, kind), station in stations.items():
            if kind == "logits":
                yield station, gradients[layout.final_residual][:, None]
                continue
            block, before = self.patching.blocks[layer], seen[layout.residual_before(layer)].detach().to(precise)
            if kind == "Mlp":
                read = (
                    before + seen[layout.attention_write(layer)].detach().to(before)
                    if block.reads == "middle"
                    else before
                )
                norm = partial(apply_norm, block.mlp_norm)
                yield station, _before_norm(norm, read, gradients[layout.mlp_input(layer)][:, None])
            else:
                projected = torch.stack([self._of_input(receiver, gradients) for receiver in station.receivers], dim=1)
                yield station, _before_norm(block.normed, before, projected)

    def _taps(self, layer: int, kind: str) -> tuple[str, ...]:
        """The hooks whose values' gradients a kind of station is made of."""
        layout = self.patching.model.layout
        if kind == "logits":
            return (layout.final_residual,)
        return (layout.mlp_input(layer),) if kind == "Mlp" else tuple(layout.projected(layer, which) for which in "qkv")

    def _of_input(self, receiver: EdgeReceiver, gradients: dict[str, Tensor]) -> Tensor:
        """The gradient at what an input projects [prompts, positions, d_model], from that at what comes of it."""
        assert isinstance(receiver, Input)
        layout, (layer, head) = self.patching.model.layout, receiver.heads[0]
        group = head // len(receiver.heads)
        weights = layout.projection_weights(layer, receiver.which)[group]  # [d_model, d_head]
        received = gradients[layout.projected(layer, receiver.which)][:, :, group]  # [prompts, positions, d_head]
        return received @ weights.T.to(received)

    @torch.enable_grad()
    def _run(self, rows: slice, share: float, wanted: Sequence[str]) -> dict[str, Tensor]:
        """One forward pass from embeddings between the two runs, with its graph: what hooks saw, by their names."""
        pair, layout = self.patching, self.patching.model.layout
        clean, other = pair.base.residual[0][rows], pair.other.residual[0][rows]
        embeddings = (other + share * (clean - other)).requires_grad_()
        seen: dict[str, Tensor] = {}

        def keep(name: str) -> tuple[str, Callable[[Tensor, Any], Tensor]]:
            def hook(value: Tensor, hook: Any) -> Tensor:
                seen[name] = value.clone()  # others may read the same tensor; this one's gradient is the reader's alone
                return seen[name]

            return name, hook

        kept = {*wanted, layout.final_residual}
        for layer in range(layout.layers):
            kept |= {layout.residual_before(layer), layout.attention_write(layer)}
        start = (layout.residual_before(0), lambda value, hook: embeddings.to(value))
        end = (UNEMBED_INPUT, lambda value, hook: value[:, :1])
        layout.bridge.run_with_hooks(pair.base.tokens[rows], fwd_hooks=[start, *map(keep, sorted(kept)), end])
        return seen

    @torch.enable_grad()
    def _difference(self, rows: slice, final: Tensor) -> Tensor:
        """The answer metric at `end` of final rows [prompts, positions, d_model], summed over the prompts."""
        prompts, device = self.patching.prompts[rows], self.patching.model.device
        end = torch.tensor([prompt.positions[END] for prompt in prompts], device=device)
        at_end = final.to(device)[torch.arange(len(prompts), device=device), end]  # [prompts, d_model]
        return self.patching.model.readout.difference(at_end, prompts).sum()

    @property
    def _most(self) -> int:
        """Prompts whose changes, gradients of one layer and graph of a forward pass fit the budget."""
        layout, length = self.patching.model.layout, self.patching.base.positions
        width = len(self.graph.senders) + 4 * (3 * layout.heads + 1) + 24 * layout.layers
        each = length * (width * layout.d_model + 3 * layout.layers * layout.heads * length)
        final = self.patching.base.final
        return max(1, budget(final.device) // (final.element_size() * each))


def _before_norm(norm: Callable[[Tensor], Tensor], rows: Tensor, gradients: Tensor) -> Tensor:
    """Gradients at a norm's output pulled back to its input, which is the same for all receivers.

    Args:
        rows: what is normed [prompts, positions, d_model].
        gradients: [prompts, receivers, positions, d_model]
    """
    with torch.enable_grad():
        copies = rows[:, None].expand_as(gradients).clone().requires_grad_()
        (pulled,) = torch.autograd.grad(norm(copies), copies, gradients)
    return pulled
