"""Where a stage goes on from heads that could have a role and have none.

A stage starts from the heads of a role. Where no head passed the role's rules, the circuit does not end there: some
heads have the effect that the role is about, whatever their function is called.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from circuit_assertions.assertions.chains import Chain, Stage
from circuit_assertions.heads import Head

__all__ = ["starts_of"]

Means = Mapping[str, Mapping[Head, float]]  # the clear mean effects of heads at each stage, by its name


def starts_of(chain: Chain, stage: Stage, clear: Means, named: Collection[Head]) -> tuple[Head, ...]:
    """The heads without a role that a stage may go on from; none where it starts from no role.

    They have a clear effect, of the sign that the role's rule asks for, at a stage whose rules give the role.

    Args:
        clear: of the stages before.
        named: the heads that have a role by now.
    """
    role = None if stage.starts_from is None else stage.starts_from[0]
    found = {
        head
        for giving, rule in chain.rules
        if rule.role == role
        for head, mean in clear.get(giving.name, {}).items()
        if mean * rule.direction > 0
    }
    return tuple(sorted(found.difference(named)))
