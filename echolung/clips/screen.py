"""What of a scanner's screen is likely to be seen in a video: burned-in text, and DICOM files not cut to their region."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from echolung.clips.crop import region_of
from echolung.clips.motion_text import find_text
from echolung.datasets.dicom import read_header, tissue_region
from echolung.datasets.formats import is_dicom
from echolung.text import listed

LOOKED_AT, FEWEST = 8, 4
"""Frames in which text is looked for, and fewer than which tell nothing: text is what does not move."""


@dataclass(frozen=True)
class Screen:
    """What there is to be said of one video.

    Attributes:
        text: text is likely burned into what is kept of the picture.
        uncut: why a DICOM file is not cut to its tissue region, a phrase; "" where it is, or was not to be.
    """

    text: bool = False
    uncut: str = ""

    def __bool__(self) -> bool:
        return self.text or bool(self.uncut)


def look(path: Path, frames: UInt8[np.ndarray, "t h w 3"], box: str) -> Screen:
    """Return what is seen of the screen in a video cut to `box` (see `decode`).

    Args:
        path: the video.
        frames: some of it, all different, after the cut.
        box: how it was cut.
    """
    text = len(frames) >= FEWEST and _has_text(frames[np.linspace(0, len(frames) - 1, LOOKED_AT).round().astype(int)])
    if not is_dicom(path):
        return Screen(text)
    header = read_header(path)
    declared = str(header.get("BurnedInAnnotation") or "").upper() == "YES" and region_of(path, box) is None
    return Screen(text or declared, tissue_region(header)[1] if box == "" else "")


def _has_text(frames: UInt8[np.ndarray, "t h w 3"]) -> bool:
    import cv2

    cv2.setNumThreads(1)  # parallel over files
    return bool(find_text(np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])))


def screen_notes(screens: Mapping[str, Screen]) -> list[str]:
    """Return a sentence or two for each kind of finding: how many videos, which, and what to do."""
    notes = []
    if with_text := [video for video, screen in screens.items() if screen.text]:
        notes.append(
            f"Text is likely burned into {_videos(with_text)}. It may name a person, and a probe can learn from it: cut it off "
            "with --crop X,Y,W,H (pixels), or black out what does not move with --motion-mask adaptive."
        )
    if uncut := {video: screen.uncut for video, screen in screens.items() if screen.uncut}:
        why = "; ".join(dict.fromkeys(uncut.values())) if len(set(uncut.values())) <= 2 else next(iter(uncut.values()))
        notes.append(
            f"The whole picture, with the scanner's screen, is taken of {_videos(list(uncut))}: no region of it is known to be "
            f"tissue ({why}). Name one with --crop X,Y,W,H, or say that the whole is meant with --crop none."
        )
    return notes


def _videos(names: list[str]) -> str:
    return f"{len(names):,} video{'s' if len(names) != 1 else ''} ({listed(names, 5)})"
