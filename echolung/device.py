"""Which device to compute on, and in what arithmetic."""

import torch

from echolung.errors import InputError
from echolung.text import listed


def pick_device(name: str = "auto") -> torch.device:
    """Return the device asked for; "auto" is the GPU where there is one.

    Raises:
        InputError: the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"There is no device {name!r}; there are {listed(_devices())}.") from error
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"The device {name!r} cannot be used here; there are {listed(_devices())}. Leave --device out to take the best one. "
            f"A GPU needs its driver and a torch built for it (echolung doctor looks; torch says: {said})."
        ) from error
    return device


def _devices() -> list[str]:
    """Return the names of devices that this machine has."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["auto", "cpu", *(["cuda", *gpus] if gpus else []), *(["mps"] if torch.backends.mps.is_available() else [])]


def default_precision(device: str = "auto") -> str:
    """Return what an encoder computes in: "bfloat16" where a GPU does so natively, else "float32"."""
    picked = pick_device(device)
    return (
        "bfloat16" if picked.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    )


def probe_precision(device: str = "auto") -> str:
    """Return what probes go over tokens in: "bfloat16" where the GPU or the processor does so natively, else "float32"."""
    if pick_device(device).type != "cpu":
        return default_precision(device)
    # Without such instructions torch takes bfloat16 apart again, and is slower than in float32.
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return "bfloat16" if any(ask is not None and ask() for ask in asked) else "float32"
