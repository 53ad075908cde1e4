"""Sets of heads ablated the slow and obvious way, on Hugging Face's own modules, beside the project's own readings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from auditing import Audited, ioi
from naive_patching import NaivePatching, exact_softmax
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from circuit_assertions.heads import Head, parse_head
from circuit_assertions.measures import Reading
from circuit_assertions.tasks import Prompt, Task

Array = NDArray[np.float64]

TASK = ioi(prompts=12, templates=["Then, {first} and {second} had a lot of fun. {subject} said to"])
EVERYONE = tuple(Head(layer, head) for layer in range(3) for head in range(4))
SET = (Head(0, 1), Head(1, 0), Head(1, 3), Head(2, 2))


class Slow:
    """Prompts of one length on a raw model, with heads replaced by one hooked pass a set."""

    def __init__(self, folder: Path, prompts: Sequence[Prompt]) -> None:
        self.prompts = prompts
        self._known: dict[tuple[str, frozenset[Head]], Array] = {}
        with exact_softmax():
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
            self.patching = NaivePatching(
                model.eval(),
                torch.tensor([prompt.tokens for prompt in prompts]),
                torch.tensor([prompt.counterfactual for prompt in prompts]),
                torch.tensor([prompt.right.token for prompt in prompts]),
                torch.tensor([prompt.wrong.token for prompt in prompts]),
            )

    @property
    def whole(self) -> Array:
        """Logit difference of the whole model [prompts]."""
        difference: Array = self.patching.difference(self.patching.clean.logits).numpy()
        return difference

    def alone(self, heads: Iterable[Head], ablation: str) -> Array:
        """Logit difference with every other head replaced [prompts]."""
        return self.without(set(EVERYONE) - set(heads), ablation)

    def without(self, heads: Iterable[Head], ablation: str) -> Array:
        """Logit difference with some heads replaced together [prompts]."""
        key = (ablation, frozenset(heads))
        if key not in self._known:
            self._known[key] = self._run(key[1], ablation)
        return self._known[key]

    def gap(self, circuit: Iterable[Head], removed: Iterable[Head], ablation: str) -> float:
        """|F(C\\K) - F(M\\K)| over F(M)."""
        left = self.alone(set(circuit) - set(removed), ablation) - self.without(removed, ablation)
        return float(abs(left.mean() / self.whole.mean()))

    def loss(self, circuit: Iterable[Head], removed: Iterable[Head], head: Head, ablation: str) -> float:
        """|F(C\\(K and v)) - F(C\\K)| over F(M)."""
        kept = set(circuit) - set(removed)
        left = self.alone(kept - {head}, ablation) - self.alone(kept, ablation)
        return float(abs(left.mean() / self.whole.mean()))

    def _run(self, heads: frozenset[Head], ablation: str) -> Array:
        slow, templates = self.patching, [prompt.template for prompt in self.prompts]
        with exact_softmax(), contextlib.ExitStack() as stack:
            for layer, block in enumerate(slow.blocks):
                mine = [head.head for head in heads if head.layer == layer]
                if not mine:
                    continue

                def replaced(_: Any, inputs: Any, layer: int = layer, block: Any = block, mine: Any = mine) -> Any:
                    live, twins = inputs[0].clone(), slow.heads(block, slow.other.z[layer])
                    into = slow.heads(block, live)  # [prompts, positions, heads, d_head]
                    for row, template in enumerate(templates):
                        alike = [other for other, name in enumerate(templates) if name == template]
                        zero = torch.zeros_like(twins[row])
                        value = {"mean": twins[alike].mean(0), "resample": twins[row], "zero": zero}
                        into[row][:, mine] = value[ablation][:, mine]
                    return (live, *inputs[1:])

                stack.callback(slow.output(block).register_forward_pre_hook(replaced).remove)
            left: Array = slow.difference(slow.keep(slow.tokens).logits).numpy()
        return left


class Both:
    """One tiny model, read by the project and slowly."""

    def __init__(self, folder: Path, task: Task = TASK) -> None:
        self.folder, self.task = folder, task
        self.fast = Audited(folder, "float64")
        self.prompts = self.fast.audit.prompts(task, self.fast.checkpoint)
        self.slow = Slow(folder, self.prompts.prompts)

    def read(self, measure: str, heads: Sequence[Head] = (), **operands: Any) -> Reading:
        """A reading of a set of heads, or of the model where none is given."""
        given = {name.replace("_", "-"): value for name, value in operands.items()}
        with exact_softmax():
            return self.fast.read(measure, self.task, **({"set": tuple(heads)} if heads else {}), **given)


def subsets(heads: Iterable[Head]) -> Iterator[frozenset[Head]]:
    """Every subset, the empty one and the whole included."""
    ordered = sorted(heads)
    return map(frozenset, chain.from_iterable(combinations(ordered, size) for size in range(len(ordered) + 1)))


def named(text: str) -> frozenset[Head]:
    """The heads of a K as a reading names them."""
    return frozenset() if text == "no head" else frozenset(parse_head(name) for name in text.split(", "))
