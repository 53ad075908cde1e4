"""A diagnosis as a person reads it, and as a program does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from circuit_assertions.diagnosis import Diagnosis, Figure, HeadChange, Origin, Recovery, RoleChange

__all__ = ["diagnosis_data", "diagnosis_lines"]

_LABEL = 11
_WIDTH = 110


def diagnosis_lines(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    """The diagnosis as (text, verdict) pairs; the verdict is empty for lines that carry none."""
    yield from _labelled("model", f"{diagnosis.model}   baseline {diagnosis.baseline}")
    if diagnosis.corrupted is not None:
        yield from _labelled("", f"corrupted {diagnosis.corrupted}")
    behaviour = diagnosis.behaviour
    worst = f" (corrupted {_number(behaviour.corrupted)})" if behaviour.corrupted is not None else ""
    moved = f"{behaviour.before.mean:.2f} -> {_number(behaviour.after)}{worst}"
    yield from _labelled("behaviour", f"{diagnosis.task} logit difference {moved}")
    yield from _labelled("verdict", f"{diagnosis.verdict}: {diagnosis.why}", diagnosis.verdict)
    label = "roles"
    for role in diagnosis.function.roles:
        yield from _labelled(label, f"{role.role:<20} {_role(role)}")
        label = ""
    if not diagnosis.function.roles:
        yield from _labelled("roles", "no circuit of the baseline is known: `circuit-assertions discover` finds it")
    if diagnosis.function.inside is not None:
        inside, random_sets = diagnosis.function.inside
        yield from _labelled(
            "", f"{inside:.0%} of the change of all heads lies in the circuit ({random_sets:.0%} by size)"
        )
    yield from _origin(diagnosis.origin)
    if diagnosis.expression is not None:
        through = ", ".join(str(one) for one in diagnosis.expression.through)
        healed = _share(diagnosis.expression.healed)
        yield from _labelled(
            "expressed", f"through {through}: their outputs, taken from the baseline, bring back {healed}"
        )
    if diagnosis.recovery is not None:
        yield from _recovery(diagnosis.recovery)


def _role(role: RoleChange) -> str:
    kept = f"keeps {role.retained.mean:.0%} of its effect"
    amplified = [one for one in role.heads if one.kind == "amplified"]
    stronger = f"; amplified: {', '.join(_moved(one) for one in amplified)}" if amplified else ""
    if not role.changed:
        return f"intact ({len(role.heads) - len(amplified)} of {len(role.heads)}), {kept}{stronger}"
    told = ", ".join(f"{one.head} {one.kind} {_moved(one, named=False)}" for one in role.changed)
    return f"{len(role.changed)} of {len(role.heads)} changed, {kept}: {told}{stronger}"


def _moved(one: HeadChange, named: bool = True) -> str:
    if one.kind == "attention moved" and one.looks is not None:
        moved = f"(looks {one.looks[0]:.2f} -> {one.looks[1]:.2f})"
    else:
        moved = f"({one.before:+.2f} -> {one.after:+.2f})"
    return f"{one.head} {moved}" if named else moved


def _origin(origin: Origin) -> Iterator[tuple[str, str]]:
    if origin.verdict == "UNCHANGED":
        said = (
            "no weight differs"
            if not origin.changed
            else "less than a tenth of the behaviour is lost: nothing to look for"
        )
        yield from _labelled("origin", f"{said} ({len(origin.changed)} of {origin.parts} components differ)")
        return
    found = origin.found
    if found is None:
        yield from _labelled("origin", "DIFFUSE: no single component heals anything", "DIFFUSE")
    else:
        by_chance = "" if found.random is None else f" (random ones of the same kinds and layers: {found.random:.0%})"
        names = "  ".join(str(part) for part in found.parts)
        size = f"{len(found.parts)} of {origin.parts} components"
        text = f"{origin.verdict}: restoring the weights of {size} heals {_share(found.healed)}{by_chance}: {names}"
        yield from _labelled("origin", text, origin.verdict)
    if origin.verdict == "DIFFUSE":
        groups = ", ".join(f"{name} {figure.mean:.0%}" for name, figure in origin.groups.items())
        yield from _labelled("", f"restored together: {groups}")


def _recovery(recovery: Recovery) -> Iterator[tuple[str, str]]:
    text = f"{recovery.how}: {_share(recovery.share)} of what was lost is back"
    if recovery.weakest is not None:
        role, share = recovery.weakest
        text += f"; of the baseline's roles {role} is weakest, with {share:.0%} of its effect"
    yield from _labelled("recovery", text, recovery.how)
    before, after = recovery.knocked_out
    yield from _labelled(
        "", f"knocking out the baseline's writers costs {after:.0%} of the behaviour (there {before:.0%})"
    )
    if recovery.how in ("BYPASSED", "PARTIAL") and recovery.carriers:
        carriers = ", ".join(f"{one.head} ({one.before:+.2f} -> {one.after:+.2f})" for one in recovery.carriers)
        yield from _labelled("", f"carried now by {carriers}")


def _labelled(label: str, text: str, verdict: str = "") -> Iterator[tuple[str, str]]:
    lines = wrap(text, _WIDTH - _LABEL, break_long_words=False, break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        yield f"{label if number == 0 else '':<{_LABEL}}{line}", verdict


def _number(figure: Figure) -> str:
    return f"{figure.mean:.2f} [{figure.interval.low:.2f}, {figure.interval.high:.2f}]"


def _share(figure: Figure) -> str:
    return f"{figure.mean:.0%} [{figure.interval.low:.0%}, {figure.interval.high:.0%}]"


def diagnosis_data(diagnosis: Diagnosis) -> dict[str, Any]:
    """The diagnosis as JSON carries it: every figure as mean, low and high."""
    origin, expression, recovery = diagnosis.origin, diagnosis.expression, diagnosis.recovery
    behaviour = diagnosis.behaviour
    return {
        "model": str(diagnosis.model),
        "baseline": str(diagnosis.baseline),
        "corrupted": None if diagnosis.corrupted is None else str(diagnosis.corrupted),
        "circuit": diagnosis.circuit,
        "task": diagnosis.task,
        "settings": dict(diagnosis.settings),
        "verdict": diagnosis.verdict,
        "why": diagnosis.why,
        "behaviour": {
            "before": _plain(behaviour.before),
            "after": _plain(behaviour.after),
            "retained": _plain(behaviour.retained),
            "corrupted": None if behaviour.corrupted is None else _plain(behaviour.corrupted),
        },
        "origin": origin.verdict,
        "components": [str(part) for part in origin.found.parts] if origin.found else [],
        "healed": _plain(origin.found.healed) if origin.found else None,
        "healed-by-random": origin.found.random if origin.found else None,
        "changed": [str(part) for part in origin.changed],
        "curve": [
            {"components": [str(part) for part in one.parts], "healed": _plain(one.healed)} for one in origin.curve
        ],
        "breaks": _named(origin.breaks),
        "groups": _named(origin.groups),
        "roles": {role.role: _role_data(role) for role in diagnosis.function.roles},
        "inside-the-circuit": None if diagnosis.function.inside is None else list(diagnosis.function.inside),
        "expressed": None
        if expression is None
        else {
            "through": [str(one) for one in expression.through],
            "healed": _plain(expression.healed),
            "outputs-heal": _named(expression.heals),
            "outputs-break": _named(expression.breaks),
            "patterns-heal": _named(expression.patterns),
        },
        "recovery": None
        if recovery is None
        else {
            "how": recovery.how,
            "share": _plain(recovery.share),
            "alike": recovery.alike,
            "weakest-role": None if recovery.weakest is None else list(recovery.weakest),
            "knocked-out": list(recovery.knocked_out),
            "carriers": {str(one.head): [one.before, one.after] for one in recovery.carriers},
        },
    }


def _role_data(role: RoleChange) -> dict[str, Any]:
    return {
        "retained": _plain(role.retained),
        "heads": {
            str(one.head): {
                "kind": one.kind,
                "before": one.before,
                "after": one.after,
                "change": _plain(one.change),
                "looks": None if one.looks is None else list(one.looks),
                "copies": None if one.copies is None else list(one.copies),
            }
            for one in role.heads
        },
    }


def _plain(figure: Figure) -> dict[str, float]:
    return {"mean": figure.mean, "low": figure.interval.low, "high": figure.interval.high}


def _named(figures: Mapping[Any, Figure]) -> dict[str, dict[str, float]]:
    return {str(name): _plain(figure) for name, figure in figures.items()}
