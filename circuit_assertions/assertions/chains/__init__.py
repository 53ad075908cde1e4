"""Chains: by which stages `discover` follows a circuit back from the answer, as data. Importing it needs no torch."""

from __future__ import annotations

from circuit_assertions.assertions.chains.checks import UNEXPLAINED, unfit_for
from circuit_assertions.assertions.chains.loading import (
    Chains,
    chain_for,
    chain_named,
    chain_of,
    chains_beside,
    load_chain,
)
from circuit_assertions.assertions.chains.rules import COLOURS, LOOKS, Attends, Role, Rule, Score
from circuit_assertions.assertions.chains.schema import Chain
from circuit_assertions.assertions.chains.stage import Groups, Stage

__all__ = [
    "COLOURS",
    "LOOKS",
    "UNEXPLAINED",
    "Attends",
    "Chain",
    "Chains",
    "Groups",
    "Role",
    "Rule",
    "Score",
    "Stage",
    "chain_for",
    "chain_named",
    "chain_of",
    "chains_beside",
    "load_chain",
    "unfit_for",
]
