"""Which device is chosen, with its reason."""

from __future__ import annotations

import pytest
import torch

from courtside.device import choose_device, free_memory
from courtside.errors import DeviceError

CUDA, MPS = torch.cuda.is_available(), torch.backends.mps.is_available()


def test_auto_takes_the_best_that_works_and_says_why():
    chosen = choose_device()
    assert chosen.device.type == ("cuda" if CUDA else "mps" if MPS else "cpu")
    if not CUDA:
        assert "no CUDA: PyTorch finds no CUDA GPU" in chosen.reason
        assert chosen.dtype == torch.float32
    assert str(chosen) == f"{chosen.device} in {str(chosen.dtype)[6:]}: {chosen.reason}"


def test_the_cpu_can_be_asked_for_and_runs_in_float32():
    chosen = choose_device("CPU")
    assert chosen.device == torch.device("cpu")
    assert chosen.dtype == torch.float32
    assert "asked for" in chosen.reason


@pytest.mark.parametrize(
    ("case", "wanted", "sentence"),
    [
        ("unknown", "tpu", "unknown device 'tpu': use auto, cuda, cuda:0, mps or cpu"),
        ("empty", "", "unknown device ''"),
        ("index of a device that has none", "cpu:1", "unknown device 'cpu:1'"),
        ("index that is no number", "cuda:x", "unknown device 'cuda:x'"),
        ("a GPU too many", "cuda:999", "the device cuda:999 was asked for but .*; use --device auto or cpu"),
        pytest.param(
            "no GPU",
            "cuda",
            "the device cuda was asked for but PyTorch finds no CUDA GPU",
            marks=pytest.mark.skipif(CUDA, reason="this machine has a CUDA GPU"),
        ),
        pytest.param(
            "no Apple GPU",
            "mps",
            "the device mps was asked for but PyTorch finds no Apple GPU",
            marks=pytest.mark.skipif(MPS, reason="this machine has an Apple GPU"),
        ),
    ],
)
def test_a_device_that_does_not_work_is_one_sentence(case, wanted, sentence):
    with pytest.raises(DeviceError, match=sentence) as caught:
        choose_device(wanted)
    assert "\n" not in str(caught.value)


def test_free_memory_lets_a_tensor_in():
    device = choose_device().device
    free = free_memory(device)
    assert 1 << 20 < free < 1 << 50
    assert torch.zeros(1 << 20, dtype=torch.uint8, device=device).numel() < free


@pytest.mark.skipif(not CUDA, reason="needs a CUDA GPU")
def test_cuda_says_its_name_and_format():
    chosen = choose_device("cuda")
    assert torch.cuda.get_device_name(0) in chosen.reason
    assert str(chosen.dtype).removeprefix("torch.") in chosen.reason
