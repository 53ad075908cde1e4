"""The result of the `masks` verb as text: the heads that carry each thing, and the penalties that were tried."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_assertions.printable import printable_lines
from circuit_assertions.report.explaining import share_text
from circuit_assertions.report.tables import Column, paragraph, table
from circuit_assertions.results import MasksResult
from circuit_assertions.results.masks import MaskFound

__all__ = ["masks_lines"]

_INDENT, _WIDTH = 9, 100


@printable_lines
def masks_lines(result: MasksResult) -> Iterator[str]:
    """One part for each thing that heads were to carry."""
    facts = result.model
    yield f"model    {result.checkpoint}: {facts.architecture}, {facts.layers} layers x {facts.heads} heads"
    yield f"task     {result.task['kind']}, {result.task['prompts']} prompts"
    for mask in result.masks:
        yield ""
        yield from _of(mask, result.unit)


def _of(mask: MaskFound, unit: str) -> Iterator[str]:
    search, choose, report = mask.prompts
    said = [
        f"{len(mask.heads)} heads: {', '.join(mask.heads) or 'none'}",
        f"with them the answer moves to the counterfactual's on {share_text(mask.carries)} of the prompts; with random "
        f"heads of the same layers on {mask.random:.0%}, with all heads on {share_text(mask.everyone)}",
        *(f"{role}: {carriers} of its {of} heads are among them" for role, (carriers, of) in mask.roles.items()),
        f"learned on {search} prompts, the penalty chosen on {choose} others, reported on {report} others",
    ]
    rows = [row for number, text in enumerate(said) for row in paragraph(text, _WIDTH, "" if number else mask.what)]
    yield from table(rows, Column(least=_INDENT - 1, gap=1))
    tried = [(f"penalty ({unit})", "heads", "answer moves")]
    tried += [
        (f"{one.penalty:g}{' (chosen)' * (one.penalty == mask.penalty)}", str(len(one.heads)), f"{one.carries:.0%}")
        for one in mask.path
    ]
    yield from table(tried, Column(), Column(align="right"), Column(align="right"), indent=_INDENT)
