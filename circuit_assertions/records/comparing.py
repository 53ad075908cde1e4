"""Compare two records: verdicts, and readings prompt by prompt, with intervals that all hold together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from circuit_assertions.measures.intervals import Level, least_prompts
from circuit_assertions.ordering import ranked
from circuit_assertions.policy import DEFAULT, Policy
from circuit_assertions.records.failing import Condition, conditions_of, of_outcomes
from circuit_assertions.records.pairing import Pair, pair_of
from circuit_assertions.records.record import Record
from circuit_assertions.results import AssertionResult, ComparisonResult, PolicyUsed
from circuit_assertions.results.comparison import (
    AssertionCompared,
    ChangeKind,
    DiagnosisCompared,
    ReadingChange,
    RunCompared,
)
from circuit_assertions.results.values import Figure
from circuit_assertions.verdict_words import NOT_JUDGED, ComparisonVerdict, Outcome

__all__ = ["compare", "run_of"]


@dataclass(frozen=True)
class _Both:
    """One assertion in both runs, and what was read."""

    before: AssertionResult
    after: AssertionResult
    read: Pair | str


def compare(before: Record, after: Record, fail: str) -> ComparisonResult:
    """Compare a run with an earlier one.

    Args:
        fail: the conditions by which an assertion is a regression, as `--fail` takes them.

    Raises:
        RecordError: if a condition is unknown.
    """
    conditions = conditions_of(fail)
    runs = {"before": run_of(before), "after": run_of(after)}
    told = ", ".join(map(str, conditions))
    models = _models(before, after)
    if isinstance(models, str):
        return _nothing(runs, told, models, after)
    old = {(one.suite, one.id, one.model): place for place, one in enumerate(before.audit.assertions)}
    new = {
        (one.suite, one.id, models[one.model]): place
        for place, one in enumerate(after.audit.assertions)
        if one.model in models
    }
    both = [_both(before, old[key], after, place) for key, place in new.items() if key in old]
    judged = [one for one in both if not {one.before.outcome, one.after.outcome} & set(NOT_JUDGED)]
    if not judged:
        why = "no assertion was judged in both" if both else "they have no assertion in common"
        return _nothing(runs, told, why, after)
    pairs = [one.read for one in both if isinstance(one.read, Pair)]
    if not pairs:
        reasons = ", ".join(dict.fromkeys(str(one.read) for one in judged))
        return _nothing(runs, told, f"no reading can be compared: {reasons}", after)
    policy = _policy_of(after)
    shares = sum(bool(condition.share) for condition in conditions)
    count = sum(len(pair.after) for pair in pairs) * (1 + shares)
    level = Level(policy.confidence).among(count)
    roles = _roles(before, after)
    compared = tuple(_compared(one, conditions, level, policy, roles) for one in both)
    if any(condition.name == "lost" for condition in conditions):
        compared += tuple(_lost(before.audit.assertions[old[key]]) for key in old if key not in new)
    return ComparisonResult(
        policy=after.audit.policy,
        before=runs["before"],
        after=runs["after"],
        verdict=_verdict(compared),
        fail=told,
        notes=tuple(_notes(before, after)),
        confidence=policy.confidence,
        level=level.of_one,
        together=count,
        assertions=compared,
        only_before=tuple(f"{suite}::{name}" for suite, name, model in old if (suite, name, model) not in new),
        only_after=tuple(f"{suite}::{name}" for suite, name, model in new if (suite, name, model) not in old),
        diagnoses=tuple(_diagnoses(before, after, models)),
    )


def run_of(record: Record) -> RunCompared:
    """The facts about a run that is compared."""
    facts = [model.facts for model in record.audit.models]
    return RunCompared(
        record=record.name,
        label=record.label,
        models=tuple(model.model for model in record.audit.models),
        fingerprints=tuple("" if one is None else one.fingerprint for one in facts),
        gate=record.audit.gate.line,
    )


def _nothing(runs: Mapping[str, RunCompared], fail: str, reason: str, after: Record) -> ComparisonResult:
    return ComparisonResult(
        policy=after.audit.policy,
        before=runs["before"],
        after=runs["after"],
        verdict=ComparisonVerdict.NOT_COMPARABLE,
        reason=reason,
        fail=fail,
    )


def _models(before: Record, after: Record) -> dict[str, str] | str:
    """The checkpoints of the later run with those of the earlier one that they are compared with, or why not."""
    old = {model.model: model.facts for model in before.audit.models}
    new = {model.model: model.facts for model in after.audit.models}
    if not old or not new:
        return "no checkpoint was read in one of the runs"
    pairs = {name: name for name in new if name in old}
    if len(old) == len(new) == 1:
        pairs = dict(zip(new, old, strict=True))
    if not pairs:
        return f"they have no checkpoint in common: {', '.join(old)}; {', '.join(new)}"
    for name, other in pairs.items():
        then, now = old[other], new[name]
        if then is None or now is None:
            return f"{name if now is None else other} was not opened"
        shapes = [(one.architecture, one.layers, one.heads, one.d_model) for one in (then, now)]
        if shapes[0] != shapes[1]:
            said = [f"{one[0]} of {one[1]} layers x {one[2]} heads, d_model {one[3]}" for one in shapes]
            return f"the checkpoints have other shapes, so that their heads do not correspond: {said[0]}; {said[1]}"
    return pairs


def _both(before: Record, first: int, after: Record, second: int) -> _Both:
    then, now = before.audit.assertions[first], after.audit.assertions[second]
    reads = [record.reads[place] if record.reads else None for record, place in ((before, first), (after, second))]
    return _Both(then, now, pair_of(before, reads[0], after, reads[1], now))


def _compared(
    both: _Both, conditions: Sequence[Condition], level: Level, policy: Policy, roles: Mapping[str, str]
) -> AssertionCompared:
    before, after, pair = both.before, both.after, both.read
    fails = list(of_outcomes(tuple(conditions), before.outcome, after.outcome))
    told = AssertionCompared(
        suite=after.suite,
        id=after.id,
        model=after.model,
        before=before.outcome,
        after=after.outcome,
        measure=after.measure,
        fails=tuple(fails),
    )
    if isinstance(pair, str):
        judged = not {before.outcome, after.outcome} & set(NOT_JUDGED)
        return told.model_copy(update={"reason": pair if judged else ""})
    few = min(pair.prompts) < least_prompts(level, policy) and pair.kind != "share"
    changes = [_change(pair, name, level, policy, roles) for name in pair.after]
    for condition in conditions:
        if not few and any(_meets(condition, one, pair, level) for one in changes):
            fails.append(str(condition))
    reason = f"{min(pair.prompts)} prompts are too few for {level.together} intervals together" if few else ""
    if few:
        changes = [one.model_copy(update={"kind": "same"}) for one in changes]
    decisive = {row.name for row in (*before.rows[:1], *after.rows[:1])}
    shown = [one for one in changes if one.kind != "same" or one.name in decisive]
    order = ranked(range(len(shown)), lambda place: abs(shown[place].difference.mean))
    update = {
        "unit": pair.unit,
        "paired": pair.paired,
        "prompts": pair.prompts,
        "compared": len(changes),
        "changes": tuple(shown[place] for place in order),
        "reason": reason,
        "fails": tuple(dict.fromkeys(fails)),
    }
    return told.model_copy(update=update)


def _lost(one: AssertionResult) -> AssertionCompared:
    """An assertion that the later run does not have."""
    return AssertionCompared(
        suite=one.suite,
        id=one.id,
        model=one.model,
        before=one.outcome,
        after=Outcome.NOT_RUN,
        measure=one.measure,
        fails=() if one.outcome in NOT_JUDGED else ("lost",),
    )


def _change(pair: Pair, name: str, level: Level, policy: Policy, roles: Mapping[str, str]) -> ReadingChange:
    before, after = float(pair.before[name].mean()), float(pair.after[name].mean())
    interval = pair.interval(name, level)
    difference = Figure(mean=after - before, low=interval.low, high=interval.high)
    certain = (interval.low > 0 or interval.high < 0) and abs(after - before) > pair.rounding
    kind: ChangeKind = "same"
    if certain:
        kind = "stronger" if abs(after) > abs(before) else "weaker"
        if before * after < 0 and abs(after) >= policy.head_silenced_below * abs(before):
            kind = "reversed"
    return ReadingChange(
        name=name, role=roles.get(name, ""), before=before, after=after, difference=difference, kind=kind
    )


def _meets(condition: Condition, change: ReadingChange, pair: Pair, level: Level) -> bool:
    """Whether a reading changed in the way of a condition."""
    if change.kind == "same":
        return False
    if condition.name == "changed" or (condition.name == "weaker" and change.kind == "reversed"):
        return True
    if condition.name != change.kind or not condition.share:
        return condition.name == change.kind
    sign, up = (1 if change.before > 0 else -1), condition.name == "stronger"
    low, high = pair.interval(change.name, level, 1 + (condition.share if up else -condition.share))
    low, high = (low, high) if sign > 0 else (-high, -low)
    return low > 0 if up else high < 0


def _verdict(compared: Sequence[AssertionCompared]) -> ComparisonVerdict:
    if any(one.fails for one in compared):
        return ComparisonVerdict.REGRESSED
    return ComparisonVerdict.CHANGED if any(one.changed for one in compared) else ComparisonVerdict.SAME


def _policy_of(record: Record) -> Policy:
    """The policy of a run; the default one, where it has thresholds that are not known any more."""
    used: PolicyUsed = record.audit.policy
    try:
        return Policy.model_validate({"name": used.name, **used.values})
    except ValidationError:
        return DEFAULT


def _roles(*records: Record) -> dict[str, str]:
    """The role of each head, where a diagnosis says it; the latest record's."""
    return {
        head: role
        for record in records
        for diagnosis in record.audit.diagnoses
        for role, one in diagnosis.roles.items()
        for head in one.heads
    }


def _notes(before: Record, after: Record) -> Iterator[str]:
    """What differs between two runs besides what was measured."""
    if before.audit.policy != after.audit.policy:
        names = [
            name for name, value in after.audit.policy.values.items() if before.audit.policy.values.get(name) != value
        ]
        yield f"the policies differ: {before.audit.policy.name}, then {after.audit.policy.name} ({', '.join(names)})"
    old, new = before.audit.versions, after.audit.versions
    other = [f"{name} {old.get(name)}, then {version}" for name, version in new.items() if old.get(name) != version]
    if other:
        yield f"the versions differ: {'; '.join(other)}"
    if before.audit.baseline != after.audit.baseline:
        yield f"the baselines differ: {before.audit.baseline or 'none'}, then {after.audit.baseline or 'none'}"


def _diagnoses(before: Record, after: Record, models: Mapping[str, str]) -> Iterator[DiagnosisCompared]:
    old, new = ({(one.circuit, one.model): one.verdict for one in record.audit.diagnoses} for record in (before, after))
    for circuit, model in new:
        then = old.get((circuit, models.get(model, "")))
        yield DiagnosisCompared(circuit=circuit, model=model, before=then, after=new[circuit, model])
    for circuit, model in old:
        if all((circuit, name) not in new for name, other in models.items() if other == model):
            yield DiagnosisCompared(circuit=circuit, model=model, before=old[circuit, model], after=None)
