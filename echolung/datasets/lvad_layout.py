"""Heart phantoms as a tiny cohort of a ward may lie on disk: folders of frames with text on the screen, and a CSV."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from echolung.datasets.heart_image import render
from echolung.datasets.phantom_files import Row, check_numbers, write_files
from echolung.datasets.phantom_heart import draw_patient, draw_scene, video_random

VIDEOS, POSITIVE = 34, 7
"""Of the cohort by default, and how many of them died within a year."""
TABLE = "labels.csv"
FPS = 25.0
PULL = 0.6
"""Correlation of the risk with the ejection fraction: the label is weakly tied to what is seen."""


def write(
    root: Path,
    videos: int = VIDEOS,
    seed: int = 0,
    frames: int = 40,
    size: int = 176,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write heart phantoms as folders of PNG frames and labels.csv (path, patient, died): a dataset `table` reads them.

    Each patient has one video, of an ejection fraction from 12 to 38 %. A fifth of them (7 of 34) died: those of the
    greatest risk, which is half chance. Frames are a screen: the sector in the middle, around it a border, a scale and text
    that never move.

    Args:
        root: folder, made where it is not there.
        videos: how many.
        seed: 0 or more.
        frames: of each video, 25 a second.
        size: of the sector's picture, pixels; the screen is 15/11 as high and 20/11 as wide (240 × 320 for 176).
        progress: called with 1 after each video.

    Raises:
        InputError: a number is out of range, or `root` holds something that is no phantom.
        RunError: the folder cannot be written to, or is full.
    """
    check_numbers(videos, None, seed, frames, size, FPS)

    def write_one(number: int) -> Row:
        from PIL import Image

        random, drawn = video_random(seed, number, 0), np.random.default_rng([seed, 9, number])
        patient = replace(draw_patient(number, seed), ef=drawn.uniform(12, 38))
        video = render(patient, draw_scene(random), random, frames, size, FPS)
        folder = root / "frames" / f"lvad_{number + 1:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("frame_*.png"):
            stale.unlink()
        for i, frame in enumerate(on_screen(video, number, patient.heart_rate)):
            Image.fromarray(frame).save(folder / f"frame_{i:03d}.png", compress_level=1)
        low = (25 - patient.ef) / 7.5  # 7.5: the deviation of 12 to 38
        risk = PULL * low + np.sqrt(1 - PULL**2) * drawn.standard_normal()
        place = {"video_id": folder.name, "path": f"frames/{folder.name}", "patient": f"L{number + 1:02d}"}
        return place | {"risk": float(risk)}

    def tables(rows: Sequence[Row]) -> dict[str, pd.DataFrame]:
        table = pd.DataFrame(rows)
        died = max(round(len(rows) * POSITIVE / VIDEOS), 1)
        table["died"] = (table.pop("risk").rank(ascending=False) <= died).astype(int)
        return {TABLE: table}

    write_files(root, videos, write_one, tables, (TABLE,), progress)


def on_screen(video: UInt8[np.ndarray, "t s s"], number: int, heart_rate: float) -> UInt8[np.ndarray, "t h w"]:
    """Return each picture in the middle of a scanner's screen: border, depth scale and text, the same in all frames."""
    from PIL import Image, ImageDraw, ImageFont

    size = video.shape[1]
    height, width = size * 15 // 11, size * 20 // 11
    top, left = (height - size) // 2, (width - size) // 2
    screen = Image.new("L", (width, height))
    draw = ImageDraw.Draw(screen)
    draw.rectangle((2, 2, width - 3, height - 3), outline=110)
    for share in np.linspace(0, 1, 9):  # the scale of depth, right of the sector
        row = top + share * (size - 1)
        draw.line((width - left // 3, row, width - left // 3 + 4, row), fill=190)
    font = ImageFont.load_default(max(size // 15, 6))
    lines = (f"LVAD {number + 1:02d}", "A4C", f"FR {FPS:.0f}Hz", f"HR {heart_rate:.0f}", "MI 1.2")
    draw.multiline_text((7, 7), "\n".join(lines), fill=230, font=font)
    still = np.asarray(screen)
    frames = np.repeat(still[None], len(video), axis=0)
    frames[:, top : top + size, left : left + size] = np.maximum(frames[:, top : top + size, left : left + size], video)
    return frames
