"""Removed or only wrapped: whether a behaviour that a fine-tuning took away is still in the model.

After Jain et al. 2024 (arXiv 2311.12786): fine-tuning rarely removes a capability; it adds a wrapper, which pruning a
few neurons or a few steps of fine-tuning take off again. Three things are read: probes, pruning, and fine-tuning in
memory, each beside a control that never had the behaviour where there is one.
"""

from __future__ import annotations

from dataclasses import replace

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Checkpoint
from circuit_assertions.diagnosis.prompt_counts import fewer
from circuit_assertions.diagnosis.sides import check_fit
from circuit_assertions.diagnosis.view import View, check_enough
from circuit_assertions.measures.declaring import ANSWERS
from circuit_assertions.measures.figures import Array, Figure, share_of
from circuit_assertions.measures.intervals import Interval, Level, interval_of_paired_rates
from circuit_assertions.tuning.errors import TuningError
from circuit_assertions.tuning.found import Asked, Probes, Revivals, Tell, Wrapping
from circuit_assertions.tuning.judging import judged
from circuit_assertions.verdict_words import WrappingVerdict

__all__ = ["examine"]

_TEXTS, _TEXT_LENGTH = 32, 48  # ordinary text that the baseline writes


def examine(audit: Audit, asked: Asked) -> Wrapping:
    """Say whether a behaviour of the baseline is removed from a model or only wrapped. No checkpoint is changed.

    Raises:
        DiagnosisError: if the checkpoints do not fit each other, or there are too few prompts.
        TuningError: if the baseline does not show the behaviour, or the control does.
    """
    if not asked.task.offers >= ANSWERS:
        raise TuningError(f"{asked.called} has no right and wrong answers: a behaviour is read by both")
    policy = audit.policy
    task = fewer(asked.task, None if "prompts" in asked.task.model_fields_set else policy.compared_prompts)
    check_fit(audit, *(one for one in (asked.model, asked.baseline, asked.control) if one is not None))
    prompts = audit.prompts(task, asked.model)
    check_enough(prompts, "to distinguish a wrapper and a removal", policy)
    views = {"model": View(audit, asked.model, task), "baseline": View(audit, asked.baseline, task)}
    if asked.control is not None:
        views["control"] = View(audit, asked.control, task)
    shown = {name: view.behaviour() for name, view in views.items()}
    then = Figure.of_values(shown["baseline"], Level.of_figures(policy))
    if then.interval.low <= 0:
        raise TuningError(
            f"{asked.baseline} does not show the behaviour: its {task.answer_metric.called} on {asked.called} is {then}"
        )
    kept = {name: Figure.of_values(share_of(values, shown["baseline"])) for name, values in shown.items()}
    if asked.control is not None and kept["control"].interval.high > policy.gone_below:
        raise TuningError(
            f"{asked.control} is not a control: it shows {kept['control'].mean:.0%} of the behaviour. Give a model "
            f"that never had it"
        )
    found = Wrapping(
        *(asked, prompts, Figure.of_values(shown["model"]), then, kept["model"]),
        *(WrappingVerdict.UNRESOLVED, "", policy, audit),
        control_kept=kept.get("control"),
    )
    return judged(_read(found, views, shown))


def _read(found: Wrapping, views: dict[str, View], shown: dict[str, Array]) -> Wrapping:
    """Probes, pruning and revival, as far as they are needed."""
    policy, asked = found.policy, found.asked
    if found.kept.interval.low > policy.suppressed_below:
        return found
    probes = {name: _probed(view, asked.tell) for name, view in views.items()}
    found = replace(found, probes=probes, probe_gap=_gap(probes))
    found = _pruned(found, shown)
    if asked.revive and found.kept.interval.high < policy.gone_below:
        found = replace(found, revivals=_revived(found, shown))
    return found


def _probed(view: View, tell: Tell) -> Probes:
    layers = view.audit.model(view.checkpoint).layout.layers
    read = []
    for layer in range(layers):
        tell(f"probes of {view.checkpoint}", layer, layers + 1)
        read.append(view.reading("probe-accuracy", layer=layer))
    best = view.reading("probe-accuracy")
    tell(f"probes of {view.checkpoint}", layers + 1, layers + 1)
    return Probes(tuple(read), best)


def _gap(probes: dict[str, Probes]) -> tuple[float, Interval] | None:
    if "control" not in probes:
        return None
    now, then = (probes[name].best.values for name in ("model", "control"))
    return float(now.mean() - then.mean()), interval_of_paired_rates(now, then, Level.of_figures())


def _pruned(found: Wrapping, shown: dict[str, Array]) -> Wrapping:
    """The curves of pruned neurons and heads, and what ordinary text loses at the point that is judged."""
    from circuit_assertions.engine.ordinary import losses_of_text
    from circuit_assertions.engine.pruning import KINDS, Pruning
    from circuit_assertions.tuning.pruned import prune
    from circuit_assertions.tuning.texts import ordinary_text

    asked, prompts = found.asked, found.prompts
    model = found.audit.model(asked.model)
    pruning, halves = Pruning(model), prompts.halves()
    search, report = (prompts.some(rows) for rows in halves)
    baseline = shown["baseline"][list(halves[0])], shown["baseline"][list(halves[1])]
    curves = tuple(
        prune(pruning, kind, baseline, (search, report), found.policy, asked.tell)
        for kind in KINDS
        if any(pruning.units(kind, layer) for layer in range(model.layout.layers))
    )
    texts = ordinary_text(found.audit, asked.baseline, asked.text, _TEXTS, _TEXT_LENGTH)
    whole, lost = losses_of_text(model, texts).numpy(), dict[str, Figure]()
    for curve in curves:
        with pruning.without(curve.chosen.units):
            lost[curve.kind] = Figure.of_values(losses_of_text(model, texts).numpy() - whole)
    return replace(found, curves=curves, text_lost=lost)


def _revived(found: Wrapping, shown: dict[str, Array]) -> Revivals:
    """Fine-tune copies of the model, the control and the original."""
    from circuit_assertions.checkpoints.opening import open_copy
    from circuit_assertions.engine.training import Training
    from circuit_assertions.tuning.revived import Revival, beyond, ratio_of, revive

    asked, policy, prompts = found.asked, found.policy, found.prompts
    learned, reported = prompts.halves()
    trained, held = prompts.some(learned[: policy.revival_prompts]), prompts.some(reported)
    whole = float(shown["baseline"][list(reported)].mean())

    def of(checkpoint: Checkpoint, called: str, seeds: int) -> Revival:
        training = Training(open_copy(checkpoint, found.audit.opening), trained, held)
        return revive(training, whole, policy.revived_above, asked.course, range(seeds), asked.tell, called)

    model, original = of(asked.model, "the model", asked.seeds), of(asked.baseline, "the original", seeds=1)
    if asked.control is None:
        return Revivals(model, original)
    control = of(asked.control, "the control", asked.seeds)
    level = Level.of_figures(policy)
    ratio = ratio_of(model, control, level)
    return Revivals(model, original, control, ratio, None if ratio else beyond(model, control, level))
