"""VolumeTracings.csv of EchoNet-Dynamic and EchoNet-Pediatric -> outlines of the left ventricle, and masks of them."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from echolung.datasets import echonet
from echolung.datasets.manifest import Manifest
from echolung.errors import InputError

Outline = Float[np.ndarray, "p 2"]
CHORDS, POINTS = ("x1", "y1", "x2", "y2"), ("x", "y")
"""Columns of EchoNet-Dynamic's table, a line of the ventricle each, and of EchoNet-Pediatric's, a point of its outline."""


def read_tracings(manifest: Manifest) -> dict[str, dict[int, Outline]]:
    """Return video_id -> frame (from 0) -> outline (x, y in pixels of the stored frame), of the videos with tracings.

    In EchoNet-Dynamic a frame's first line is the long axis and the others are chords from apex to base: the outline runs
    down their one ends and up the other. In EchoNet-Pediatric the points are the outline. A frame number may be one past
    the last frame. Outlines of fewer than three points are left out.

    Raises:
        InputError: there is no VolumeTracings.csv where the videos are, or it has other columns.
    """
    folders: defaultdict[PurePosixPath, dict[str, str]] = defaultdict(dict)
    for video, path in zip(manifest.videos["video_id"], manifest.videos["path"], strict=True):
        place = PurePosixPath(path)
        above = place.parent.parent if place.parent.name.lower() == echonet.VIDEOS.lower() else place.parent
        folders[above][echonet.stem(place.name)] = video
    tracings: dict[str, dict[int, Outline]] = {}
    for folder, videos in folders.items():
        file = echonet.child(manifest.root / folder, echonet.TRACINGS)
        if file is None:
            raise InputError(
                f"There is no {echonet.TRACINGS} in {manifest.root / folder}, so where the ventricle is in the videos of "
                f"{manifest.name} is not known. The datasets echonet-dynamic and echonet-pediatric come with it."
            )
        for stem, frames in _read(file).items():
            if stem in videos and frames:
                tracings[videos[stem]] = frames
    return tracings


def phases(outlines: Mapping[int, Outline]) -> tuple[int, int]:
    """Return the frames (ED, ES): of the largest and the smallest outline, as the order in the tables says little."""
    order = sorted(outlines, key=lambda frame: area(outlines[frame]))
    return order[-1], order[0]


def area(outline: Outline) -> float:
    """Return the area within an outline, in pixels (the shoelace formula)."""
    x, y = outline.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def mask_of(outline: Outline, height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Return which pixels of a frame have their centre within an outline; pixel (0, 0) has it at (0, 0)."""
    from matplotlib.path import Path as Polygon

    y, x = np.mgrid[:height, :width]
    inside = Polygon(outline, closed=False).contains_points(np.stack([x.ravel(), y.ravel()], axis=1))
    return inside.reshape(height, width)


def _read(file: Path) -> dict[str, dict[int, Outline]]:
    """Return stem -> frame -> outline, both in the order of the table."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' own are ValueErrors
        raise InputError(f"{file} is not a readable CSV ({error}). Copy it from the download again.") from error
    table.columns = pd.Index([echonet.plain(column) for column in table.columns])
    kind = next((kind for kind in (CHORDS, POINTS) if {"filename", "frame", *kind} <= set(table.columns)), None)
    if kind is None:
        raise InputError(
            f"{file} has the columns {', '.join(table.columns) or '(none)'}; tracings have FileName, Frame and either "
            "X1, Y1, X2, Y2 (EchoNet-Dynamic) or X, Y (EchoNet-Pediatric)."
        )
    numbers = table[["frame", *kind]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    known = np.isfinite(numbers).all(axis=1)  # not "No Systolic"
    video, names = pd.factorize(table["filename"][known])
    numbers = numbers[known]
    group, _ = pd.factorize(video * 10**9 + numbers[:, 0].astype(np.int64))
    tracings: defaultdict[str, dict[int, Outline]] = defaultdict(dict)
    for rows in np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1]):
        lines = numbers[rows, 1:]
        outline = lines if kind is POINTS else _of_chords(lines)
        if len(outline) > 2:
            tracings[echonet.stem(names[video[rows[0]]])][int(numbers[rows[0], 0])] = outline
    return tracings


def _of_chords(lines: Float[np.ndarray, "c 4"]) -> Outline:
    chords = lines[1:]  # without the long axis
    return np.concatenate([chords[:, :2], chords[::-1, 2:]])
