"""What a report shows of a circuit beside the verdicts: the effect of every head, and where its heads attend.

No verdict rests on any of it. The effects are those that a diagnosis reads anyway, on the same prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from circuit_assertions import CircuitAssertionsError
from circuit_assertions.assertions.chains import Chain
from circuit_assertions.assertions.circuits import Roles
from circuit_assertions.diagnosis.errors import DiagnosisError
from circuit_assertions.diagnosis.function import places_of
from circuit_assertions.diagnosis.prompt_counts import fewer
from circuit_assertions.diagnosis.sides import check_fit
from circuit_assertions.diagnosis.view import ByHead, View
from circuit_assertions.engine import LimitError
from circuit_assertions.heads import Head
from circuit_assertions.measures.figures import Figure
from circuit_assertions.ordering import ranked
from circuit_assertions.tasks import END, Prompt, PromptSet

__all__ = ["HeadEffect", "Look", "LookedAt", "Showing", "show_circuit"]

_EFFECT, _ATTENTION = "path-effect", "attention"
_PROMPTS = 3  # as text
_MOST_HEADS = 24  # whose attention is shown


@dataclass(frozen=True)
class HeadEffect:
    """The path effect of a head on the answer, on the model and, where there is one, on the baseline.

    Attributes:
        before: on the baseline.
        change: of the same prompts, after less before.
    """

    after: Figure
    before: Figure | None = None
    change: Figure | None = None


@dataclass(frozen=True)
class Look:
    """Where a head attends from one position of a prompt.

    Attributes:
        query: the position, as an index into the tokens.
        key: where its role attends to; None for roles that are known by their effect alone.
        shares: of its attention, one for each token up to the position.
        before: the same on the baseline.
    """

    head: Head
    role: str
    query: int
    key: int | None
    shares: tuple[float, ...]
    before: tuple[float, ...] | None = None


@dataclass(frozen=True)
class LookedAt:
    """A prompt as the tokenizer splits it, and where the circuit's heads attend in it."""

    tokens: tuple[str, ...]
    looks: tuple[Look, ...]


@dataclass(frozen=True)
class Showing:
    """A circuit on one model.

    Attributes:
        effects: of every head of the model.
        prompts: how many the effects were read on.
        looked_at: a few prompts.
        left_out: what could not be read, or was too much to show, in words.
    """

    effects: Mapping[Head, HeadEffect]
    prompts: int
    looked_at: tuple[LookedAt, ...]
    left_out: tuple[str, ...] = ()


def show_circuit(chain: Chain, roles: Roles, model: View, baseline: View | None) -> Showing:
    """Read what a report shows of a circuit.

    Args:
        chain: knows from where the heads of a role attend.

    Raises:
        CheckpointError, TaskError: if the model or its prompts cannot be read.
    """
    policy = model.policy
    task = fewer(model.task.look_with(policy.discovered_prompts), policy.compared_prompts)  # what a diagnosis reads
    now = replace(model, task=task)
    then = None if baseline is None else replace(baseline, task=task)
    left_out: list[str] = []
    if baseline is not None:
        try:
            check_fit(model.audit, model.checkpoint, baseline.checkpoint)
        except DiagnosisError as error:
            left_out.append(str(error))
            then = None
    looked = then
    if then is not None and then.is_recorded:
        left_out.append(f"attention is shown of {now.checkpoint} alone: that of {then.checkpoint} needs its weights")
        looked = None
    effects: Mapping[Head, HeadEffect] = {}
    looked_at: tuple[LookedAt, ...] = ()
    try:
        before = None if then is None else _before(then, left_out)
        effects = _effects(now, before)
    except LimitError as error:
        left_out.append(str(error))
    chosen = _chosen(roles, effects)
    if len(chosen) < len(dict.fromkeys(head for heads in roles.values() for head in heads)):
        left_out.append(f"attention is shown of the {len(chosen)} heads of the circuit with the largest effects")
    try:
        looked_at = _looked_at(chain, chosen, now, looked)
    except LimitError as error:
        left_out.append(str(error))
    return Showing(effects, len(now.audit.prompts(task, now.checkpoint)), looked_at, tuple(left_out))


def _before(then: View, left_out: list[str]) -> ByHead | None:
    """The baseline's effect of every head; None where there is only a record, and that has other readings."""
    try:
        return then.by_head(_EFFECT)
    except CircuitAssertionsError as error:
        if not then.is_recorded:
            raise
        left_out.append(f"the maps of {then.checkpoint} are not drawn: {error}")
        return None


def _effects(now: View, before: ByHead | None) -> dict[Head, HeadEffect]:
    """Of every head; all intervals of one map hold together with the confidence of a figure."""
    after = now.by_head(_EFFECT)
    level = now.level.among(len(after.heads) * (1 if before is None else 3))

    def effect(head: Head, before: ByHead | None) -> HeadEffect:
        own = after.of(head)
        if before is None:
            return HeadEffect(Figure.of_values(own, level))
        base = before.of(head)
        return HeadEffect(*(Figure.of_values(values, level) for values in (own, base, own - base)))

    return {head: effect(head, before) for head in after.heads}


def _chosen(roles: Roles, effects: Mapping[Head, HeadEffect]) -> dict[Head, str]:
    """The circuit's heads with their first role, in the order of roles; of a large circuit, those with most effect."""
    own: dict[Head, str] = {}
    for role, heads in roles.items():
        for head in heads:
            own.setdefault(head, role)

    def size(head: Head) -> float:
        one = effects.get(head)
        return 0.0 if one is None else max(abs(one.after.mean), 0.0 if one.before is None else abs(one.before.mean))

    largest = set(ranked(own, size)[:_MOST_HEADS])
    return {head: role for head, role in own.items() if head in largest}


def _looked_at(chain: Chain, chosen: Mapping[Head, str], now: View, then: View | None) -> tuple[LookedAt, ...]:
    """A few prompts of different templates, with the attention of these heads."""
    prompts = now.audit.prompts(now.task, now.checkpoint)
    rows = prompts.taking_turns()[:_PROMPTS]
    if not chosen:
        return ()
    asked = [[_asked(chain, head, role, prompts.prompts[row]) for head, role in chosen.items()] for row in rows]
    shares = [_shares(view, rows, asked) for view in (now, then) if view is not None]
    key = {"tokens": [list(prompts.prompts[row].tokens) for row in rows]}
    texts = now.audit.once("texts of tokens", key, lambda: _all_texts(now, prompts.some(rows)), now.checkpoint)
    return tuple(
        LookedAt(
            tuple(text),
            tuple(
                replace(look, shares=tuple(own[number]), before=tuple(before[0][number]) if before else None)
                for number, look in enumerate(looks)
            ),
        )
        for text, looks, own, *before in zip(texts, asked, *shares, strict=True)
    )


def _asked(chain: Chain, head: Head, role: str, prompt: Prompt) -> Look:
    """From where a head of a role attends in a prompt, and where to. What it attends to is not read yet."""
    known = places_of(chain, role)
    attends = None if known is None else known[1].attends
    query = prompt.positions[END if attends is None else attends.query]
    return Look(head, role, query, None if attends is None else prompt.positions.get(attends.key), ())


def _shares(view: View, rows: Sequence[int], asked: Sequence[Sequence[Look]]) -> list[list[list[float]]]:
    """The attention of these heads on these prompts: for each prompt and head the shares up to the position.

    Raises:
        LimitError: if the model's attention is not known.
    """
    opened = view.audit.opened(view.checkpoint)
    if "patterns" in opened.limits:
        raise LimitError(_ATTENTION, view.checkpoint, opened.limits["patterns"])
    prompts = view.audit.prompts(view.task, view.checkpoint).some(rows)
    key = {
        "token_hash": prompts.token_hash,
        "heads": [[[str(look.head), look.query] for look in looks] for looks in asked],
    }

    def read() -> list[list[list[float]]]:
        from circuit_assertions.engine import Wanted, run_passes

        found: dict[int, list[list[float]]] = {}
        for taken in run_passes(view.audit.model(view.checkpoint), prompts, Wanted(patterns=True)):
            for place, index in enumerate(taken.indices):
                found[index] = [
                    taken.patterns[look.head.layer][place][look.head.head, look.query, : look.query + 1]
                    .float()
                    .tolist()
                    for look in asked[index]
                ]
        return [found[place] for place in range(len(rows))]

    shares: list[list[list[float]]] = view.audit.once(_ATTENTION, key, read, view.checkpoint)
    return shares


def _all_texts(now: View, prompts: PromptSet) -> list[list[str]]:
    tokenizer = now.audit.tokenizer(now.checkpoint)
    return [list(_texts(tokenizer, prompt)) for prompt in prompts.prompts]


def _texts(tokenizer: Any, prompt: Prompt) -> Iterator[str]:
    """Each token as it stands in the text, with the space in front of it."""
    for token in prompt.tokens:
        text = str(tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))
        piece = str(tokenizer.convert_ids_to_tokens([token])[0])
        # Decoded alone, a piece of a sentencepiece vocabulary loses the space that it begins with.
        yield f" {text}" if piece.startswith("\u2581") and not text.startswith(" ") else text
