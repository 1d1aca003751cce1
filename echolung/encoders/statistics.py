"""The statistics that a network's frames are normalised with: echolung hands on ImageNet's, a network may want others."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from echolung.encoders.networks import STATISTICS, check_statistics
from echolung.errors import InputError


class Renormalise(nn.Module):
    """Turn frames normalised with ImageNet's statistics into frames normalised with others; no parameters, no state.

    Args:
        statistics: a name in `STATISTICS`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, statistics: str):
        super().__init__()
        check_statistics(statistics)
        (mean, std), (own_mean, own_std) = (
            (torch.tensor(values, dtype=torch.float64, device="cpu").view(3, 1, 1, 1) for values in STATISTICS[name])
            for name in ("imagenet", statistics)
        )
        self.register_buffer("scale", (std / own_std).float(), persistent=False)
        self.register_buffer("shift", ((mean - own_mean) / own_std).float(), persistent=False)

    def forward(self, frames: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 3 t h w"]:
        """Return the frames with the other statistics."""
        return frames * self.scale + self.shift


def set_statistics(model: nn.Module, name: str) -> None:
    """Let a video network take frames normalised with other statistics than its own; its config and `normal` change.

    Weights of Kinetics that go on learning from echocardiograms take "echonet", as CoReEcho's do.

    Raises:
        InputError: no statistics have that name, or the model has none to choose (only UniFormer and torchvision's have).
    """
    check_statistics(name)
    network: Any = model
    if not isinstance(getattr(network, "normal", None), Renormalise):
        raise InputError(
            f"The statistics of {type(model).__name__} cannot be chosen: it takes frames as its own weights want them. "
            "Only UniFormer and torchvision's video networks have a choice; leave the statistics out."
        )
    network.config = replace(network.config, statistics=name)
    network.normal = Renormalise(name).to(network.normal.scale.device)
