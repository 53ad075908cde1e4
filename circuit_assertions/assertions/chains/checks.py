"""What is wrong with a chain: against itself, the measures, and the task that is to be followed by it."""

from __future__ import annotations

from collections.abc import Iterator

from circuit_assertions.assertions.chains.rules import Rule
from circuit_assertions.assertions.chains.schema import Chain
from circuit_assertions.assertions.yaml_source import Problem
from circuit_assertions.measures import MEASURES
from circuit_assertions.tasks import Task
from circuit_assertions.tasks.schema import closest

__all__ = ["UNEXPLAINED", "chain_problems", "unfit_for"]

UNEXPLAINED = "unexplained"  # what heads without a role are listed as
_RESERVED = ("any", "all", "circuit", "logits", UNEXPLAINED)  # words that mean something else where roles are named


def chain_problems(chain: Chain) -> Iterator[Problem]:
    """What is wrong with a chain by itself, with the place in its file."""
    yield from _wrong_roles(chain)
    known: set[str] = set()
    names: dict[str, int] = {}
    for index, stage in enumerate(chain.stages):
        here = ("stages", index)
        if stage.name in names:
            yield Problem(here, f"stage {names[stage.name] + 1} is the same: put the rules into one stage")
        names.setdefault(stage.name, index)
        if stage.starts_from is not None:
            start, key = stage.starts_from
            place = (*here, key) if key in type(stage).model_fields else (*here, "to", key)
            if start not in known:
                yield Problem(place, _unknown_start(start, chain, known))
            elif start not in chain.roles and stage.rules:
                yield Problem(
                    (*here, "rules"),
                    f"{stage.name}: suites cannot name these heads without a role; give them one by a rule in the "
                    f"stage {start}, and start from that role",
                )
        for number, rule in enumerate(stage.rules):
            yield from _wrong_rule(rule, chain, (*here, "rules", number))
        known |= {stage.name, *(rule.role for rule in stage.rules)}


def _wrong_roles(chain: Chain) -> Iterator[Problem]:
    given = {rule.role for _, rule in chain.rules}
    shorts: dict[str, str] = {}
    for name, role in chain.roles.items():
        if name in _RESERVED:
            yield Problem(("roles", name), f"{name!r} means something else in suites: choose another name")
        if name not in given:
            yield Problem(("roles", name), f"no rule gives the role {name!r}: add one, or remove the role")
        if role.short is not None:
            other = shorts.setdefault(role.short, name)
            if other != name:
                yield Problem(("roles", name, "short"), f"{role.short!r} stands for {other} already")


def _unknown_start(start: str, chain: Chain, known: set[str]) -> str:
    later = next((index for index, stage in enumerate(chain.stages) if start in _gives(chain, index)), None)
    if start in chain.roles and later is not None:
        return (
            f"no earlier stage gives {start!r}, only stage {later + 1}: a chain leads back from the answer, so put "
            f"that stage first"
        )
    return f"unknown role {start!r}{closest(start, sorted(known & {*chain.roles, *_RESERVED}))}"


def _gives(chain: Chain, index: int) -> set[str]:
    return {rule.role for rule in chain.stages[index].rules}


def _wrong_rule(rule: Rule, chain: Chain, here: tuple[str | int, ...]) -> Iterator[Problem]:
    if rule.role not in chain.roles:
        yield Problem((*here, "role"), f"unknown role {rule.role!r}{closest(rule.role, sorted(chain.roles))}")
    look = rule.attends
    if look.key in look.more_than:
        yield Problem((*here, "attends", "more-than"), f"{look.key} is the position that it attends to")
    scores = {"scores": rule.scores, "scores-on-repeated-tokens": rule.scores_on_repeated_tokens}
    able = sorted(name for name in MEASURES if _is_score(name))
    for key, given in scores.items():
        for measure in given:
            if measure not in MEASURES:
                yield Problem((*here, key, measure), f"unknown measure {measure!r}{closest(measure, able)}")
            elif not _is_score(measure):
                yield Problem(
                    (*here, key, measure), f"{measure} is not a score of a head alone{closest(measure, able)}"
                )
    for measure in rule.scores.keys() & rule.scores_on_repeated_tokens.keys():
        yield Problem(
            (*here, "scores", measure), f"{measure} is given twice: a head's evidence has one score of a name"
        )
    if rule.by_function_alone and not rule.scores:
        yield Problem((*here, "by-function-alone"), "needs a score on the task's own prompts, under `scores`")


def _is_score(measure: str) -> bool:
    """Whether it has a value for each head that depends on nothing but the task, and at most on a position."""
    spec = MEASURES[measure]
    return (
        spec.by_head
        and not (spec.joint or spec.compares or spec.approximate or spec.operands.by_key().keys() - {"at"})
        and spec.highest == 1
    )


def unfit_for(chain: Chain, task: Task, called: str) -> str:
    """Why a task cannot be followed by a chain; empty if it can."""
    missing = sorted(chain.positions - task.labels())
    if missing:
        return (
            f"the chain {chain.name!r} reads the positions {', '.join(missing)}, which the prompts of {called} do not "
            f"label (they label {', '.join(sorted(task.labels()))})"
        )
    for _, rule in chain.rules:
        strange = [what for what in rule.carries if what not in task.changes]
        if strange:
            can = f"only {', '.join(task.changes)}" if task.changes else "nothing"
            return (
                f"the chain {chain.name!r} asks whether heads carry the {strange[0]}, and the counterfactual of "
                f"{called} can change {can} alone"
            )
        for score in rule.own_scores:
            lacking = MEASURES[score.measure].lacking(task.offers)
            if lacking:
                return (
                    f"the chain {chain.name!r} reads {score.measure}, which needs {' and '.join(lacking)}, and "
                    f"{called} has none"
                )
    return ""
