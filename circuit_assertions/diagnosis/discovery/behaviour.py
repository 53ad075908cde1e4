"""Whether a model does a task at all, before its circuit is looked for: yes, no, or not certain on these prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from circuit_assertions.assertions.chains import Chain
from circuit_assertions.diagnosis.discovery.head_functions import functions
from circuit_assertions.diagnosis.errors import NoCircuitError, UndecidedError
from circuit_assertions.diagnosis.view import View
from circuit_assertions.measures.figures import Figure, number
from circuit_assertions.ordering import ranked
from circuit_assertions.policy import DEFAULT
from circuit_assertions.tasks import LOGIT_DIFFERENCE, AnswerMetric, PromptSet, Task

__all__ = ["Doing", "check_behaviour", "rates_shown", "with_enough_prompts"]


@dataclass(frozen=True)
class Doing:
    """What a model does of a task.

    Attributes:
        behaviour: the answer metric and `answer-rate`, by the measure's name.
        kinds: the answer rate for each kind of prompt (ABBA, BABA), where two of them clearly differ; else empty.
        least_rate: the share of right answers that a model which does the task has.
    """

    behaviour: Mapping[str, Figure]
    prompts: int
    kinds: Mapping[str, Figure] = field(default_factory=dict)
    metric: AnswerMetric = LOGIT_DIFFERENCE
    least_rate: float = DEFAULT.least_rate

    @property
    def certain(self) -> bool | None:
        """Whether the model does the task; None where the intervals leave that open."""
        rate, difference = (self.behaviour[name].interval for name in ("answer-rate", self.metric.name))
        if rate.low >= self.least_rate and difference.low > 0:
            return True
        return False if rate.high < self.least_rate or difference.high <= 0 else None

    def __str__(self) -> str:
        rate, difference = self.behaviour["answer-rate"], self.behaviour[self.metric.name]
        kinds = f" (by kind of prompt: {rates_shown(self.kinds)})" if self.kinds else ""
        if self.certain is None:
            text = (
                f"undecided: {_percent(rate)} right on {self.prompts} prompts; at least {self.least_rate:.0%} is needed"
            )
            if difference.interval.low <= 0:
                text += f", and a {self.metric.called} above zero, which is {difference}"
            return f"{text}{kinds}; use more prompts"
        return (
            f"the model does not do the task: it answers right on {rate.mean:.0%} of the prompts "
            f"[{rate.interval.low:.0%}, {rate.interval.high:.0%}] (at least {self.least_rate:.0%} is needed), with a "
            f"{self.metric.called} of {difference}{kinds}"
        )


def check_behaviour(view: View, chain: Chain) -> Doing:
    """What the model does of the task.

    Raises:
        NoCircuitError: if it does not do it, so that there is no circuit to find.
        UndecidedError: if it is undecided on these prompts.
    """
    metric, policy = view.task.answer_metric, view.policy
    view.plan("answer-rate")
    difference, rate = view.reading(metric.name), view.reading("answer-rate")
    prompts = view.audit.prompts(view.task, view.checkpoint)
    kinds = {kind: rate.values[rows] for kind, rows in _kinds(prompts).items()}
    level, of_kinds = view.level.among(2), view.level.among(len(kinds))  # of metric and rate; of the kinds' rates
    doing = Doing(
        {metric.name: Figure.of(difference, level), "answer-rate": Figure.of(rate, level)},
        len(prompts),
        _if_they_differ(
            {kind: Figure(float(hits.mean()), rate.interval(hits, of_kinds)) for kind, hits in kinds.items()}
        ),
        metric,
        policy.least_rate,
    )
    if doing.certain:
        return doing
    if doing.certain is None:
        raise UndecidedError(str(doing))
    raise NoCircuitError(str(doing), *_by_function_alone(view, chain))


def with_enough_prompts(view: View, chain: Chain, tell: Callable[[str], None]) -> tuple[View, Doing]:
    """The view, and what the model does of its task; on more prompts of the same seed if it is undecided on these.

    Args:
        tell: gets the next step, as text.

    Raises:
        NoCircuitError: if the model does not do the task, or (an UndecidedError) if it is undecided on as many times
            the prompts as the policy says.
    """
    most = view.policy.undecided_draws * view.task.count
    while True:
        try:
            return view, check_behaviour(view, chain)
        except UndecidedError:
            more = _doubled(view.task, most)
            if more is None:
                raise
        view = View(view.audit, view.checkpoint, more)
        tell(f"behaviour, undecided so far, on {most} prompts at most")


def _doubled(task: Task, most: int) -> Task | None:
    """The task with twice as many prompts; None where these would be too many, or it has no more."""
    return task.with_count(2 * task.count) if 2 * task.count <= most else None


def _kinds(prompts: PromptSet) -> dict[str, list[int]]:
    """Prompts by kind, by index: what stands before the number of a template; templates, where that is always one."""
    by_template: dict[str, list[int]] = {}
    for index, prompt in enumerate(prompts.prompts):
        by_template.setdefault(prompt.template, []).append(index)
    kinds: dict[str, list[int]] = {}
    for template, rows in sorted(by_template.items()):
        kinds.setdefault(template.partition("/")[0], []).extend(rows)
    return kinds if len(kinds) > 1 else by_template


def _if_they_differ(rates: Mapping[str, Figure]) -> dict[str, Figure]:
    """The rates, if the intervals of two of them have nothing in common; else none."""
    intervals = [rate.interval for rate in rates.values()]
    if max(interval.low for interval in intervals) <= min(interval.high for interval in intervals):
        return {}
    return {kind: rates[kind] for kind in sorted(rates)}


def _by_function_alone(view: View, chain: Chain) -> list[str]:
    """The heads that have a role's function, for rules that are useful without the behaviour."""
    told = []
    for rule in (rule for _, rule in chain.rules if rule.by_function_alone):
        score = rule.own_scores[0].measure
        judged = functions(chain, rule, view, view)
        scores = {head: one.evidence[score] for head, one in sorted(judged.items()) if one.agrees}
        if scores:
            shown = ", ".join(
                f"{head} {number(scores[head])}" for head in ranked(scores, scores.__getitem__, decimals=2)
            )
            told.append(f"by function only, effect not tested: {rule.role} {shown} ({score})")
    return told


def rates_shown(rates: Mapping[str, Figure]) -> str:
    """`ABBA 33% [28%, 39%], BABA 100% [98%, 100%]`."""
    return ", ".join(f"{kind} {_percent(rate)}" for kind, rate in rates.items())


def _percent(rate: Figure) -> str:
    return f"{rate.mean:.0%} [{rate.interval.low:.0%}, {rate.interval.high:.0%}]"
