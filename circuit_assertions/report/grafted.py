"""The result of the `graft` verb as text: what was written, and the commands that judge it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from circuit_assertions.checkpoints.grafting import RECORD
from circuit_assertions.report.tables import Column, table
from circuit_assertions.results import GraftResult

__all__ = ["graft_lines"]


def graft_lines(result: GraftResult) -> list[str]:
    """What was written, and how to audit and diagnose it."""
    return table(list(_facts(result)), Column(least=10))


def _facts(result: GraftResult) -> Iterator[tuple[str, str]]:
    model, source = result.model.checkpoint, result.source.checkpoint
    yield "written", f"{result.folder}: {model} with {', '.join(result.components)} of {source}"
    if result.merged:
        yield "", f"{model} is an adapter: what was written is merged, a full checkpoint"
    if result.dequantized:
        yield "", "the weights are those of a GGUF file, written as safetensors in float32"
    if result.same_already:
        yield "", f"{', '.join(result.same_already)} had the same weights in both"
    if result.tokenizer is None:
        yield "", "without a tokenizer: neither of them has one"
    yield "", f"{RECORD} in it records what came from where"
    folder, baseline = shlex.quote(result.folder), shlex.quote(source)
    yield "audit", f"circuit-assertions audit {folder} --baseline={baseline}"
    yield "diagnose", f"circuit-assertions diagnose --model={folder} --baseline={baseline}"
