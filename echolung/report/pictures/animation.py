"""Clips side by side, moving: one animated WebP."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

SIDE, GAP, WORDS, ACROSS = 224, 8, 40, 3
"""Pixels of a tile, between two, and of the words above one; tiles in a row."""

MILLISECONDS = 220
"""A frame stays."""


@dataclass(frozen=True)
class Tile:
    """One clip.

    Attributes:
        frames: in colour.
        title: dark, above it.
        detail: grey, below the title.
    """

    frames: UInt8[np.ndarray, "k 112 112 3"]
    title: str
    detail: str


def save_animation(tiles: Sequence[Tile], path: Path) -> Path:
    """Write clips of equal length side by side, over and over, with a bar that shows how far they are."""
    across = min(ACROSS, len(tiles))
    down = -(-len(tiles) // across)
    size = (across * (SIDE + GAP) + GAP, down * (SIDE + WORDS) + GAP + 6)
    still = Image.new("RGB", size, "white")
    places = [(GAP + i % across * (SIDE + GAP), i // across * (SIDE + WORDS) + WORDS) for i in range(len(tiles))]
    for (x, y), tile in zip(places, tiles, strict=True):
        _write(still, tile, x, y)
    images, count = [], len(tiles[0].frames)
    for k in range(count):
        image = still.copy()
        for place, tile in zip(places, tiles, strict=True):
            image.paste(Image.fromarray(tile.frames[k]).resize((SIDE, SIDE), Image.Resampling.BICUBIC), place)
        reached = GAP + (size[0] - 2 * GAP) * (k + 1) // count
        ImageDraw.Draw(image).rectangle((GAP, size[1] - 7, reached, size[1] - 4), fill="#7d5ba6")
        images.append(image)
    images[0].save(path, save_all=True, append_images=images[1:], duration=MILLISECONDS, loop=0, quality=80, method=4)
    return path


def _write(image: Image.Image, tile: Tile, x: int, y: int) -> None:
    draw = ImageDraw.Draw(image)
    for text, points, colour, above in ((tile.title, 13, "#222222", 36), (tile.detail, 12, "#5f6770", 18)):
        font = _font(points)
        while text and draw.textlength(text, font) > SIDE:
            text = text.removesuffix("…")[:-1] + "…" if len(text) > 2 else ""
        draw.text((x, y - above), text, fill=colour, font=font)


def _font(points: int) -> ImageFont.FreeTypeFont:
    """Return the font that figures are written in: matplotlib brings it along."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), points)
