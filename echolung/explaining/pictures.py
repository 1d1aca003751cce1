"""A map over its clip: a film strip, and the clip moving."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw

from echolung.explaining.explainer import Explained
from echolung.report.pictures.animation import Tile, save_animation
from echolung.report.pictures.overlay import OPAQUE
from echolung.report.pictures.strips import SIZE, Strip, draw_strips

FRAMES = 8
"""Frames of a strip."""

OUTLINE = (90, 230, 255)
"""The ventricle's: a colour that the map has not."""

FINE = 4
"""Outlines are drawn so many times as large, then reduced, so that they are smooth."""


def draw_strip(seen: Explained, path: Path) -> Path:
    """Write frames of a clip, and below them the same with the map and the traced outlines, as PNG."""
    places = chosen(len(seen.clip), sorted(seen.outlines))
    frames, maps = small(seen, places, False), small(seen, places, True)
    t, h, w = seen.cells
    strips = [
        Strip(frames, beside="frames"),
        Strip(maps, beside=f"{seen.method}\n{seen.stage}\n{t} × {h} × {w}"),
    ]
    return draw_strips(strips, title(seen)).save(path)


def draw_animation(seen: Explained, path: Path) -> Path:
    """Write the clip and the clip with its map side by side, moving, as animated WebP."""
    every = np.arange(len(seen.clip))
    plain, mapped = (
        Tile(small(seen, every, shown), *words) for shown, words in zip((False, True), _words(seen), strict=True)
    )
    return save_animation([plain, mapped], path)


def title(seen: Explained) -> str:
    """Return two lines: "0X12 · truth 61.2, predicted 48.3" and what is known of the map."""
    first = " · ".join(filter(None, (seen.video_id, answered(seen))))
    mass, area = seen.inside
    told = []
    if not seen.values.any():
        told.append("nothing in this clip " + ("lowers" if seen.lowers else "raises") + " the answer: the map is empty")
    if not np.isnan(mass):
        told.append(f"of the map {100 * mass:.0f} % in the traced ventricle, of the frame {100 * area:.0f} %")
    if seen.method != "grad-cam":
        told.append(f"at most {_times(seen.values).max():.3g} × its even share")
    return f"{first}\n{'; '.join(told)}"


def answered(seen: Explained) -> str:
    """Return "truth 61.2, predicted 48.3" or "predicted EF < 50, shown for EF >= 50", as far as it is known."""
    known = [
        (name, f"{value:.1f}" if isinstance(value, float) else value)
        for name, value in (("truth", seen.truth), ("predicted", seen.prediction), ("shown for", seen.explained))
        if value not in (None, "", seen.prediction if name == "shown for" else None)
    ]
    return ", ".join(f"{name} {value}" for name, value in known)


def chosen(count: int, traced: list[int], wanted: int = FRAMES) -> Int[np.ndarray, " k"]:
    """Return the places of `wanted` frames, evenly over `count`; the nearest give way to those that are traced."""
    places = np.linspace(0, count - 1, min(wanted, count)).round().astype(int)
    free = np.ones(len(places), bool)
    for frame in traced[: len(places)]:
        nearest = int(np.where(free, np.abs(places - frame), count).argmin())
        places[nearest], free[nearest] = frame, False
    return np.sort(places)


def strength(seen: Explained) -> Float[np.ndarray, "t h w"]:
    """Return how strongly a map is drawn, 0 to 1.

    Grad-CAM from 0 to the clip's highest value. Attention from its even share on, each doubling alike, to the clip's highest
    or to twice the even share: a map that is nearly even must look so.
    """
    if seen.method == "grad-cam":
        return seen.values / max(float(seen.values.max()), 1e-30)
    times = np.log2(np.maximum(_times(seen.values), 1))
    return times / max(float(times.max()), 1.0)


def _times(values: Float[np.ndarray, "t h w"]) -> Float[np.ndarray, "t h w"]:
    """Return how many times its even share each pixel gets."""
    return values / values.mean()


def small(seen: Explained, places: Int[np.ndarray, " k"], with_map: bool) -> UInt8[np.ndarray, "k 112 112 3"]:
    """Return some frames of a clip at the size of a strip's, with the outlines, and with the map or without."""
    weights = strength(seen)
    frames = []
    for place in places.tolist():
        frame = _fit(seen.clip[place], Image.Resampling.BICUBIC)
        if with_map:
            frame = _lay(_fit(weights[place], Image.Resampling.BILINEAR), frame)
        if place in seen.outlines:
            scale = SIZE / seen.clip.shape[1]
            frame = _outlined(frame, (seen.outlines[place] + 0.5) * scale, seen.phase.get(place, ""))
        frames.append(frame)
    return np.stack(frames)


def _fit(image: np.ndarray, how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((SIZE, SIZE), how))


def _lay(weight: Float[np.ndarray, "h w"], frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    from matplotlib import colormaps

    # Inferno without its darkest part, which no one sees on a dark frame.
    colour = colormaps["inferno"](0.3 + 0.7 * weight)[..., :3] * 255
    alpha = OPAQUE * np.clip(weight, 0, 1)[..., None] ** 0.75
    return np.round(alpha * colour + (1 - alpha) * frame).astype(np.uint8)


def _outlined(
    frame: UInt8[np.ndarray, "h w 3"], outline: Float[np.ndarray, "p 2"], words: str
) -> UInt8[np.ndarray, "h w 3"]:
    """Return a frame with an outline, whose points are (x, y) from the frame's corner, and words in the corner."""
    image = Image.fromarray(frame)
    line = Image.new("L", (SIZE * FINE, SIZE * FINE))
    points = [(x * FINE, y * FINE) for x, y in [*outline.tolist(), outline[0].tolist()]]
    ImageDraw.Draw(line).line(points, fill=255, width=FINE, joint="curve")
    image.paste(OUTLINE, (0, 0), line.resize((SIZE, SIZE), Image.Resampling.BOX))
    ImageDraw.Draw(image).text((3, 1), words, fill=OUTLINE)
    return np.asarray(image)


def _words(seen: Explained) -> tuple[tuple[str, str], tuple[str, str]]:
    mass, area = seen.inside
    inside = "" if np.isnan(mass) else f"{100 * mass:.0f} % inside, area {100 * area:.0f} %"
    return (seen.video_id, answered(seen)), (f"{seen.method}, {seen.stage}", inside)
