"""What sets of heads do together: knock-outs, circuits compared with the whole model, and with random circuits."""

from __future__ import annotations

from dataclasses import replace

from circuit_assertions.measures.catalogue.spec import CAUSAL, WANG, MeasureSpec
from circuit_assertions.tasks import TO_PATCH

__all__ = ["CIRCUITS"]

_ABLATIONS = ("mean", ("mean", "resample", "zero"))
_RESAMPLED = ("resample", _ABLATIONS[1])
_SHARE = "share of the logit difference"
_MIB = "Mueller et al. 2025, arXiv 2504.13151"
_HALVES = (
    "on every other prompt of each template, and read on the others; with fewer than 32 prompts on the same ones, "
)
_BIASED = f"{_HALVES}which biases it upwards"
_HEADS = "node level, where the benchmark counts edges: heads, every other head ablated; MLPs stay"


def _of_a_set(
    name: str, told: str, source: str, unit: str = _SHARE, by_head: bool = False, lowest: float | None = None
) -> MeasureSpec:
    """A measure of a set of heads whose ablation is the suite's to choose."""
    return MeasureSpec(
        name,
        unit=unit,
        by_head=by_head,
        joint=True,
        help=told,
        source=source,
        choices={"ablation": _ABLATIONS},
        needs=TO_PATCH,
        relies_on=CAUSAL,
        lowest=lowest,
        of_means=True,  # a ratio of means: single prompts may lie below
    )


def _searching(spec: MeasureSpec, default: str, *others: str) -> MeasureSpec:
    return replace(spec, choices={**spec.choices, "search": (default, (default, *others))})


def _curve(name: str, told: str, source: str, lowest: float | None = None) -> MeasureSpec:
    return MeasureSpec(
        name,
        unit="area over circuit sizes",
        by_head=False,
        help=told,
        source=source,
        choices={"ablation": _RESAMPLED, "ranked-by": ("path-effect", ("path-effect", "total-effect"))},
        needs=TO_PATCH,
        relies_on=CAUSAL,
        lowest=lowest,
        of_means=True,  # a ratio of means: single prompts may lie below
    )


CIRCUITS = (
    _of_a_set(
        "ablation-effect",
        "logit difference lost when all of these heads are ablated together, at every position: by the mean over "
        "the counterfactual prompts of the same template, by the prompt's own counterfactual (resample), or by zero",
        f"{WANG}, section 2 (knockouts)",
        unit="logits",
    ),
    _of_a_set(
        "faithfulness",
        "logit difference of these heads alone, every other head ablated at every position, over that of the "
        "whole model (ratio of means); MLPs stay",
        f"{WANG}, section 4 (faithfulness; every position of a head is kept, not only the circuit's own)",
    ),
    _of_a_set(
        "faithfulness-over-random",
        "faithfulness of these heads minus that of random sets with as many heads in each layer (at most ten, seeded)",
        "a control for faithfulness: sets matched in size and layers",
    ),
    _searching(
        _of_a_set(
            "incompleteness",
            "how far the circuit without K is from the model without K, |F(C\\K) - F(M\\K)| over F(M), for the subset "
            "K of its heads where that is most (a lower bound: the search is greedy, or over ten random K); 0 is "
            f"complete. K is searched {_BIASED}",
            f"{WANG}, section 4 (completeness; the greedy search of the released code, not of Algorithm 3)",
            lowest=0,
        ),
        "greedy",
        "random",
    ),
    _searching(
        _of_a_set(
            "incompleteness-over-random",
            "incompleteness of these heads minus that of random sets with as many heads in each layer "
            "(at most ten, seeded), each with its own K; below 0 is better than random. Searched and read as "
            "incompleteness is",
            "a control for incompleteness: sets matched in size and layers",
        ),
        "random",
        "greedy",
    ),
    _searching(
        _of_a_set(
            "minimality",
            "what the circuit without K loses or gains with the head, |F(C\\(K and v)) - F(C\\K)| over F(M), K being "
            "the subset of its other heads where that is most (greedy, as long as it grows), or no head (none). K is "
            f"searched {_BIASED}",
            f"{WANG}, section 4 (minimality; K searched instead of chosen by hand)",
            by_head=True,
            lowest=0,
        ),
        "greedy",
        "none",
    ),
    _searching(
        _of_a_set(
            "minimality-over-random",
            "minimality of the head minus that of heads outside the circuit, each added to it: up to ten random "
            "heads of the same layer, seeded; above 0 is better than random. Searched and read as minimality is",
            "a control for minimality: heads of the same layers",
            by_head=True,
        ),
        "none",
        "greedy",
    ),
    _curve(
        "circuit-performance-ratio",
        "area under f = (m(C) - m(no head)) / (m(model) - m(no head)) over circuits of the 0.1, 0.2, 0.5, 1, 2, 5, 10, "
        "20, 50 and 100 % of heads with the largest effects on the logits, sizes rounded up, by the trapezoid rule "
        f"over these shares. Heads are ranked {_HALVES}which favours them",
        f"{_MIB} (CPR; {_HEADS})",
    ),
    _curve(
        "circuit-model-distance",
        "area between f and 1 over the circuits of circuit-performance-ratio; 0 is best, and values above 1 count "
        "like values below 1",
        f"{_MIB} (CMD; {_HEADS})",
        lowest=0,
    ),
    _curve(
        "circuit-performance-ratio-over-random",
        "circuit-performance-ratio minus that of random rankings of all heads (ten, seeded); above 0 is better",
        "a control for circuit-performance-ratio: circuits of the same sizes",
    ),
    _curve(
        "circuit-model-distance-over-random",
        "circuit-model-distance minus that of random rankings of all heads (ten, seeded); below 0 is better",
        "a control for circuit-model-distance: circuits of the same sizes",
    ),
)
