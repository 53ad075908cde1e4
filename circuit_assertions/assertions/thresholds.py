"""The thresholds of a circuit file: whether they are well formed, and which of them an assertion takes over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from circuit_assertions.assertions.circuits import Binding, Circuit, Threshold
from circuit_assertions.assertions.proposed import Proposed, Sourced
from circuit_assertions.assertions.ranges import bound_problem
from circuit_assertions.assertions.schema import Assertion, Expectation
from circuit_assertions.measures import MEASURES, Measure
from circuit_assertions.measures.receivers import ReceiverHeads
from circuit_assertions.measures.validating import validate
from circuit_assertions.tasks import END
from circuit_assertions.tasks.schema import closest

__all__ = ["same_prompts", "take_over", "threshold_problems"]

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
        bound, at_least = _bound_of(threshold)
        problem = bound_problem(spec, bound, at_least)
        if problem:
            yield (*here, "at-least" if at_least else "at-most"), problem
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
    for field in ("at_least", "at_most"):
        asked = getattr(expect, field)
        if not isinstance(asked, Proposed):
            continue
        bound = _taken(assertion, asked, binding, field == "at_least") if usable and binding is not None else None
        if bound is None and asked.otherwise is None:
            key = field.replace("_", "-")
            left_out.append(f"{key} (no circuit file of this model or its baseline proposes a bound for it)")
        expect = expect.model_copy(update={field: asked.otherwise if bound is None else bound})
    return expect, tuple(left_out)


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


def _taken(assertion: Assertion, asked: Proposed, binding: Binding, at_least: bool) -> Sourced | None:
    """The bound for an assertion, where the circuit file proposes one that asks something."""
    if assertion.layers is not None or assertion.components is not None or assertion.at_least_heads is not None:
        return None
    wanted = _key(assertion.measure, assertion.heads, assertion.quantifier, dict(assertion.operands))
    for threshold in binding.circuit.found.thresholds if binding.circuit.found is not None else ():
        if _key(threshold.measure, threshold.heads, threshold.quantifier, threshold.operands) != wanted:
            continue
        bound, lower = _bound_of(threshold)
        if lower is not at_least or (lower and bound <= 0):  # at least nothing, which all but a reversed effect has
            return None
        # A share of a bound is easier to meet: less of what must be there, more of what must not.
        eased = bound * asked.proposed if lower or bound < 0 else bound / asked.proposed
        share = "" if asked.proposed == 1 else f"{100 * asked.proposed:g}% of {bound:g}, "
        return Sourced.of(float(f"{eased:.6g}"), f"{share}from {binding.name}")
    return None


def _bound_of(threshold: Threshold) -> tuple[float, bool]:
    """The bound, and whether it is a lower one."""
    if threshold.at_least is not None:
        return threshold.at_least, True
    assert threshold.at_most is not None
    return threshold.at_most, False


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
