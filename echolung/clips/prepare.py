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
        side = short if plan.crop == "whole" else short * plan.size / int(plan.size * 256 / 224)
        return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2
    cy, cx, h, w = (share * short for share in window.crop)
    left, top = (width - short) / 2 + cx - w / 2, (height - short) / 2 + cy - h / 2
    return left, top, left + w, top + h


def prepare(frames: UInt8[np.ndarray, "t h w 3"], window: Window, plan: ClipPlan) -> UInt8[np.ndarray, "t s s 3"]:
    """Return the clip: each frame cropped, resampled (bilinear, antialiased) to `plan.size`, and moved by the window's shift."""
    if plan.crop == "whole":
        frames = central_square(frames)
    box = crop_box(window, plan, *frames.shape[1:3])
    # Frames repeat where the video is shorter than the window, and resampling them again would give the same.
    done: dict[int, np.ndarray] = {}
    for index, frame in zip(window.frames.tolist(), frames, strict=True):
        if index not in done:
            image = Image.fromarray(np.ascontiguousarray(frame))
            done[index] = np.asarray(image.resize((plan.size, plan.size), Image.Resampling.BILINEAR, box=box))
    clip = np.stack([done[index] for index in window.frames.tolist()])
    down, right = (round(share * plan.size) for share in window.shift)
    return moved(clip, down, right) if down or right else clip


def central_square(frames: UInt8[np.ndarray, "t h w ..."]) -> UInt8[np.ndarray, "t side side ..."]:
    """Return the central square of each frame, its side the short one, cut at whole pixels."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frames[:, top : top + side, left : left + side]


def moved(clip: UInt8[np.ndarray, "t s s 3"], down: int, right: int) -> UInt8[np.ndarray, "t s s 3"]:
    """Return the clip moved by whole pixels, black where nothing comes from: a crop of it with a black margin."""
    height, width = clip.shape[1:3]
    out = np.zeros_like(clip)
    rows, columns = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    out[:, rows, columns] = clip[:, _source(rows, down), _source(columns, right)]
    return out


def _source(place: slice, shift: int) -> slice:
    return slice(place.start - shift, place.stop - shift)


def preview(clip: UInt8[np.ndarray, "t s s 3"]) -> UInt8[np.ndarray, "8 112 112"]:
    """Return eight small grey frames of a clip, for reports that have no video at hand."""
    chosen = np.linspace(0, len(clip) - 1, PREVIEW_FRAMES).round().astype(int)
    small = (PREVIEW_SIZE, PREVIEW_SIZE)
    images = [Image.fromarray(clip[i]).convert("L").resize(small, Image.Resampling.BILINEAR) for i in chosen]
    return np.stack([np.asarray(image) for image in images])
