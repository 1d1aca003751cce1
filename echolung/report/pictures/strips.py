"""Film strips: rows of small frames side by side, with words above or beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

SIZE, GAP, EDGE = 112, 3, 4
"""Pixels of a frame, between two, and around all."""

BESIDE, BAR = 150, 104
"""Pixels of the words beside a strip, and of a colour bar with its numbers."""

TITLE, ABOVE = 13.5, 14.0
"""Points of a line of the title, and of the words above a strip."""

INCHES = 7.0
"""Width of every picture: 9 points are 12 pixels where a page shows it 700 pixels wide."""

INK, FAINT = "#222222", "#666666"
"""Pure greys: a picture of grey frames is a grey file, of little more than half the size."""

Frames = UInt8[np.ndarray, "k 112 112"] | UInt8[np.ndarray, "k 112 112 3"]


@dataclass(frozen=True)
class Strip:
    """One row of frames.

    Attributes:
        frames: grey or RGB.
        above: words above it, dark; "" leaves no room for them.
        detail: what goes on in grey behind `above`.
        beside: short lines to its left.
    """

    frames: Frames
    above: str = ""
    detail: str = ""
    beside: str = ""


@dataclass(frozen=True)
class Sheet:
    """A picture that things are placed on by pixels from its top left corner.

    Attributes:
        figure: matplotlib's.
        width: in pixels.
        height: in pixels.
    """

    figure: Any
    width: int
    height: int

    @classmethod
    def of(cls, width: int, height: int) -> "Sheet":
        """Return an empty sheet; it needs no display."""
        from matplotlib.figure import Figure

        dpi = width / INCHES
        return cls(Figure(figsize=(INCHES, height / dpi), dpi=dpi), width, height)

    def axes(self, left: int, top: int, width: int, height: int) -> Any:
        """Return new axes on that part of the sheet."""
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def save(self, path: Path) -> Path:
        """Write it as PNG and return where; the same picture is the same file."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        grey = (pixels == pixels[..., :1]).all()
        dots = self.width / INCHES  # an inch: how large a page shows it
        Image.fromarray(pixels[..., 0] if grey else pixels).save(path, dpi=(dots, dots))
        return path


def draw_strips(strips: Sequence[Strip], title: str, scale: Any = None, scale_label: str = "", foot: int = 0) -> Sheet:
    """Return strips one below the other, each pixel of a frame a pixel of the picture.

    Args:
        strips: all with as many frames.
        title: above all.
        scale: what a colour bar on the right is drawn of (a ScalarMappable); None: none.
        scale_label: short lines below it.
        foot: pixels to be left free below.
    """
    left = EDGE + (BESIDE if any(strip.beside for strip in strips) else 0)
    right = left + len(strips[0].frames) * (SIZE + GAP) - GAP
    width = right + (BAR if scale else EDGE)
    point = width / INCHES / 72
    top = EDGE + round(TITLE * point * (title.count("\n") + 1))
    tops = top + np.cumsum([0] + [SIZE + GAP + (round(ABOVE * point) if strip.above else 0) for strip in strips])
    sheet = Sheet.of(width, int(tops[-1]) + EDGE + foot)
    canvas = np.full((sheet.height, sheet.width, 3), 255, np.uint8)
    axes = sheet.axes(0, 0, sheet.width, sheet.height)
    for strip, end in zip(strips, tops[1:].tolist(), strict=True):
        first = end - SIZE - GAP
        _paste(canvas, strip.frames, first, left)
        if strip.above:
            words = axes.annotate(strip.above, (left, first - 7), fontsize=9, color=INK, va="baseline", weight="bold")
            axes.annotate(f"   {strip.detail}", (1, 0), xycoords=words, fontsize=8, color=FAINT, va="bottom")
        axes.text(left - 9, first + SIZE / 2, strip.beside, fontsize=9, color=INK, ha="right", va="center")
    axes.set(xlim=(0, sheet.width), ylim=(sheet.height, 0))
    axes.set_axis_off()
    sheet.figure.figimage(canvas, zorder=-1)
    axes.text(EDGE, EDGE, title, fontsize=10, color=INK, ha="left", va="top")
    if scale is not None:
        room = sheet.axes(right + 12, top, 14, min(int(tops[-1]) - top, 3 * SIZE))
        _colour_bar(sheet.figure, room, scale, scale_label)
    return sheet


def _colour_bar(figure: Any, axes: Any, scale: Any, label: str) -> None:
    """Draw a logarithmic scale with a number at each doubling, or at every other one."""
    doublings = round(np.log2(scale.norm.vmax))
    ticks = [2**k for k in range(0, doublings + 1, 2 if doublings > 5 else 1)]
    bar = figure.colorbar(scale, cax=axes, ticks=ticks)
    bar.ax.minorticks_off()
    bar.ax.set_yticklabels([f"{tick} ×" for tick in ticks], fontsize=8.5)
    bar.ax.text(0, -0.05, label, fontsize=8.5, color=INK, va="top", transform=bar.ax.transAxes)
    bar.outline.set_visible(False)


def _paste(canvas: UInt8[np.ndarray, "h w 3"], frames: Frames, top: int, left: int) -> None:
    for i, frame in enumerate(frames):
        x = left + i * (SIZE + GAP)
        canvas[top : top + SIZE, x : x + SIZE] = frame if frame.ndim == 3 else frame[:, :, None]
