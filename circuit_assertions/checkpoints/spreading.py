"""A model that is too large for one device lies on several: whole blocks on each, by accelerate's device map.

Values go from block to block over the devices. https://huggingface.co/docs/accelerate/concept_guides/big_model_inference
"""

from __future__ import annotations

from typing import Any

import torch

from circuit_assertions.checkpoints.devices import choose_device, visible_gpus
from circuit_assertions.checkpoints.errors import CheckpointError
from circuit_assertions.checkpoints.free_memory import amount_text, free_memory

__all__ = ["FULLEST", "devices_for", "put_on", "size_of"]

FULLEST = 0.8  # of a device's free memory that weights may take where they are spread; the rest is for what runs


def devices_for(needed: int, wanted: str) -> tuple[torch.device, ...]:
    """The devices that a model goes to.

    Args:
        needed: bytes of its weights.
        wanted: as `choose_device`; with `auto`, a model that is larger than the first GPU's free memory goes to all
            GPUs that this process may see, with `all` every model does.

    Raises:
        DeviceError: if there is no such device.
    """
    first = choose_device(wanted)
    gpus = visible_gpus() if wanted in ("auto", "all") and first.type == "cuda" else ()
    if len(gpus) > 1 and (wanted == "all" or needed > free_memory(first)):
        return gpus
    return (first,)


def put_on(model: Any, devices: tuple[torch.device, ...]) -> Any:
    """A model of transformers on its devices, in evaluation mode.

    Raises:
        CheckpointError: if its parts do not fit there.
    """
    if len(devices) == 1:
        return model.to(devices[0]).eval()
    from accelerate import dispatch_model, infer_auto_device_map

    whole = list(model._no_split_modules or ())
    parts = [part for part in model.modules() if type(part).__name__ in whole]
    needed, largest = size_of(model), max(map(size_of, parts), default=0)
    # As much on each as on the others, so that none is full while others are empty; the last takes what is left.
    free = [int(FULLEST * free_memory(device)) for device in devices]
    rooms = [min(room, needed // len(devices) + largest) for room in free[:-1]] + free[-1:]
    places = infer_auto_device_map(model, dict(enumerate(rooms)), no_split_module_classes=whole)
    if any(not isinstance(place, int) for place in places.values()):
        raise CheckpointError(
            f"the model needs {amount_text(needed)}, and its blocks do not fit on {len(devices)} devices with "
            f"{amount_text(sum(free))} of free memory for weights: give a narrower --model-dtype, or use more devices"
        )
    named = {name: devices[place] for name, place in places.items()}
    return dispatch_model(model.eval(), named, main_device=devices[0], force_hooks=True)


def size_of(part: Any) -> int:
    """Bytes of the weights of a module."""
    return sum(weight.numel() * weight.element_size() for weight in part.parameters())
