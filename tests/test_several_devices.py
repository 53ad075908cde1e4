"""A model that is too large for one device lies on several, with the same figures as on one.

GPUs are simulated here: as lists of devices, and by tensors that refuse to be combined over devices. What only
GPUs show is in `test_gpu`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from auditing import HEALTHY
from said import says

from circuit_assertions.checkpoints import CheckpointError, DeviceError, Opening, fitting, spreading
from circuit_assertions.checkpoints.devices import choose_device

GPUS = tuple(torch.device("cuda", index) for index in range(3))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three GPUs with 10 MB of free memory each, in a machine with a gigabyte."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(GPUS))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for module in (spreading, fitting):
        monkeypatch.setattr(module, "free_memory", lambda device: 10**7 if device.type == "cuda" else 10**9)


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("needed", "wanted", "expected"),
    [
        (9 * 10**6, "auto", GPUS[:1]),
        (11 * 10**6, "auto", GPUS),
        (1, "all", GPUS),
        (11 * 10**6, "cuda:1", GPUS[1:2]),
        (11 * 10**6, "cpu", (torch.device("cpu"),)),
    ],
)
def test_a_model_goes_to_several_devices_where_one_is_too_small(
    needed: int, wanted: str, expected: tuple[torch.device, ...]
) -> None:
    assert spreading.devices_for(needed, wanted) == expected


@pytest.mark.usefixtures("gpus")
def test_what_does_not_fit_on_all_devices_together_is_refused_before_it_is_read() -> None:
    fitting.refuse_unfit(HEALTHY, 5_000_000, Opening())  # 20 MB of the 24 MB that weights may take
    with pytest.raises(CheckpointError) as raised:
        fitting.refuse_unfit(HEALTHY, 10_000_000, Opening())
    assert says(raised.value, "cuda:0, cuda:1, cuda:2", "--model-dtype=bfloat16")
    with pytest.raises(CheckpointError) as raised:
        fitting.refuse_unfit(HEALTHY, 5_000_000, Opening(device="cuda:1"))
    assert says(raised.value, "cuda:1", "--model-dtype=bfloat16")


def test_all_devices_are_asked_for_in_vain_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError) as raised:
        choose_device("all")
    assert says(raised.value, "CUDA", "cpu")


@pytest.mark.complete
def test_figures_over_two_devices_are_those_on_one() -> None:
    """In a process of its own: devices that are made known to torch stay known."""
    program = Path(__file__).with_name("several_devices.py")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for measures in json.loads(done.stdout).values():
        assert len(measures) > 4
        assert max(measures.values()) < 1e-12, measures
