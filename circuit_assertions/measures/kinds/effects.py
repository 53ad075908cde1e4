"""Effects: what a component's output does to the answer, and to what other heads attend to and write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from circuit_assertions.heads import Head
from circuit_assertions.measures.declaring import ANSWERS, CAUSAL, WANG, Asked, measure
from circuit_assertions.measures.operands import (
    AnyPosition,
    FromTo,
    KnockOut,
    Operands,
    Receiving,
    ReceivingHeads,
    setting_of,
)
from circuit_assertions.measures.receivers import Receiver
from circuit_assertions.tasks import END, TO_PATCH

if TYPE_CHECKING:
    from torch import Tensor

    from circuit_assertions.engine import Pass
    from circuit_assertions.engine.backends import AnyPatching

__all__ = ["attention_effect", "direct_effect", "path_effect", "pattern_effect", "total_effect", "write_effect"]

Direction = Literal["counterfactual-into-clean", "clean-into-counterfactual"]
Frozen = Literal["through-mlps", "direct"]

_PATCHED_IN: Direction = "counterfactual-into-clean"
_DIRECTION = "which run is patched into which"
_SEMANTICS = "what is live on a path"


class Path(Operands):
    """A path from a sender to the logits, or to the inputs of heads."""

    receiver: Receiving = Field("logits", description="where a path ends; default logits")
    semantics: Literal["through-mlps", "direct", "total"] = Field("through-mlps", description=_SEMANTICS)
    direction: Direction = Field(_PATCHED_IN, description=_DIRECTION)

    @field_validator("semantics")
    @classmethod
    def _total_has_no_receiver(cls, semantics: str, info: ValidationInfo) -> str:
        if semantics == "total" and hasattr(info.data.get("receiver"), "at"):
            raise ValueError("total effects have no receiver: leave `receiver:` out, or take through-mlps or direct")
        return semantics


class Place(Operands):
    """A component's output, at one position or at every one."""

    at: AnyPosition | None = Field(None, description="the position that is patched; default all of them")
    direction: Direction = Field(_PATCHED_IN, description=_DIRECTION)


class ToHeads(Operands):
    """A path from a sender to the inputs of heads."""

    receiver: ReceivingHeads = Field(description="where a path ends; default logits")
    semantics: Frozen = Field("through-mlps", description=_SEMANTICS)
    direction: Direction = Field(_PATCHED_IN, description=_DIRECTION)

    @field_validator("receiver")
    @classmethod
    def _at_its_place(cls, receiver: Any, info: ValidationInfo) -> Any:
        setting = setting_of(info)
        if setting is None:
            return receiver
        place = cls.place_of(receiver.which, info)
        if receiver.at is not None and place and place != receiver.at:
            raise ValueError(
                f"{setting.measure} is about this input at {place!r}, not at {receiver.at!r}: leave `at` out"
            )
        return receiver

    @classmethod
    def place_of(cls, which: str, info: ValidationInfo) -> str | None:
        """The position at which an input receives; None where any will do."""
        return END if which == "q" else None


class ToAttention(ToHeads, FromTo):
    """A path from a sender to where heads attend."""

    @classmethod
    def place_of(cls, which: str, info: ValidationInfo) -> str | None:
        """Queries receive at `query`, and keys at `key`."""
        if which == "v":
            raise ValueError(
                "attention-effect takes no values: they do not change where a head attends; use write-effect"
            )
        return info.data.get("query" if which == "q" else "key")


@measure(
    "direct-effect",
    kind="head",
    operands=KnockOut,
    unit="logits",
    help="logit difference lost at `end` when the head's write is taken out of the final residual stream, the "
    "final norm recomputed",
    source=f"{WANG}, section 3.1 (direct effect on the logits; norm exact instead of frozen)",
    needs=ANSWERS,
    relies_on=("writes", "residual", "readout"),
    wants=("end_writes",),
)
def direct_effect(taken: Pass, asked: Asked[KnockOut]) -> Tensor:
    """What is lost of the answer metric when a head's write at `end` is taken out of the final residual stream.

    One value for each prompt and head [prompts, heads]. The final norm is recomputed for each head, not frozen;
    everything between head and final residual stays as it was. Where the architecture norms the attention block's
    output, that norm is recomputed without the head as well.
    """
    import torch

    assert taken.final_residual is not None
    readout = taken.model.readout
    lost = []
    with torch.no_grad():
        full = readout.difference(taken.final_residual, taken.prompts)  # [prompts]
        for head in asked.components:
            rows = taken.final_residual - _write(taken, head)  # [prompts, d_model]
            lost.append(full - readout.difference(rows, taken.prompts))
        return torch.stack(lost, dim=1)


@measure(
    "path-effect",
    kind="head",
    operands=Path,
    unit="logits",
    components=("head", "mlp"),
    help="logit difference that the sender carries to the receiver: what is lost when the path from it to the "
    "logits, or to some heads' queries, keys or values, carries the counterfactual's output; with semantics: total "
    "whatever follows the sender is live, which is total-effect",
    source=f"{WANG}, section 3 and appendix on path patching",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching",),
)
def path_effect(taken: Pass, asked: Asked[Path]) -> Tensor:
    """Path effects of senders on a receiver [prompts, senders]: the logits, or a `Receiver`'s queries, keys or values.

    With `semantics: total`, whatever follows the senders is live.
    """
    patching, receiver, semantics = _patching(taken, asked), asked.operands.receiver, asked.operands.semantics
    if isinstance(receiver, Receiver):
        assert semantics != "total"
        return patching.to_inputs(asked.components, receiver.which, receiver.heads, receiver.at, semantics).T
    if semantics == "total":
        return patching.total(asked.components).T
    return patching.to_logits(asked.components, semantics).T


@measure(
    "total-effect",
    kind="head",
    operands=Place,
    unit="logits",
    components=("head", "mlp", "residual"),
    help="logit difference lost when the component's own output, at the position `at` or at every one, is the "
    "counterfactual's and everything after it is live (activation patching)",
    source=f"{WANG}, appendix; Vig et al. 2020, arXiv 2004.12265; Meng et al. 2022, arXiv 2202.05262 (residual)",
    needs=TO_PATCH,
    relies_on=CAUSAL,
    wants=("patching",),
)
def total_effect(taken: Pass, asked: Asked[Place]) -> Tensor:
    """Effects of components' own outputs of the other run, everything after them live [prompts, components]."""
    return _patching(taken, asked).total(asked.components, asked.operands.at).T


@measure(
    "pattern-effect",
    kind="head",
    operands=Place,
    unit="logits",
    help="logit difference lost when the head attends as in the counterfactual, from the position `at` or from "
    "every one, over its own live values, and everything after it is live",
    source=f"{WANG}, appendix; Prakash et al. 2024, arXiv 2402.14811 (patching patterns alone)",
    needs=TO_PATCH,
    relies_on=(*CAUSAL, "patterns", "inputs", "values"),
    wants=("patching",),
)
def pattern_effect(taken: Pass, asked: Asked[Place]) -> Tensor:
    """Effects of heads' attention patterns of the other run over live values [prompts, heads]."""
    return _patching(taken, asked).of_patterns(asked.components, asked.operands.at).T


@measure(
    "attention-effect",
    kind="head",
    operands=ToAttention,
    unit="share of attention",
    components=("head", "mlp"),
    help="attention of the receiver heads from the position `query` to the position `key` (their mean) that is "
    "lost when the path from the sender to their queries at `query`, or to their keys at `key`, carries the "
    "counterfactual's output; positive where attention is higher in the clean run, in either direction of "
    "patching",
    source=f"{WANG}, section 3 (the effect of S-inhibition heads on name movers' attention)",
    needs=TO_PATCH | {"positions"},
    relies_on=(*CAUSAL, "patterns", "inputs"),
    wants=("patching",),
    lowest=-1,
    highest=1,
)
def attention_effect(taken: Pass, asked: Asked[ToAttention]) -> Tensor:
    """Attention of a `Receiver`'s heads from `query` to `key` that depends on senders [prompts, senders]."""
    told = asked.operands
    assert isinstance(told.receiver, Receiver)
    which, heads, _ = told.receiver
    assert which != "v"
    patching = _patching(taken, asked)
    return patching.to_attention(asked.components, which, heads, told.query, told.key, told.semantics).T


@measure(
    "write-effect",
    kind="head",
    operands=ToHeads,
    unit="logits",
    components=("head", "mlp"),
    help="logit difference that the receiver heads together write at `end` straight into the final residual stream "
    "and that is lost when the path from the sender to their queries, keys or values carries the counterfactual's "
    "output; everything after the receivers stays, the final norm recomputed",
    source=f"{WANG}, section 3 (paths through the inputs of heads; direct between receivers and logits)",
    needs=TO_PATCH,
    relies_on=(*CAUSAL, "inputs", "writes", "residual"),
    wants=("patching",),
)
def write_effect(taken: Pass, asked: Asked[ToHeads]) -> Tensor:
    """The part of what a `Receiver`'s heads write directly to the answer that depends on senders [prompts, senders]."""
    receiver = asked.operands.receiver
    assert isinstance(receiver, Receiver)
    patching = _patching(taken, asked)
    return patching.to_writes(asked.components, *receiver, asked.operands.semantics).T


def _patching(taken: Pass, asked: Asked[Any]) -> AnyPatching:
    assert taken.patching is not None
    return taken.patching.towards(asked.operands.direction)


def _write(taken: Pass, head: Head) -> Tensor:
    """What the head adds to the residual stream at `end` [prompts, d_model]."""
    from circuit_assertions.engine.module_calls import apply_norm

    layout = taken.model.layout
    z = taken.head_outputs[head.layer][:, head.head]  # [prompts, d_head]
    own = z @ layout.W_O(head.layer)[head.head].to(z)
    post_norm = layout.attention_post_norm(head.layer)
    if post_norm is None:
        return own
    together = taken.attention_outputs[head.layer]
    return apply_norm(post_norm, together) - apply_norm(post_norm, together - own)
