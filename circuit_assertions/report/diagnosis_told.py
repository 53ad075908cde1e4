"""A diagnosis in sentences, one for each thing that it found, which every report lays out in its own way."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from circuit_assertions.measures.figures import number, share_in_words, signed
from circuit_assertions.report.explaining import figure_text, share_text
from circuit_assertions.results import PolicyUsed
from circuit_assertions.results.diagnosis import (
    BeforeAndAfter,
    DiagnosisResult,
    HeadChanged,
    InsideCircuit,
    RecoveryFound,
    RediscoveredCircuit,
    RoleChanged,
)
from circuit_assertions.results.values import Figure
from circuit_assertions.verdict_words import SOMETHING_LOST, OriginVerdict, RecoveryVerdict

__all__ = [
    "UNBROKEN",
    "Told",
    "behaviour_told",
    "expressed_told",
    "fix_command",
    "inside_told",
    "origin_told",
    "prompts_told",
    "recovery_told",
    "role_told",
]

UNBROKEN = "\xa0"  # a blank at which no line is broken
_FEW_TO_NAME = 8  # components


class Told(NamedTuple):
    """A sentence, what it is about, and the verdict that gives it its colour; the label is empty where one goes on."""

    label: str
    text: str
    verdict: str = ""


def behaviour_told(diagnosis: DiagnosisResult) -> str:
    behaviour = diagnosis.behaviour
    worst = f" (corrupted {_number(behaviour.corrupted)})" if behaviour.corrupted is not None else ""
    change = f"{number(behaviour.before.mean)} -> {_number(behaviour.after)}"
    return f"{diagnosis.task} {diagnosis.metric.called} {change} {diagnosis.metric.unit}{worst}"


def prompts_told(diagnosis: DiagnosisResult) -> Iterator[Told]:
    """How many prompts each part read."""
    read = diagnosis.prompts
    if not read:
        return
    asked, behaviour = read["task"], read["behaviour"]
    told = [f"{behaviour}{f' of the {asked} of {diagnosis.task}' * (asked != behaviour)} for behaviour and roles"]
    if "origin-search" in read:
        search, choice, report = (read[f"origin-{part}"] for part in ("search", "choice", "report"))
        told.append(f"{search} to search for the origin, {choice} to choose and {report} to report it")
    others = {"expression": "outputs taken from the baseline", "rediscovery": "the rediscovered circuit"}
    told += [f"{read[part]} for {what}" for part, what in others.items() if part in read]
    if diagnosis.assertions:
        told.append("those of their suites for assertions")
    yield Told("prompts", ", ".join(told))


def inside_told(inside: InsideCircuit, policy: PolicyUsed) -> str:
    text = f"{_percent(inside.circuit.mean)} of the change of all heads is in the circuit"
    if inside.more.mean < policy.values["telling_excess"]:
        return f"{text}, no more than by chance (random heads of the same layers: {_percent(inside.random.mean)})"
    return f"{text} (random heads of the same layers: {_percent(inside.random.mean)})"


def role_told(role: RoleChanged) -> str:
    count = len(role.heads)
    stronger = ", ".join(_head(name, one) for name, one in role.heads.items() if one.kind == "amplified")
    changed = {name: one for name, one in role.heads.items() if one.kind not in ("intact", "amplified")}
    told = ", ".join(_head(name, one) for name, one in changed.items())
    if changed:
        state = f"{len(changed)} of {count} changed"
    elif role.weaker:
        state = f"none of {count} heads changed clearly alone"
    elif not role.works:
        state = f"no clear {'loss' if stronger else 'change'} ({_heads(count)})"
    else:
        state = "works" if stronger else f"intact ({count} of {count})"
    return f"{state}, {role.kept}{f': {told}' * bool(told)}{f'; amplified: {stronger}' * bool(stronger)}"


def _head(name: str, one: HeadChanged) -> str:
    kind = "" if one.kind == "amplified" else f"{one.kind} "
    if one.kind == "attention moved" and one.looks is not None:
        return _unbroken(f"{name} {kind}(attention {number(one.looks.before.mean)} -> {number(one.looks.after.mean)})")
    if one.kind == "sign unclear":
        return _unbroken(f"{name} {kind}({signed(one.before.mean)} -> {_signed(one.after)})")
    return _unbroken(f"{name} {kind}{_turn(one.before, one.after)}")


def _signed(figure: Figure) -> str:
    return f"{signed(figure.mean)} [{signed(figure.low)}, {signed(figure.high)}]"


def _both(one: BeforeAndAfter) -> str:
    return _turn(one.before, one.after)


def _turn(before: Figure, after: Figure) -> str:
    return f"({signed(before.mean)} -> {signed(after.mean)})"


def origin_told(diagnosis: DiagnosisResult) -> Iterator[Told]:
    origin, parts = diagnosis.origin, diagnosis.parts
    if origin is None:
        yield Told("origin", f"not searched: {diagnosis.not_searched}")
        return
    if origin == OriginVerdict.UNCHANGED or diagnosis.verdict not in SOMETHING_LOST:
        yield Told("origin", _nothing_to_find(diagnosis))
        return
    if diagnosis.healed is None:
        yield Told("origin", f"{origin}: no single component restores anything", origin)
    else:
        names = "  ".join(diagnosis.components)
        size = f"{len(diagnosis.components)} of {parts} components"
        text = f"{origin}: the baseline's weights of {size} restore {_share(diagnosis.healed)} of the loss: {names}"
        yield Told("origin", text, origin)
        random = diagnosis.healed_by_random
        alike = "" if random is None else f"; matched random sets restore {_percent(random.mean)}"
        yield Told("", f"{len(diagnosis.changed)} of {parts} have different weights{alike}")
    if origin == OriginVerdict.DIFFUSE:
        groups = ", ".join(f"{name} {_percent(figure.mean)}" for name, figure in diagnosis.groups.items())
        yield Told("", f"restored together: {groups}")


def _nothing_to_find(diagnosis: DiagnosisResult) -> str:
    changed, retained = diagnosis.changed, diagnosis.behaviour.retained
    least = diagnosis.policy.values["least_lost"]
    if not changed:
        return "all weights equal the baseline's"
    few = f" ({', '.join(changed)})" if len(changed) <= _FEW_TO_NAME else ""
    differ = f"{len(changed)} of {diagnosis.parts} components have different weights{few}"
    if 1 - retained.mean < least:
        return f"{differ}, but less than {share_in_words(least)} of the behaviour is lost: there is no loss to trace"
    lost = Figure(mean=1 - retained.mean, low=1 - retained.high, high=1 - retained.low)
    return f"{differ}, but the loss of {_share(lost)} may be less than {share_in_words(least)}: use more prompts"


def fix_command(diagnosis: DiagnosisResult) -> str:
    """The command that restores the baseline's weights."""
    said = ["--model", diagnosis.model, "--from", diagnosis.baseline, "--components", ",".join(diagnosis.components)]
    return shlex.join(["circuit-assertions", "graft", *said, "-o", "fixed"])


def recovery_told(diagnosis: DiagnosisResult) -> Iterator[Told]:
    recovery = diagnosis.recovery
    if recovery is None:
        least = share_in_words(diagnosis.policy.values["least_lost"])
        known = diagnosis.roles or diagnosis.roles_not_compared
        why = f"{diagnosis.corrupted} has lost less than {least} of this behaviour" if known else "no circuit is known"
        yield Told("recovery", f"not measured: {diagnosis.recovery_not_told or why}")
        return
    text = f"{recovery.how}: {_share(recovery.share)} of what the corrupted checkpoint lost is recovered"
    yield Told("recovery", text, recovery.how)
    if recovery.how != RecoveryVerdict.NOT_RECOVERED:  # a behaviour that is not there has no carriers
        yield Told("", _by_whom(recovery, diagnosis.metric.called))
    if recovery.how in (RecoveryVerdict.BYPASSED, RecoveryVerdict.PARTIAL) and recovery.carriers:
        carriers = ", ".join(_unbroken(f"{head} {_both(one)}") for head, one in recovery.carriers.items())
        yield Told("", f"now carried by {carriers}")
    yield from _circuits(recovery)


def _circuits(recovery: RecoveryFound) -> Iterator[Told]:
    """The baseline's circuit, then the rediscovered one."""
    frozen, found = recovery.frozen, recovery.rediscovered
    if frozen is None or found is None:
        return
    before, after = frozen.faithfulness.baseline, frozen.faithfulness.model
    if after is not None:
        text = f"baseline circuit: faithfulness {_share(after)} ({_heads(frozen.size)}; "
        yield Told("circuit", f"{text}on the baseline {_percent(before.mean)})")
    label = "circuit" if after is None else ""
    told = f"none on {found.prompts} prompts: {found.reason}" if found.faithfulness is None else _rediscovered(found)
    yield Told(label, f"rediscovered: {told}")


def _rediscovered(found: RediscoveredCircuit) -> str:
    assert found.faithfulness is not None
    kept, gained, recast = found.kept or (), found.gained or (), found.recast or {}
    text = f"faithfulness {_share(found.faithfulness)} ({_heads(len(kept) + len(gained))} on {found.prompts} prompts, "
    text += f"{len(kept)} of them in the baseline's circuit; Jaccard by role {found.jaccard:.2f})"
    if gained:
        role_of = {head: role for role, heads in (found.roles or {}).items() for head in heads}
        text += f"; new: {', '.join(_unbroken(f'{head} ({role_of[head]})') for head in gained)}"
    if found.lost:
        text += f"; lost: {', '.join(found.lost)}"
    for was, now in dict.fromkeys((one.was, one.now) for one in recast.values()):
        heads = ", ".join(head for head, one in recast.items() if (one.was, one.now) == (was, now))
        text += f"; {was} -> {now}: {heads}"
    return text


def _by_whom(recovery: RecoveryFound, behaviour: str) -> str:
    before, after = recovery.knocked_out.baseline, recovery.knocked_out.model
    what = "knocking out the heads that write the answer on the baseline"
    if after is not None:
        text = f"{what} costs the model {_percent(after.mean)} of the {behaviour} (the baseline "
        text += f"{_percent(before.mean)})"
    else:
        text = f"the right answer is not clearly ahead, so {what} is not informative (it costs the baseline "
        text += f"{_percent(before.mean)})"
    weakest = recovery.weakest_role
    return text if weakest is None else f"{text}; the weakest role, {weakest.role}, {weakest.kept}"


def _heads(count: int) -> str:
    return f"{count} head{'s' * (count != 1)}"


def _number(figure: Figure) -> str:
    return _unbroken(figure_text(figure))


def _share(figure: Figure) -> str:
    return _unbroken(share_text(figure))


def _unbroken(text: str) -> str:
    """What no line break may part."""
    return text.replace(" ", UNBROKEN)


def _percent(share: float) -> str:
    return f"{round(100 * share)}%"  # an integer has no -0


def expressed_told(diagnosis: DiagnosisResult) -> Iterator[Told]:
    """Whose activations carry the loss."""
    if diagnosis.expressed is not None:
        through, healed = ", ".join(diagnosis.expressed.through), _share(diagnosis.expressed.healed)
        text = f"in {through}: transplanting their outputs from the baseline restores {healed} of the loss"
        yield Told("expressed", text)
