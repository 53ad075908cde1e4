"""The thresholds of a circuit file: whether they are well formed, and which of them an assertion takes over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from circuit_assertions.assertions.bounds import BoundCondition
from circuit_assertions.assertions.circuits import Binding, Circuit, Threshold
from circuit_assertions.assertions.proposed import Proposed, Sourced
from circuit_assertions.assertions.schema import Assertion, Expectation
from circuit_assertions.measures import MEASURES, Measure
from circuit_assertions.measures.receivers import ReceiverHeads
from circuit_assertions.measures.validating import validate
from circuit_assertions.tasks import END
from circuit_assertions.tasks.schema import closest

__all__ = ["asks_circuit_file", "same_prompts", "take_over", "threshold_problems"]

_SETS = ("circuit",)
_WHICH = ("prompts", "seed")  # how many prompts are asked, and which of them


def threshold_problems(circuit: Circuit) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with the thresholds of a circuit file: (path below `found`, message) pairs."""
    seen: dict[Any, int] = {}
    for index, threshold in enumerate(circuit.found.thresholds if circuit.found is not None else ()):
        here = ("thresholds", index)
        unknown = MEASURES.problem_with(threshold.measure)
        if unknown:
            yield (*here, "measure"), unknown
            continue
        spec = MEASURES[threshold.measure]
        yield from (((*here, key), message) for key, message in _wrong_operands(spec, threshold, circuit))
        bound = threshold.bound
        if problem := bound.range_problem(spec):
            yield (*here, bound.key), problem
        first = seen.setdefault(
            _key(threshold.measure, threshold.heads, threshold.quantifier, threshold.operands), index
        )
        if first != index:
            yield (
                here,
                f"is about the same reading as threshold {first + 1}, so the bound is ambiguous: remove one of the two",
            )


def _wrong_operands(spec: Measure, threshold: Threshold, circuit: Circuit) -> Iterator[tuple[str, str]]:
    if (spec.by_head or spec.joint) != (threshold.heads is not None):
        needs = "needs `heads:`, a role or `circuit`" if threshold.heads is None else "has no heads: leave them out"
        yield "heads" if threshold.heads else "measure", f"{spec.name} {needs}"
    for key, role in (("heads", threshold.heads), *threshold.roles_named):
        if isinstance(role, str) and role not in circuit.roles and not (key == "heads" and role in _SETS):
            yield key, f"the circuit has no role {role!r}{closest(role, list(circuit.roles))}"
    yield from ((keys[0], message) for keys, message in validate(spec, None, threshold.operands))


def take_over(assertion: Assertion, binding: Binding | None, usable: bool) -> tuple[Expectation, tuple[str, ...]]:
    """The expectation with numbers for the bounds that a circuit file may propose, and what had to be left out.

    Args:
        binding: the circuit that is bound; None where there is none.
        usable: whether its thresholds were measured on the model that this one is compared with, on such prompts.
    """
    expect, left_out = assertion.expect, []
    for condition, asked in _asking(expect):
        bound = _taken(assertion, condition, asked, binding) if usable and binding is not None else None
        if bound is None and asked.otherwise is None:
            left_out.append(f"{condition.key} (no circuit file of this model or its baseline proposes a bound for it)")
        expect = expect.with_value(condition, asked.otherwise if bound is None else bound)
    return expect, tuple(left_out)


def asks_circuit_file(expect: Expectation) -> bool:
    """Whether a circuit file may propose a bound of it."""
    return any(_asking(expect))


def _asking(expect: Expectation) -> Iterator[tuple[BoundCondition, Proposed]]:
    for condition in expect.conditions:
        if isinstance(condition, BoundCondition) and isinstance(condition.value, Proposed):
            yield condition, condition.value


def same_prompts(circuit: Circuit, settings: Mapping[str, Any]) -> bool:
    """Whether what a circuit was found on is what a task asks, but for how many prompts and which of them.

    Args:
        settings: those of the task's prompts.
    """
    found_on = circuit.found.task if circuit.found is not None else {}
    if not found_on:
        return False
    # Of prompts of a person's own nothing but their number tells them from others.
    ignored = () if found_on.get("kind") == "prompts" else _WHICH

    def asked(told: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in told.items() if key not in ignored}

    return asked(found_on) == asked(settings)


def _taken(assertion: Assertion, condition: BoundCondition, asked: Proposed, binding: Binding) -> Sourced | None:
    """The bound for an assertion, where the circuit file proposes one that asks something."""
    if assertion.layers is not None or assertion.components is not None or assertion.at_least_heads is not None:
        return None
    wanted = _key(assertion.measure, assertion.heads, assertion.quantifier, dict(assertion.operands))
    for threshold in binding.circuit.found.thresholds if binding.circuit.found is not None else ():
        if _key(threshold.measure, threshold.heads, threshold.quantifier, threshold.operands) != wanted:
            continue
        proposed = threshold.bound
        if proposed.key != condition.key or proposed.requires_nothing:
            return None
        share = "" if asked.proposed == 1 else f"{100 * asked.proposed:g}% of {proposed.number:g}, "
        bound = float(f"{proposed.eased(asked.proposed):.6g}")
        return Sourced.of(bound, f"{share}from {binding.name}", binding.circuit.found_in_setting)
    return None


def _key(measure: str, heads: Any, quantifier: str | None, operands: Mapping[str, Any]) -> Any:
    """What must agree for a threshold to be about an assertion: measure, heads, quantifier, and every operand."""
    spec = MEASURES[measure]
    chosen = spec.operands.defaults() | dict(operands)
    receiver = chosen.get("receiver")
    if isinstance(receiver, ReceiverHeads):
        named = {"q": chosen.get("query"), "k": chosen.get("key")}.get(receiver.which)
        chosen["receiver"] = (receiver.which, receiver.heads, receiver.at or named or END)
    together = quantifier or ("any" if heads == "any" else "each") if spec.by_head else None
    return measure, heads, together, tuple(sorted(chosen.items()))
