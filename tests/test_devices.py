"""Which device is taken, and which of the caller's GPUs each test worker gets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from said import says

from circuit_assertions.checkpoints import DeviceError
from circuit_assertions.checkpoints.devices import choose_device, claim_share, claim_worker_share, gpu_of_worker

UUIDS = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,MIG-GPU-b1"


@pytest.mark.parametrize(
    ("visible", "present", "expected"),
    [
        ("3,5", 8, ["3", "5", "3", "5"]),  # never 0 and 1: those belong to somebody else
        ("2", 8, ["2", "2", "2", "2"]),
        (" 6 , 1 ,", 8, ["6", "1", "6", "1"]),
        (UUIDS, 8, [*UUIDS.split(","), *UUIDS.split(",")]),
        (None, 3, ["0", "1", "2", "0"]),
        (None, 0, [None] * 4),
        ("", 8, [None] * 4),
        ("-1", 8, [None] * 4),
        ("4,-1,5", 8, ["4", "4", "4", "4"]),  # CUDA shows nothing that follows a -1
    ],
)
def test_workers_share_out_the_gpus_that_the_caller_may_see(
    visible: str | None, present: int, expected: list[str | None]
) -> None:
    assert [gpu_of_worker(visible, present, worker) for worker in range(4)] == expected


def test_a_worker_claims_its_share_of_the_callers_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    claim_worker_share()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"


@pytest.mark.parametrize(("worker", "gpu"), [(0, "3"), (1, "5"), (2, "3")])
def test_workers_of_a_sweep_share_out_the_same_gpus(monkeypatch: pytest.MonkeyPatch, worker: int, gpu: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    claim_share(worker, 3)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu


def test_hidden_gpus_stay_hidden_from_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    claim_worker_share()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_run_without_workers_keeps_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    claim_worker_share()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"


@pytest.mark.complete
def test_workers_share_out_the_cores_too() -> None:
    # In a process of its own: the number of threads is the whole process's.
    script = (
        "import torch; torch.set_num_threads(8)\n"
        "from circuit_assertions.checkpoints.devices import claim_worker_share\n"
        "claim_worker_share(); print(torch.get_num_threads())"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= {"PYTEST_XDIST_WORKER": "gw0", "PYTEST_XDIST_WORKER_COUNT": "4", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2"]


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


def test_auto_takes_an_accelerator_only_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device("auto").type == expected


@pytest.mark.parametrize("wanted", ["nonsense", "", "CPU", "cuda:x", "cuda:-1", "meta", "xpu"])
def test_what_is_no_device_is_refused_with_the_choices(wanted: str) -> None:
    with pytest.raises(DeviceError) as caught:
        choose_device(wanted)
    assert wanted in str(caught.value)
    assert says(caught.value, "auto", "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wanted", ["cuda", "cuda:7"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_gpu_that_is_not_there_is_refused(wanted: str) -> None:
    with pytest.raises(DeviceError, match=f"device {wanted} is not available: this machine has 0 CUDA devices"):
        choose_device(wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_gpu_beyond_the_last_is_refused() -> None:
    count = torch.cuda.device_count()
    assert choose_device(f"cuda:{count - 1}").index == count - 1
    with pytest.raises(DeviceError, match=f"{count} CUDA devices"):
        choose_device(f"cuda:{count}")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is an MPS device here")
def test_an_mps_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"\bmps\b"):
        choose_device("mps")
