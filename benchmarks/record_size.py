"""How large a record of a large audit is: 500 assertions on a model of 30 layers of 9 heads. Prints a table.

    python -m benchmarks.record_size

The values are drawn, with as many digits as float32 has, so that nothing compresses better than real readings do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from circuit_assertions.components import Component, all_of
from circuit_assertions.measures import Reading as TakenReading
from circuit_assertions.records.building import About, build
from circuit_assertions.records.gathering import Gathered
from circuit_assertions.records.paths import Shortening
from circuit_assertions.records.record import Record
from circuit_assertions.results import AssertionResult, AuditedModel, AuditResult, Figure, Reading
from circuit_assertions.results.audit import GateVerdict, HeadFinding
from circuit_assertions.verdict_words import GateResult, Outcome

LAYERS, HEADS, ASSERTIONS, PROMPTS = 30, 9, 500, 128
TEXT = "While Joshua and Rebecca were commuting to the restaurant, Joshua gave a necklace to"


def reading(number: int, heads: tuple[Component, ...]) -> TakenReading:
    """A reading that no other assertion shares, of some heads on the same prompts as all others."""
    drawn = np.random.default_rng(number).normal(size=(PROMPTS, len(heads))).astype(np.float32).astype(np.float64)
    settings = {
        "task": {"kind": "ioi", "prompts": PROMPTS, "seed": 0},
        "operands": {"receiver": f"head {number}"},
        "token_hash": "0" * 64,
        "balance": {f"ABBA/{template}": 8 for template in range(16)},
        "model": {"fingerprint": "0" * 81, "architecture": "LlamaForCausalLM", "dtype": "float32", "device": "cpu"},
    }
    hashes = [f"{prompt:016x}" for prompt in range(PROMPTS)]
    texts = [f"{TEXT} {prompt}" for prompt in range(PROMPTS)]
    templates = [f"ABBA/{prompt % 16}" for prompt in range(PROMPTS)]
    return TakenReading(
        "path-effect", "logits", "mean", drawn, heads, settings, texts, templates, hashes=hashes, alone=True
    )


def record_of(heads: tuple[Component, ...], readings: int) -> Record:
    """The record of an audit whose assertions share so many readings."""
    gathered, assertions = Gathered(), []
    taken = [reading(number, heads) for number in range(readings)]
    names = tuple(map(str, heads))
    told = [Reading.of(one.only(heads[:1])).model_copy(update={"components": names}) for one in taken]
    for number in range(ASSERTIONS):
        one = taken[number % readings]
        gathered.take("model", one)
        rows = tuple(
            HeadFinding(
                name=str(head),
                figure=Figure(mean=0.123456, low=0.1, high=0.2),
                verdict=Outcome.HELD,
                findings=(),
            )
            for head in heads
        )
        assertions.append(
            AssertionResult(
                model="model",
                suite="suites/large.yaml",
                id=f"assertion-{number}",
                outcome=Outcome.HELD,
                rows=rows,
                reading=told[number % readings],
            )
        )
    gate = GateVerdict(passed=True, exit_code=0, line=f"GATE: {GateResult.PASS} ({ASSERTIONS} held)")
    audit = AuditResult(models=(AuditedModel(model="model"),), assertions=tuple(assertions), gate=gate)
    return build(audit, gathered, About(datetime.now(UTC), 1.0, Shortening(Path.cwd())))


def main() -> None:
    """Print the sizes."""
    everyone = all_of("head", LAYERS, HEADS)
    for called, heads, readings in (
        ("500 assertions about 5 heads each, no reading shared", everyone[:5], ASSERTIONS),
        ("500 assertions about all 270 heads, 20 readings", everyone, 20),
        ("500 assertions about all 270 heads, no reading shared", everyone, ASSERTIONS),
    ):
        made = record_of(heads, readings)
        values = sum(one.values.prompts * one.values.columns for one in made.readings)
        print(f"{called}: {len(made.to_json()) / 1e6:.1f} MB, {values} values")


if __name__ == "__main__":
    main()
