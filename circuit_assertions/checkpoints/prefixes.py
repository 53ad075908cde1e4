"""Names of stored tensors without what training wrappers put into them: `_orig_mod.h.0.w` is `h.0.w`. No torch."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["plain_name", "without_wrappers", "wrappers_in"]

# What puts a segment of its own into the name of every weight that it wraps.
_WRAPPERS = {
    "_orig_mod": "torch.compile",
    "module": "DistributedDataParallel or DeepSpeed",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Fabric or Lightning",
    "_dp_module": "data parallelism",
}
_PEFT = ("base_model", "model")  # at the beginning, where PEFT's model was saved whole


def without_wrappers(name: str) -> str:
    """The name of a tensor less what wrappers other than PEFT put into it."""
    return ".".join(segment for segment in name.split(".") if segment not in _WRAPPERS) or name


def plain_name(name: str) -> str:
    """The name that a tensor has in the model itself."""
    segments = without_wrappers(name).split(".")
    if len(segments) > 2 and tuple(segments[:2]) == _PEFT:
        segments = segments[2:]
    return ".".join(segments) or name


def wrappers_in(names: Iterable[str]) -> list[str]:
    """The segments that wrappers add to these names, each with its wrapper: "`_orig_mod.` of torch.compile"."""
    found: set[str] = set()
    peft = False
    for name in names:
        segments = name.split(".")
        found.update(segment for segment in segments if segment in _WRAPPERS)
        peft = peft or tuple(segment for segment in segments if segment not in _WRAPPERS)[:2] == _PEFT
    said = [f"`{segment}.` of {writer}" for segment, writer in _WRAPPERS.items() if segment in found]
    return [*said, *(["`base_model.model.` of PEFT"] if peft else [])]
