"""uint8 frames to what encoders take."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's, of red, green and blue in 0 … 1; V-JEPA 2 was trained with them."""


def normalise(frames: UInt8[Tensor, "b t h w c"]) -> Float[Tensor, "b c t h w"]:
    """Return float32 frames, channels first, less ImageNet's mean and over its standard deviation, on the same device."""
    mean, std = (torch.tensor(values, device=frames.device) * 255 for values in (MEAN, STD))
    return ((frames - mean) / std).movedim(-1, 1)
