"""Frames -> square clips and small previews. numpy and Pillow only: runs in the decoding processes."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from echolung.clips.plan import ClipPlan
from echolung.clips.sample import Window

PREVIEW_FRAMES, PREVIEW_SIZE = 8, 112


def crop_box(window: Window, plan: ClipPlan, height: int, width: int) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) in source pixels of what becomes the clip's square.

    The centre crop is "short side to int(size·256/224), then cut size × size from the middle" (V-JEPA 2's evaluation
    transform), written as one box so that each frame is resampled once. A random view's shares are of the centred square.
    """
    short = min(height, width)
    if window.crop is None:
        side = short * plan.size / int(plan.size * 256 / 224)
        return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2
    cy, cx, h, w = (share * short for share in window.crop)
    left, top = (width - short) / 2 + cx - w / 2, (height - short) / 2 + cy - h / 2
    return left, top, left + w, top + h


def prepare(frames: UInt8[np.ndarray, "t h w 3"], window: Window, plan: ClipPlan) -> UInt8[np.ndarray, "t s s 3"]:
    """Return the clip: each frame cropped and resampled (bilinear, antialiased) to `plan.size`."""
    box = crop_box(window, plan, *frames.shape[1:3])
    # Frames repeat where the video is shorter than the window, and resampling them again would give the same.
    done: dict[int, np.ndarray] = {}
    for index, frame in zip(window.frames.tolist(), frames, strict=True):
        if index not in done:
            image = Image.fromarray(np.ascontiguousarray(frame))
            done[index] = np.asarray(image.resize((plan.size, plan.size), Image.Resampling.BILINEAR, box=box))
    return np.stack([done[index] for index in window.frames.tolist()])


def preview(clip: UInt8[np.ndarray, "t s s 3"]) -> UInt8[np.ndarray, "8 112 112"]:
    """Return eight small grey frames of a clip, for reports that have no video at hand."""
    chosen = np.linspace(0, len(clip) - 1, PREVIEW_FRAMES).round().astype(int)
    small = (PREVIEW_SIZE, PREVIEW_SIZE)
    images = [Image.fromarray(clip[i]).convert("L").resize(small, Image.Resampling.BILINEAR) for i in chosen]
    return np.stack([np.asarray(image) for image in images])
