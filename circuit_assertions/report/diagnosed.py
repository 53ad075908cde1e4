"""A diagnosis as a person reads it: the verdict first, then what it rests on, lens by lens."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping

from circuit_assertions.measures.figures import number, share_in_words, signed
from circuit_assertions.printable import printable_lines
from circuit_assertions.report.explaining import figure_text, share_text
from circuit_assertions.report.tables import Column, paragraph, table
from circuit_assertions.results import PolicyUsed
from circuit_assertions.results.diagnosis import (
    BeforeAndAfter,
    DiagnosisResult,
    HeadChanged,
    InsideCircuit,
    JudgedAssertion,
    RecoveryFound,
    RediscoveredCircuit,
    RoleChanged,
)
from circuit_assertions.results.values import Figure
from circuit_assertions.verdict_words import SOMETHING_LOST, OriginVerdict, Outcome, RecoveryVerdict

__all__ = ["diagnosis_lines", "unwrapped"]

_LABELS = Column(least=11, gap=0)
_FEW_TO_NAME = 8  # components
_WIDTH = 110
_UNBROKEN = "\xa0"  # textwrap breaks no line here


@printable_lines
def diagnosis_lines(diagnosis: DiagnosisResult) -> Iterator[tuple[str, str]]:
    """The diagnosis as (text, verdict) pairs; the verdict is empty for lines that carry none."""
    yield from _labelled("model", f"{diagnosis.model}   baseline {diagnosis.baseline}")
    if diagnosis.corrupted is not None:
        yield from _labelled("", f"corrupted {diagnosis.corrupted}")
    if not diagnosis.policy.is_default:
        yield from _labelled("policy", diagnosis.policy.name)
    for note in diagnosis.notes:
        yield from _labelled("note", note)
    yield from _labelled("verdict", f"{diagnosis.verdict}: {diagnosis.why}", diagnosis.verdict)
    if diagnosis.corrupted is not None:
        yield from _recovery(diagnosis)
    yield from _assertions(diagnosis.assertions)
    yield from _labelled("behaviour", _behaviour(diagnosis))
    yield from _prompts(diagnosis)
    yield from _roles(diagnosis)
    for place, changed in enumerate(diagnosis.settings_changed):
        yield from _labelled("settings" if place == 0 else "", changed)
    yield from _origin(diagnosis)
    if diagnosis.expressed is not None:
        through, healed = ", ".join(diagnosis.expressed.through), _share(diagnosis.expressed.healed)
        text = f"in {through}: transplanting their outputs from the baseline restores {healed} of the loss"
        yield from _labelled("expressed", text)
    if diagnosis.origin == OriginVerdict.LOCALIZED and diagnosis.verdict in SOMETHING_LOST:
        yield unwrapped("fix", _fix(diagnosis))


def unwrapped(label: str, text: str) -> tuple[str, str]:
    """A line of a diagnosis that is not wrapped, so that a command in it can be copied."""
    (line,) = table([(label, text)], _LABELS)
    return line, ""


def _behaviour(diagnosis: DiagnosisResult) -> str:
    behaviour = diagnosis.behaviour
    worst = f" (corrupted {_number(behaviour.corrupted)})" if behaviour.corrupted is not None else ""
    change = f"{number(behaviour.before.mean)} -> {_number(behaviour.after)}"
    return f"{diagnosis.task} {diagnosis.metric.called} {change} {diagnosis.metric.unit}{worst}"


def _prompts(diagnosis: DiagnosisResult) -> Iterator[tuple[str, str]]:
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
    yield from _labelled("prompts", ", ".join(told))


def _roles(diagnosis: DiagnosisResult) -> Iterator[tuple[str, str]]:
    told = {role: _role(one) for role, one in diagnosis.roles.items()}
    told |= {role: f"not compared: {why}" for role, why in diagnosis.roles_not_compared.items()}
    if not told:
        yield from _labelled("roles", "the baseline has no circuit file: `circuit-assertions discover` writes one")
    left = _WIDTH - _LABELS.least - max(map(len, told), default=0) - Column().gap
    rows = [row for role, text in told.items() for row in paragraph(text, left, role)]
    labelled = [("" if place else "roles", *row) for place, row in enumerate(rows)]
    yield from ((_parted(line), "") for line in table(labelled, _LABELS))
    if diagnosis.inside_the_circuit is not None:
        yield from _labelled(
            "", f"{_inside(diagnosis.inside_the_circuit, diagnosis.policy)}; effects are in {diagnosis.metric.unit}"
        )


def _inside(inside: InsideCircuit, policy: PolicyUsed) -> str:
    text = f"{_percent(inside.circuit.mean)} of the change of all heads is in the circuit"
    if inside.more.mean < policy.values["telling_excess"]:
        return f"{text}, no more than by chance (random heads of the same layers: {_percent(inside.random.mean)})"
    return f"{text} (random heads of the same layers: {_percent(inside.random.mean)})"


def _role(role: RoleChanged) -> str:
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


def _origin(diagnosis: DiagnosisResult) -> Iterator[tuple[str, str]]:
    origin, parts = diagnosis.origin, diagnosis.parts
    if origin == OriginVerdict.UNCHANGED or diagnosis.verdict not in SOMETHING_LOST:
        yield from _labelled("origin", _nothing_to_find(diagnosis))
        return
    if diagnosis.healed is None:
        yield from _labelled("origin", f"{origin}: no single component restores anything", origin)
    else:
        names = "  ".join(diagnosis.components)
        size = f"{len(diagnosis.components)} of {parts} components"
        text = f"{origin}: the baseline's weights of {size} restore {_share(diagnosis.healed)} of the loss: {names}"
        yield from _labelled("origin", text, origin)
        random = diagnosis.healed_by_random
        alike = "" if random is None else f"; matched random sets restore {_percent(random.mean)}"
        yield from _labelled("", f"{len(diagnosis.changed)} of {parts} have different weights{alike}")
    if origin == OriginVerdict.DIFFUSE:
        groups = ", ".join(f"{name} {_percent(figure.mean)}" for name, figure in diagnosis.groups.items())
        yield from _labelled("", f"restored together: {groups}")


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


def _fix(diagnosis: DiagnosisResult) -> str:
    """The command that restores the baseline's weights."""
    said = ["--model", diagnosis.model, "--from", diagnosis.baseline, "--components", ",".join(diagnosis.components)]
    return shlex.join(["circuit-assertions", "graft", *said, "-o", "fixed"])


def _recovery(diagnosis: DiagnosisResult) -> Iterator[tuple[str, str]]:
    recovery = diagnosis.recovery
    if recovery is None:
        least = share_in_words(diagnosis.policy.values["least_lost"])
        known = diagnosis.roles or diagnosis.roles_not_compared
        why = f"{diagnosis.corrupted} has lost less than {least} of this behaviour" if known else "no circuit is known"
        yield from _labelled("recovery", f"not measured: {diagnosis.recovery_not_told or why}")
        return
    text = f"{recovery.how}: {_share(recovery.share)} of what the corrupted checkpoint lost is recovered"
    yield from _labelled("recovery", text, recovery.how)
    if recovery.how != RecoveryVerdict.NOT_RECOVERED:  # a behaviour that is not there has no carriers
        yield from _labelled("", _by_whom(recovery, diagnosis.metric.called))
    if recovery.how in (RecoveryVerdict.BYPASSED, RecoveryVerdict.PARTIAL) and recovery.carriers:
        carriers = ", ".join(_unbroken(f"{head} {_both(one)}") for head, one in recovery.carriers.items())
        yield from _labelled("", f"now carried by {carriers}")
    yield from _circuits(recovery)


def _assertions(judged: Mapping[str, JudgedAssertion]) -> Iterator[tuple[str, str]]:
    """What was judged, one per line, and how much of it is recovered where it was lost."""
    told = {name: one for name, one in judged.items() if one.verdict != Outcome.SKIPPED}
    skipped = Counter(one.reason for one in judged.values() if one.verdict == Outcome.SKIPPED)
    first: dict[str, str] = {}  # to the assertion beside which a reason is told
    rows: list[tuple[str, ...]] = []
    for name, one in told.items():
        other = first.setdefault(one.reason, name) if one.reason else name
        reason = one.reason or "" if other == name else f"as for {other}"
        more = reason if one.recovered is None else f"{share_text(one.recovered)} recovered"
        rows.append(("" if rows else "assertions", name, one.verdict, more))
    lines = table(rows, _LABELS, Column(), Column(least=10))
    yield from ((line, one.verdict) for line, one in zip(lines, told.values(), strict=True))
    for why, count in skipped.items():
        yield from _labelled("" if told else "assertions", f"{count} skipped: {why}")


def _circuits(recovery: RecoveryFound) -> Iterator[tuple[str, str]]:
    """The baseline's circuit, then the rediscovered one."""
    frozen, found = recovery.frozen, recovery.rediscovered
    if frozen is None or found is None:
        return
    before, after = frozen.faithfulness.baseline, frozen.faithfulness.model
    if after is not None:
        text = f"baseline circuit: faithfulness {_share(after)} ({_heads(frozen.size)}; "
        yield from _labelled("circuit", f"{text}on the baseline {_percent(before.mean)})")
    label = "circuit" if after is None else ""
    told = f"none on {found.prompts} prompts: {found.reason}" if found.faithfulness is None else _rediscovered(found)
    yield from _labelled(label, f"rediscovered: {told}")


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


def _labelled(label: str, text: str, verdict: str = "") -> Iterator[tuple[str, str]]:
    lines = table(paragraph(text, _WIDTH - _LABELS.least, label), _LABELS)
    yield from ((_parted(line), verdict) for line in lines)


def _parted(line: str) -> str:
    """The line with ordinary blanks, after it was broken."""
    return line.replace(_UNBROKEN, " ")


def _heads(count: int) -> str:
    return f"{count} head{'s' * (count != 1)}"


def _number(figure: Figure) -> str:
    return _unbroken(figure_text(figure))


def _share(figure: Figure) -> str:
    return _unbroken(share_text(figure))


def _unbroken(text: str) -> str:
    """What no line break may part."""
    return text.replace(" ", _UNBROKEN)


def _percent(share: float) -> str:
    return f"{round(100 * share)}%"  # an integer has no -0
