"""Grey squares as read -> what the encoder takes: whole, moved a little over black, one move a clip."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from echolung.pretraining.augment import normalisation
from echolung.pretraining.labelled.plans import ClipsPlan

SHIFT_TAG = 406
"""First counter after the seed of what is drawn here."""


def augment(
    frames: UInt8[Tensor, "b t s s"],
    sides: Int[Tensor, " b"],
    samples: Int[np.ndarray, " b"],
    plan: ClipsPlan,
    seed: int,
) -> Float[Tensor, "b 3 t size size"]:
    """Return each clip at `plan.size`, padded with `plan.shift` pixels of black and cropped, with ImageNet's normalisation.

    All frames of a clip share the crop, which follows from the seed and the clip's number alone (CoReEcho,
    coreecho/augmentation.py: 112 to 124 to 112).

    Args:
        frames: grey clips, padded right and below.
        sides: height and width of each clip in its padding, on the CPU.
        samples: number of each clip in the whole run.
        plan: size and shift.
        seed: of the run.
    """
    size, shift = plan.size, plan.shift
    whole = torch.empty(*frames.shape[:2], size, size, device=frames.device)
    for side in sides.unique().tolist():
        rows = (sides == side).nonzero().squeeze(1).to(frames.device)
        clips = frames[rows, :, :side, :side].float()
        whole[rows] = clips if side == size else _resize(clips, size)
    padded = F.pad(whole, (shift, shift, shift, shift))  # grey level 0, before normalising
    places = draw_places(samples, shift, seed).tolist()
    moved = [clip[:, y : y + size, x : x + size] for clip, (y, x) in zip(padded, places, strict=True)]
    mean, std = normalisation(frames.device)
    return (torch.stack(moved)[:, None] - mean) / std


def draw_places(samples: Int[np.ndarray, " b"], shift: int, seed: int) -> Int[np.ndarray, "b 2"]:
    """Return where each crop begins in its padded clip (row, column), uniform from 0 to 2 · shift."""
    drawn = [np.random.default_rng([seed, SHIFT_TAG, int(sample)]).integers(0, 2 * shift + 1, 2) for sample in samples]
    return np.stack(drawn)


def _resize(clips: Float[Tensor, "b t s s"], size: int) -> Float[Tensor, "b t size size"]:
    return F.interpolate(clips, (size, size), mode="bilinear", antialias=True)
