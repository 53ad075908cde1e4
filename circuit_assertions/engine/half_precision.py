"""Runs of a model in half precision again, with what is small in float32: what its patched rows are compared with.

The model itself rounds the residual stream after every addition. Patched rows that are not rounded would differ from
that run where nothing is patched at all, and effects are differences.
"""

from __future__ import annotations

from collections.abc import Sequence

from circuit_assertions.engine.arithmetic import Block
from circuit_assertions.engine.cache import Run
from circuit_assertions.engine.module_calls import HALVES

__all__ = ["widened"]


def widened(blocks: Sequence[Block] | None, run: Run) -> Run:
    """The run as it is where the model is precise or its blocks are not known; else by arithmetic on float32 rows.

    Matrix products of the weights stay in the model's dtype. `mlp_inputs` are not kept.
    """
    if blocks is None or run.final.dtype not in HALVES:
        return run
    wide = Run(run.tokens, rotary=run.rotary)
    rows = run.residual[0].float()  # [prompts, positions, d_model]
    for block in blocks:
        pattern, z = block.attend(rows, run.rotary.get(block.layer))
        output = block.output(z)
        write = block.attention_write(output)
        middle = rows + write
        mlp = block.mlp_write(middle if block.reads == "middle" else rows)
        wide.residual.append(rows)
        wide.patterns.append(pattern)
        wide.head_outputs.append(z)
        wide.attention_outputs.append(output)
        wide.attention_writes.append(write)
        wide.mlp_writes.append(mlp)
        rows = middle + mlp
    wide.final = rows
    return wide
