"""Results of audits for tests of reports: a large one, one whose every name is hostile, and a training run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from circuit_assertions.heads import Head
from circuit_assertions.results import AssertionResult, AuditedModel, AuditResult, CheckpointFacts, Figure, Reading
from circuit_assertions.results.audit import FindingResult, GateVerdict, HeadFinding, Waiver, WorstPrompts
from circuit_assertions.results.circuit_shown import AttendingHead, CircuitShown, EffectOfHead, PromptShown
from circuit_assertions.results.values import MetricFacts
from circuit_assertions.verdict_words import GateResult, Outcome

__all__ = ["HOSTILE", "attending", "audit_of", "circuit", "large_result", "hostile_result", "made_line", "run_result"]

METRIC = MetricFacts(name="logit-difference", called="logit difference", unit="logits")
# Ends of elements, quotes, entities, marks of Markdown, workflow commands, right-to-left, zero-width, and an escape.
HOSTILE = (
    "<script>window.broken=1</script>",
    "</style><img src=x onerror=window.broken=1>",
    "\"'><svg onload=window.broken=1>",
    "</script><!--",
    "]]>&lt;b&gt;&amp;{{ 7*7 }}{% x %}",
    "a|b `c` *d* _e_ [f](javascript:window.broken=1) # g",
    "\u202eevil\u202c \u200bzero \u05d0\u05d1\u05d2 \u0627\u0644",
    "line\none\r\n::error::two\x1b[2J%0A,:",
)
_WORDS = (Outcome.HELD, Outcome.BROKEN, Outcome.UNRESOLVED, Outcome.SKIPPED, Outcome.ERROR)
_READ = (Outcome.HELD, Outcome.BROKEN, Outcome.UNRESOLVED)


def figure(mean: float, half: float = 0.1) -> Figure:
    return Figure(mean=mean, low=mean - half, high=mean + half)


def made_line(place: int, word: str, *, model: str = "tuned", name: str = "", text: str = "") -> AssertionResult:
    """An assertion with everything that a report shows. `text` stands in all of its free texts."""
    mean = math.sin(place) * 3
    read = word in _READ
    rows = tuple(
        HeadFinding(
            name=f"L{head % 48}H{place % 48}",
            figure=figure(mean + head / 100),
            verdict=word,
            findings=(FindingResult(verdict=word, expected=f"at least 0.5 {text}", read=f"sign {text}"),),
            baseline=mean / 2,
        )
        for head in range(40 if place % 10 == 0 else 3)
    )
    task = {"kind": "ioi", "prompts": 128, "seed": 0, "bos": text or "tokenizer"}
    return AssertionResult(
        model=model,
        suite=f"suites/part-{0 if name else place % 7}.yaml{text}",
        id=name or f"assertion-number-{place}{text}",
        line=place + 1,
        outcome=word,
        measure="attention",
        subject=f"attention of name-mover{text}",
        expected=f"at least 0.5{text}" if read else "",
        rows=rows if read else (),
        reading=Reading(measure="attention", unit=f"share of attention{text}", prompts=128, task=task)
        if read
        else None,
        confidence=0.99 if read else None,
        level=0.9999 if read else None,
        worst=WorstPrompts(which="lowest", row=rows[0].name, prompts=((-1.5, f"Then Mary {text}"),)) if read else None,
        reason="" if read else f"no circuit file {text}",
        way_out="" if read else f"give one {text}",
        why=f"the name movers read something else {text}",
        waiver=Waiver.model_validate({"until": "2027-01-01", "reason": f"known {text}", "expired": False})
        if place % 50 == 7
        else None,
        command=f"pytest --model={model} suite.yaml::{name or place}{text}",
    )


def attending(tokens: Sequence[str], head: str, role: str) -> AttendingHead:
    shares = tuple(round((place + 1) / sum(range(len(tokens) + 1)), 4) for place in range(len(tokens)))
    return AttendingHead(head=head, role=role, query=len(tokens) - 1, key=1, shares=shares, before=shares[::-1])


def circuit(layers: int, heads: int, *, model: str = "tuned", name: str = "ioi", text: str = "") -> CircuitShown:
    """A circuit with the effects of all heads."""
    everyone = [Head(layer, head) for layer in range(layers) for head in range(heads)]
    effects = {
        str(head): EffectOfHead(
            after=figure(math.sin(place)),
            before=figure(math.cos(place)),
            change=figure(math.sin(place) - math.cos(place)),
        )
        for place, head in enumerate(everyone)
    }
    mover, other = f"name-mover{text}", f"s-inhibition{text}"
    tokens = ("Then", " Mary", " and", f" John{text}", " to")
    roles = {mover: tuple(map(str, everyone[:2])), other: tuple(map(str, everyone[1:4]))}
    return CircuitShown(
        model=model,
        baseline=f"base{text}",
        circuit=f"{name}{text}",
        task=f"ioi{text}",
        metric=METRIC.model_copy(update={"unit": f"logits{text}"}) if text else METRIC,
        layers=layers,
        heads=heads,
        roles=roles,
        shorts={mover: f"NM{text}"},
        prompts=128,
        effects=effects,
        looked_at=(PromptShown(tokens=tokens, heads=(attending(tokens, str(everyone[0]), mover),)),),
        left_out=(f"nothing {text}",) if text else (),
    )


def audit_of(
    lines: Sequence[AssertionResult],
    circuits: Sequence[CircuitShown] = (),
    runs: Sequence[Sequence[str]] = (),
    text: str = "",
) -> AuditResult:
    """An audit of these assertions, whose gate fails where one is broken or could not be read."""
    failed = any(line.outcome in (Outcome.BROKEN, Outcome.ERROR) for line in lines)
    result = GateResult.FAIL if failed else GateResult.PASS
    models = tuple(dict.fromkeys(line.model for line in lines))
    return AuditResult(
        baseline=f"base{text}",
        runs=tuple(map(tuple, runs)),
        models=tuple(
            AuditedModel(
                model=model,
                facts=_facts(model, text),
                warnings=(f"w{text}",),
            )
            for model in models
        ),
        assertions=tuple(lines),
        circuits=tuple(circuits),
        gate=GateVerdict(passed=not failed, exit_code=int(failed), line=f"GATE: {result} ({len(lines)} of them{text})"),
    )


def _facts(model: str, text: str) -> CheckpointFacts:
    return CheckpointFacts(
        checkpoint=model,
        fingerprint=f"f{text}",
        architecture=f"A{text}",
        layers=48,
        heads=48,
        d_model=64,
        dtype="float32",
        device="cpu",
        notes=(f"n{text}",),
    )


def large_result() -> AuditResult:
    """48 layers of 48 heads, and 500 assertions."""
    lines = [made_line(place, _WORDS[place % len(_WORDS)]) for place in range(500)]
    return audit_of(lines, [circuit(48, 48)])


def hostile_result() -> AuditResult:
    """Whatever may come from elsewhere is hostile, each text once in every place."""
    lines = [made_line(place, word, model=f"tuned{text}", text=text) for place, (word, text) in enumerate(_pairs())]
    circuits = [circuit(3, 4, model=f"tuned{text}", text=text) for text in HOSTILE]
    return audit_of(lines, circuits, text=HOSTILE[0])


def _pairs() -> Iterator[tuple[str, str]]:
    yield from ((word, text) for text in HOSTILE for word in _WORDS)


def run_result() -> AuditResult:
    """A training run of three checkpoints in which one assertion breaks, and another model."""
    run = [f"run/checkpoint-{step}" for step in (10, 20, 30)]
    words = {"breaks": (Outcome.HELD, Outcome.BROKEN, Outcome.BROKEN), "stays": (Outcome.HELD,) * 3}
    lines = [
        made_line(place, word, model=model, name=name)
        for name, some in words.items()
        for place, (word, model) in enumerate(zip(some, run, strict=True))
    ]
    lines += [made_line(3, Outcome.HELD, model="other", name=name) for name in words]
    return audit_of(lines, runs=[run])
