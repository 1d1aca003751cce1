"""Devices by name, and the words where there is none."""

import pytest
import torch

from echolung.device import pick_device
from echolung.errors import InputError


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "CPU", ""])
def test_names_that_mean_nothing(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError) as caught:
        pick_device(name)
    assert str(caught.value) == f"There is no device {name!r}; there are auto, cpu, cuda, cuda:0, cuda:1."


def test_a_device_that_is_not_there():
    with pytest.raises(InputError, match="The device 'cuda:99' cannot be used here; there are auto, cpu"):
        pick_device("cuda:99")


def test_devices_that_are_there(monkeypatch):
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
