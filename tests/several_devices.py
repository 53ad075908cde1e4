"""Simulated devices: tensors that lie on one of several, whose values are computed on the processor.

Run as a program, it reads measures of checkpoints on the processor and over two such devices, and prints the largest
difference of each, over its largest value, as JSON. An operation on tensors of two devices raises an error, as on GPUs.
What it cannot show is what only a GPU has: its own arithmetic, its memory, and copies that end later than they are
asked for.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from auditing import ioi, repeated
from tiny_models import save_tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from circuit_assertions.audit import Audit
from circuit_assertions.checkpoints import Opening, find_checkpoints, fitting, opening
from circuit_assertions.engine import backends
from circuit_assertions.heads import Head
from circuit_assertions.measures import Receiver
from circuit_assertions.request import Request

IOI, REPEATED = ioi(prompts=2), repeated(prompts=2, length=8)
SET = (Head(1, 0), Head(2, 2))
PATCHED = (
    Request("path-effect", IOI),
    Request("path-effect", IOI, (("receiver", Receiver("q", (Head(2, 1), Head(1, 3)), "end")),)),
    Request("total-effect", IOI),
    Request("pattern-effect", IOI),
    Request("ablation-effect", IOI, (("set", SET),)),
)
READ = (
    Request("logit-difference", IOI),
    Request("probability", REPEATED),
    Request("loss", REPEATED),
    Request("induction-score", REPEATED),
    Request("attention", IOI, (("query", "end"), ("key", "subject-1"))),
    Request("direct-effect", IOI),
    *PATCHED,
)
NAME, COUNT = "simulated", 2
_MAY_MIX = {"copy_", "_to_copy"}
_TAKE_INDICES = {"index", "index_put", "index_put_", "_index_put_impl_"}  # which may be on the processor, as on a GPU


library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]


class _Module(_DummyBackendModule):
    def device_count(self) -> int:
        return COUNT


class Placed(torch.Tensor):
    """A tensor that says it is on a simulated device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls: type[Placed], inner: torch.Tensor, device: torch.device, requires_grad: bool = False) -> Placed:
        made: Placed = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            inner.stride(),
            inner.storage_offset(),
            dtype=inner.dtype,
            device=device,
            requires_grad=requires_grad,
        )
        return made

    def __init__(self, inner: torch.Tensor, device: torch.device, requires_grad: bool = False) -> None:
        self.held = inner

    def tolist(self) -> Any:
        return self.held.tolist()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"a tensor on {self.device} has no numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _run(func, args, kwargs or {})


class Devices(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While this is entered, tensors can be made on simulated devices."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    name, wanted = func._overloadpacket.__name__, kwargs.get("device")
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    places = {one.device for one in tensors if isinstance(one, Placed)}
    loose = any(one.dim() for one in tensors if not isinstance(one, Placed))  # a single number may be anywhere
    if name not in _MAY_MIX and (len(places) > 1 or (places and loose and name not in _TAKE_INDICES)):
        raise RuntimeError(f"{func} was given tensors on {sorted(str(one.device) for one in tensors)}")
    target = torch.device(wanted) if wanted is not None else next(iter(places), None)
    plain = tree_map(lambda one: one.held if isinstance(one, Placed) else one, (args, kwargs))
    if wanted is not None:
        plain[1]["device"] = torch.device("cpu")
    made = func(*plain[0], **plain[1])
    if args and isinstance(args[0], torch.Tensor) and name.endswith("_") and not name.endswith("__"):
        return args[0]
    if target is None or target.type != NAME:
        return made
    return tree_map(lambda one: Placed(one, target) if isinstance(one, torch.Tensor) else one, made)


def _empty(
    size: Any, stride: Any, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None
) -> Any:
    return Placed(torch.empty_strided(size, stride, dtype=dtype), device)


def _copied(into: Any, source: Any, non_blocking: bool = False) -> Any:
    into.held.copy_(source.held if isinstance(source, Placed) else source)
    return into


def prepare() -> tuple[torch.device, ...]:
    """Make the simulated devices known to torch in this process, and return them."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    # Numbers of Python become tensors by a way that goes around what dispatches.
    library.impl("empty_strided", _empty, "PrivateUse1")  # type: ignore[no-untyped-call]
    library.impl("copy_", _copied, "PrivateUse1")  # type: ignore[no-untyped-call]
    return tuple(torch.device(NAME, index) for index in range(COUNT))


@contextlib.contextmanager
def _opened_over(devices: tuple[torch.device, ...]) -> Iterator[None]:
    """Models that are opened meanwhile lie on these devices."""
    with (
        mock.patch.object(opening, "devices_for", return_value=devices),
        mock.patch.object(opening, "choose_device", return_value=devices[0]),
        mock.patch.object(fitting, "devices_for", return_value=(torch.device("cpu"),)),
        Devices(),  # type: ignore[no-untyped-call]
    ):
        yield


def apart(
    folder: Path, asked: Sequence[Request], devices: tuple[torch.device, ...], *, hooks: bool
) -> dict[str, float]:
    """How far measures are from those on the processor, in float64."""
    checkpoint = find_checkpoints(str(folder))[0]
    known = mock.patch.object(backends, "blocks_of", return_value=None) if hooks else contextlib.nullcontext()
    with known, warnings.catch_warnings(action="ignore"):
        expected, settings = Audit(Opening("cpu", "float64")), Opening("all", "float64")
        wanted = [expected.read(request, checkpoint).values for request in asked]
        with _opened_over(devices):
            spread = Audit(settings)
            got = [spread.read(request, checkpoint).values for request in asked]
            model = spread.model(checkpoint)
            assert {one.device for one in model.bridge.parameters()} == set(devices)
    return {
        f"{place} {request.measure}": float(np.abs(one - other).max() / np.abs(other).max())
        for place, (request, one, other) in enumerate(zip(asked, got, wanted, strict=True))
    }


def main() -> None:
    """Print what `test_devices` checks."""
    devices = prepare()
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made:
        for architecture in ("gpt2", "gemma2"):
            folder = save_tiny(Path(made) / architecture, architecture)
            told[architecture] = apart(folder, READ, devices, hooks=False)
        told["hooks"] = apart(Path(made) / "gpt2", PATCHED, devices, hooks=True)
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
