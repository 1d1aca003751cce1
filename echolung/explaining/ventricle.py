"""The traced left ventricle in a clip, and how much of a map lies inside it."""

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Float, Int

from echolung.clips.crop import parse_box
from echolung.clips.plan import ClipPlan
from echolung.clips.prepare import crop_box
from echolung.clips.sample import Window
from echolung.datasets.tracings import Outline, mask_of


def place_outline(outline: Outline, plan: ClipPlan, height: int, width: int) -> Outline:
    """Return an outline in pixels of the clip.

    Args:
        outline: (x, y) in pixels of the source, the centre of the first at (0, 0).
        plan: how the clip's square is cut.
        height: of the source, or of the part of it that the plan's box leaves.
        width: likewise.
    """
    if (box := parse_box(plan.box)) is not None:
        outline = outline - np.array(box[:2])
    left, top, right, bottom = crop_box(Window(np.zeros(0, int)), plan, height, width)
    corner, size = np.array([left, top]), np.array([right - left, bottom - top])
    if plan.crop == "whole":
        corner = np.floor(corner)  # cut at whole pixels
    return (outline + 0.5 - corner) / size * plan.size - 0.5


def traced_frames(outlines: Mapping[int, Outline], frames: Int[np.ndarray, " t"]) -> dict[int, tuple[int, Outline]]:
    """Return place in the clip -> (traced frame of the source, its outline).

    A traced frame that the clip's stride passes over is taken for its nearest neighbour there, at most half a stride away;
    one before or after the clip is left out.

    Args:
        outlines: frame of the source -> outline.
        frames: index in the source of each frame of the clip, below 0 past the video's end.
    """
    steps = np.abs(np.diff(frames[frames >= 0]))
    reach = float(np.median(steps)) / 2 if len(steps) else 0.0
    found = {}
    for number, outline in outlines.items():
        away = np.where(frames >= 0, np.abs(frames - number), np.inf)
        if away.min() <= reach:
            found[int(away.argmin())] = (number, outline)
    return found


def start_for(outlines: Collection[int], frames: Int[np.ndarray, " t"], length: int) -> int | None:
    """Return the frame that a clip has to begin with to show the traced frames of its video; None where it is well as it is.

    They come to lie in its middle; where they are too far apart for one clip, it begins with the first of them.

    Args:
        outlines: the traced frames.
        frames: index in the source of each frame of the clip as it is.
        length: frames of the video.
    """
    shown = frames[frames >= 0]
    traced = [number for number in outlines if number < length]
    if not traced or not len(shown) or (shown.min() <= min(traced) and max(traced) <= shown.max()):
        return None
    span, apart = int(shown.max() - shown.min()), max(traced) - min(traced)
    start = min(traced) - max(span - apart, 0) // 2
    return min(max(start, 0), max(length - 1 - span, 0))


def share_inside(values: Float[np.ndarray, "t h w"], outlines: Mapping[int, Outline]) -> tuple[float, float]:
    """Return (mass, area): the share of a map's sum, and of the pixels, that lies inside outlines, over their frames.

    A map that is the same everywhere has mass = area. NaN without outlines; mass NaN where the map is 0 in their frames.

    Args:
        values: of at least 0.
        outlines: frame of the clip -> outline in its pixels.
    """
    if not outlines:
        return float("nan"), float("nan")
    masks = np.stack([mask_of(outline, *values.shape[1:]) for outline in outlines.values()])
    traced = values[list(outlines)].astype(np.float64)
    total = traced.sum()
    mass = float(traced[masks].sum() / total) if total > 0 else float("nan")
    return mass, float(masks.mean())
