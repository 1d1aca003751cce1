"""`--crop`: which part of the picture is the video, before the square is cut out of it."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from echolung.datasets.dicom import Box, read_header, tissue_region
from echolung.datasets.formats import is_dicom
from echolung.errors import DecodeError, InputError

WHOLE = "none"
"""The whole picture, whatever a DICOM file says of its regions."""


def parse_box(text: str) -> Box | None:
    """Return (left, top, width, height) in pixels from "X,Y,W,H"; None for "" and "none".

    Raises:
        InputError: it is something else.
    """
    if text in ("", WHOLE):
        return None
    match = re.fullmatch(r"\s*(\d{1,6})\s*,\s*(\d{1,6})\s*,\s*(\d{1,6})\s*,\s*(\d{1,6})\s*", text)
    if not match or "0" in (match[3].lstrip("0") or "0", match[4].lstrip("0") or "0"):
        raise InputError(
            f"--crop {text} must be X,Y,W,H: the left upper corner, from 0, and the width and height in pixels, such as "
            "--crop 84,31,512,384; or none for the whole picture."
        )
    left, top, width, height = (int(number) for number in match.groups())
    return left, top, width, height


def region_of(path: Path, box: str) -> Box | None:
    """Return what of a video's picture is taken: what `box` says, else the tissue region of a DICOM file; None: all."""
    if box == "" and is_dicom(path):
        return tissue_region(read_header(path))[0]
    return parse_box(box)


def cut(frames: UInt8[np.ndarray, "t h w 3"], region: Box | None, name: str) -> UInt8[np.ndarray, "t h2 w2 3"]:
    """Return the region of each frame, a view; DecodeError where it does not lie in the picture of the video `name`."""
    if region is None:
        return frames
    left, top, width, height = region
    if top + height > frames.shape[1] or left + width > frames.shape[2]:
        raise DecodeError(
            f"The crop {left},{top},{width},{height} (X,Y,W,H) does not lie within the picture of {name}, which is "
            f"{frames.shape[2]} pixels wide and {frames.shape[1]} high. Give --crop another box; it counts "
            "from the left upper corner of the whole picture."
        )
    return frames[:, top : top + height, left : left + width]
