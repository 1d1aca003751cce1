"""Grey squares as read -> what the encoder takes: a random crop of each clip, on the device, all clips at once."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from echolung.encoders.preprocess import MEAN, STD
from echolung.pretraining.plans import ClipsPlan

CROP_TAG = 404
"""First counter after the seed of what is drawn here."""


def augment(
    frames: UInt8[Tensor, "b t s s"],
    sides: Int[Tensor, " b"],
    samples: Int[np.ndarray, " b"],
    plan: ClipsPlan,
    seed: int,
) -> Float[Tensor, "b 3 t size size"]:
    """Return a random crop of each clip, resized to `plan.size` (bilinear), with ImageNet's normalisation.

    All frames of a clip share the crop. It follows from the seed and the clip's number alone.

    Args:
        frames: grey clips, padded right and below.
        sides: height and width of each clip in its padding.
        samples: number of each clip in the whole run.
        plan: size, crop and flip.
        seed: of the run.
    """
    boxes, mirrored = draw_crops(samples, plan, seed)
    drawn = torch.cat([boxes, mirrored[:, None]], 1)  # one table, one copy
    if frames.is_cuda:
        drawn = drawn.pin_memory()  # so that the copy is not waited for
    drawn = drawn.to(frames.device, non_blocking=True)
    squares = _crop(frames, sides, drawn[:, :4], drawn[:, 4] > 0, plan.size)
    mean, std = normalisation(frames.device)
    return (squares[:, None] - mean) / std


@lru_cache(maxsize=8)
def normalisation(device: torch.device) -> tuple[Float[Tensor, "3 1 1 1"], Float[Tensor, "3 1 1 1"]]:
    """Return ImageNet's mean and standard deviation of grey levels from 0 to 255; made once a device, which waits for it."""
    with torch.inference_mode(False):  # they outlive the call that first needs them
        mean, std = (torch.tensor(values, device=device)[:, None, None, None] * 255 for values in (MEAN, STD))
    return mean, std


def draw_crops(
    samples: Int[np.ndarray, " b"], plan: ClipsPlan, seed: int
) -> tuple[Float[Tensor, "b 4"], Bool[Tensor, " b"]]:
    """Return (centre y, centre x, height, width) of each crop as shares of the square, and whether it is mirrored.

    The area is uniform in `plan.scale`, the aspect log-uniform in `plan.aspect`; a side longer than the square is cut to it.
    """
    drawn = np.stack([np.random.default_rng([seed, CROP_TAG, int(sample)]).uniform(size=5) for sample in samples])
    (low, high), (narrow, wide) = plan.scale, np.log(plan.aspect)
    area, aspect = low + (high - low) * drawn[:, 0], np.exp(narrow + (wide - narrow) * drawn[:, 1])
    extent = np.minimum(np.sqrt(np.stack([area / aspect, area * aspect], 1)), 1.0)
    centre = extent / 2 + (1 - extent) * drawn[:, 2:4]
    boxes = torch.from_numpy(np.concatenate([centre, extent], 1)).float()
    return boxes, torch.from_numpy((drawn[:, 4] < 0.5) & plan.flip)


def _crop(
    frames: UInt8[Tensor, "b t s s"],
    sides: Int[Tensor, " b"],
    boxes: Float[Tensor, "b 4"],
    mirrored: Bool[Tensor, " b"],
    size: int,
) -> Float[Tensor, "b t size size"]:
    """Return each clip's crop at `size`, as float grey levels."""
    padded = frames.shape[-1]
    share = (sides.to(frames.device) / padded)[:, None]  # of the padded frame that the clip fills
    centre, extent = 2 * share * boxes[:, :2] - 1, share * boxes[:, 2:]
    theta = torch.zeros(len(frames), 2, 3, device=frames.device)
    theta[:, 0, 0], theta[:, 0, 2] = torch.where(mirrored, -extent[:, 1], extent[:, 1]), centre[:, 1]
    theta[:, 1, 1], theta[:, 1, 2] = extent[:, 0], centre[:, 0]
    grid = F.affine_grid(theta, [len(frames), 1, size, size], align_corners=False)
    # Half a pixel within the clip's last one, so that no padding is mixed in.
    last = (2 * share - 1 - 1 / padded)[:, :, None, None]
    return F.grid_sample(frames.float(), grid.minimum(last), padding_mode="border", align_corners=False)
