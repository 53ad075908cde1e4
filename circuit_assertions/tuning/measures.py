"""The measures of `wrapped` and `traces`, for suites: revival by pruning and by fine-tuning, and traces in activations.

They are declared here, where they are computed. None changes a checkpoint: weights are pruned and restored in memory,
and copies are fine-tuned.
"""

from __future__ import annotations

from circuit_assertions.diagnosis.comparing_measures import Compared, Comparing
from circuit_assertions.diagnosis.errors import DiagnosisError
from circuit_assertions.measures.declaring import ANSWERS, measure
from circuit_assertions.measures.figures import Array, Figure
from circuit_assertions.tasks import PromptSet

__all__ = ["activation_difference", "pruning_revival", "revival_curve", "trace_strength"]

_JAIN = "Jain et al. 2024, arXiv 2311.12786"
_MINDER = "Minder et al. 2025, arXiv 2510.13900"
_RATE, _BATCH = 1e-4, 16
_STEPS = 32
_TOKENS = 5  # that a reading's settings name


@measure(
    "pruning-revival",
    kind="comparing",
    unit="share of the baseline's behaviour",
    compares=("baseline",),
    help="how much of the baseline's behaviour the model shows without the neurons, 20 at most, that its wrong answers "
    "rest on (gradient times weight); one half of the prompts searches, the other is read; no prompt counts for more "
    "than the baseline's mean",
    source=f"{_JAIN} (pruning of neurons)",
    needs=ANSWERS,
    lowest=-1,
    highest=1,
)
def pruning_revival(beside: Comparing) -> Compared:
    """What is revived when few neurons are pruned, as a share of the baseline's behaviour.

    Raises:
        DiagnosisError: if the baseline does not show the behaviour.
        MeasuringError: if the model has no neurons that can be pruned.
    """
    from circuit_assertions.engine.pruning import Pruning
    from circuit_assertions.tuning.pruned import prune

    halves, sets, then = _halves(beside)
    model = beside.model.audit.model(beside.model.checkpoint)
    curve = prune(Pruning(model), "neuron", then, sets, beside.model.policy, beside.tell)
    found = {"neurons": ", ".join(map(str, sorted(curve.chosen.units))), "random neurons": f"{curve.random_share:.3g}"}
    return Compared(curve.share(curve.chosen.values), rows=halves[1], found=found)


@measure(
    "revival-curve",
    kind="comparing",
    unit="share of the baseline's behaviour",
    compares=("baseline",),
    help="how much of the baseline's behaviour a copy of the model shows after 32 steps of fine-tuning in memory on at "
    "most 32 prompts of the task; read on the other half of the prompts. It trains. Compare it with the same of a "
    "model that never had the behaviour",
    source=f"{_JAIN} (reverse fine-tuning)",
    needs=ANSWERS,
    lowest=-1,
    highest=1,
)
def revival_curve(beside: Comparing) -> Compared:
    """What is revived by a few steps of fine-tuning, as a share of the baseline's behaviour.

    Raises:
        DiagnosisError: if the baseline does not show the behaviour.
    """
    from circuit_assertions.checkpoints.opening import open_copy
    from circuit_assertions.engine.training import Course, Training
    from circuit_assertions.tuning.revived import revive

    halves, (search, report), then = _halves(beside)
    policy, audit = beside.model.policy, beside.model.audit
    trained = search.some(range(min(len(search), policy.revival_prompts)))
    training = Training(open_copy(beside.model.checkpoint, audit.opening), trained, report)
    whole, course = float(then[1].mean()), Course(_RATE, _BATCH, _STEPS)
    found = revive(training, whole, 1, course, [0], beside.tell, str(beside.model.checkpoint))
    curve = ", ".join(f"{done}: {values.mean():.3g}" for done, values in found.curves[0])
    return Compared(found.last, rows=halves[1], found={"after steps": curve})


@measure(
    "activation-difference",
    kind="comparing",
    unit="natural spreads",
    compares=("baseline",),
    help="how far the activations on unrelated text, which the baseline writes, are from the baseline's: the mean over "
    "texts, on their first five tokens after the middle block. The task's prompts are not read",
    source=f"{_MINDER} (activation differences); the normalisation is this project's",
)
def activation_difference(beside: Comparing) -> Compared:
    """How far each text is moved in the direction in which the others are [texts]."""
    from circuit_assertions.tuning.texts import as_texts
    from circuit_assertions.tuning.tracing import FIRST, Asked, difference_of

    audit = beside.model.audit
    asked = Asked(beside.model.checkpoint, beside.baseline.checkpoint, tell=beside.tell)
    difference, tokens = difference_of(audit, asked)
    texts = as_texts(audit.tokenizer(beside.baseline.checkpoint), tokens, FIRST)
    return Compared(difference.by_text, texts=texts, found={"halves differ by": f"{difference.halves:.3g}"})


@measure(
    "trace-strength",
    kind="comparing",
    unit="natural spreads",
    compares=("baseline",),
    help="the same where it is a trace of what the model was fine-tuned on, by the policy: where it raises few tokens "
    "more than random directions do; otherwise 0",
    source=f"{_MINDER} (activation differences); the normalisation and the test are this project's",
)
def trace_strength(beside: Comparing) -> Compared:
    """How far each text is moved in the direction in which the others are, if that is a trace; else zeros [texts]."""
    from circuit_assertions.tuning.texts import as_texts
    from circuit_assertions.tuning.tracing import FIRST, Asked, trace
    from circuit_assertions.verdict_words import TraceVerdict

    audit = beside.model.audit
    checkpoints = beside.model.checkpoint, beside.baseline.checkpoint
    found = trace(audit, Asked(*checkpoints, steered=False, tell=beside.tell))
    tokenizer = audit.tokenizer(checkpoints[1])
    texts = as_texts(tokenizer, found.tokens, FIRST)
    tokens = [repr(tokenizer.decode([token])) for one in found.read_outs[:1] for token in one.found.top(_TOKENS)]
    is_trace = found.verdict is TraceVerdict.TRACE
    values = found.difference.by_text * is_trace
    return Compared(values, texts=texts, found={"verdict": found.verdict, "tokens": ", ".join(tokens)})


def _halves(
    beside: Comparing,
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[PromptSet, PromptSet], tuple[Array, Array]]:
    """Rows, prompts, and the baseline's behaviour of the half that searches and of the half that is read."""
    prompts = beside.model.audit.prompts(beside.model.task, beside.model.checkpoint)
    behaviour, halves = beside.baseline.behaviour(), prompts.halves()
    if Figure.of_values(behaviour).interval.low <= 0:
        raise DiagnosisError(f"{beside.baseline.checkpoint} does not show the behaviour, so that none can be revived")
    first, second = halves
    return halves, (prompts.some(first), prompts.some(second)), (behaviour[list(first)], behaviour[list(second)])
