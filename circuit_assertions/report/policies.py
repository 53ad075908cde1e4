"""A policy as a person reads it: every threshold with its value, what it decides and where its number comes from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from circuit_assertions.printable import printable_lines
from circuit_assertions.report.tables import Column, paragraph, table
from circuit_assertions.results.policy import PolicyResult, ThresholdListed

__all__ = ["policy_lines"]

_INDENT = 4


@printable_lines
def policy_lines(result: PolicyResult, width: int) -> Iterator[tuple[str, str]]:
    """The policy as (text, verdict) pairs, all of them without a verdict: a table for each section.

    Args:
        width: of the lines.
    """
    yield f"policy {result.policy.name}", ""
    heads = table([_head(one) for one in result.thresholds], Column(), Column(align="right"))
    for section, placed in groupby(zip(result.thresholds, heads, strict=True), lambda pair: pair[0].section):
        yield "", ""
        yield section, ""
        for one, head in placed:
            yield head, ""
            rows = [row for text in (one.decides, one.origin) for row in paragraph(text, width - _INDENT)]
            yield from ((line, "") for line in table(rows, indent=_INDENT))
    yield "", ""
    yield "Named policies", ""
    for name, policy in result.named.items():
        changes = ", ".join(f"{key} {value:g}" for key, value in policy.changes.items())
        yield name, ""
        rows = [row for text in (policy.purpose, changes) if text for row in paragraph(text, width - _INDENT)]
        yield from ((line, "") for line in table(rows, indent=_INDENT))


def _head(one: ThresholdListed) -> tuple[str, str, str]:
    changed = f" (default {one.default:g})" if one.value != one.default else ""
    return one.key, f"{one.value:g}", f"{one.unit}{changed}"
