"""Heart phantoms in the layout of HMC-QU: two xlsx tables, AVI files of dirty names, masks of the wall."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np

from echolung.datasets.apical import VIEWS
from echolung.datasets.bmode import write_video
from echolung.datasets.heart_anatomy import Patient, Scene, anatomy
from echolung.datasets.heart_image import render, sector_of
from echolung.datasets.hmc_qu import CLASSES, MASKS, ROWS, SEGMENTS, TICK
from echolung.datasets.phantom_files import Row, check_numbers, write_files
from echolung.datasets.phantom_heart import draw_patient, draw_scene, video_random

FPS = 25.0
SICK = "10110011100111000111"
"""Who of each 20 patients in a row has an infarction: in blocks, as the numbers of the real patients run."""
UNTICKED = 3
"""One patient in so many has no masks."""
MASK_SIZE = 224


def write(
    root: Path,
    videos: int = 24,
    seed: int = 0,
    frames: int = 64,
    size: int = 112,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write heart phantoms as HMC-QU is distributed: A4C.xlsx, A2C.xlsx, HMC-QU/{A4C,A2C}/*.avi and masks.

    A patient has a video of either view. An infarction lowers the ejection fraction (20 to 42 %, else 48 to 72 %): phantoms
    have no regional wall motion, so the segments named in the tables are drawn by lot and nothing shows which they are.

    Args:
        root: folder, made where it is not there.
        videos: how many, two a patient.
        seed: 0 or more.
        frames: of each video, 25 a second; 64 show the marked heartbeat whole.
        size: height, pixels; the width is four thirds of it.
        progress: called with 1 after each video.

    Raises:
        InputError: a number is out of range, or `root` holds something that is no phantom.
        RunError: the folder cannot be written to, or is full.
    """
    check_numbers(videos, None, seed, frames, size, FPS)
    side = 2 * round(size / 12)  # on either side of the picture; widths are even, for the codec

    def write_one(number: int) -> Row:
        who, nth = divmod(number, len(VIEWS))
        view, random, sick = tuple(VIEWS)[nth], video_random(seed, who, nth), SICK[who % len(SICK)] == "1"
        drawn = np.random.default_rng([seed, 8, who])
        patient = replace(draw_patient(who, seed), ef=drawn.uniform(20, 42) if sick else drawn.uniform(48, 72))
        scene, name = draw_scene(random, view), _name(who, view, sick)
        folder = root / "HMC-QU" / view
        folder.mkdir(parents=True, exist_ok=True)
        video = render(patient, scene, random, frames, size, FPS)
        write_video(folder / f"{name}.avi", np.pad(video, ((0, 0), (0, 0), (side, side))), FPS, codec="mjpeg")
        start, end = _heartbeat(patient, scene, frames)
        ticked = view == "A4C" and who % UNTICKED != UNTICKED - 1
        if ticked:
            _write_masks(root / MASKS / f"Mask_{name}.mat", patient, scene, np.arange(start, end + 1) / FPS, size, side)
        infarcted = set(random.choice(SEGMENTS, int(random.integers(1, 5)), replace=False)) if sick else set()
        words = [CLASSES[segment in infarcted] for segment in range(SEGMENTS)]
        return {"view": view, "cells": [name, *words, start + 1, end + 1], "tick": TICK if ticked else None}

    def tables(rows: Sequence[Row]) -> dict[str, bytes]:
        return {f"{view}.xlsx": _table(view, [row for row in rows if row["view"] == view]) for view in VIEWS}

    write_files(root, videos, write_one, tables, tuple(f"{view}.xlsx" for view in VIEWS), progress)


def _name(who: int, view: str, sick: bool) -> str:
    """Return a name such as the real ones: a blank here and there, an N where nothing is wrong, 2CH or CH2."""
    short = VIEWS[view]
    if view == "A2C" and who % 6 == 3:
        short = short[1:] + short[0]
    mark = "" if sick else (" N", " n", "N")[who % 3]
    blank = " " if sick and who % 4 == 0 else ""
    return f"ES000{who + 1}{mark}{blank}_{short}_{1 + who % 3}"


def _heartbeat(patient: Patient, scene: Scene, frames: int) -> tuple[int, int]:
    """Return the (first, last) frame, from 0, of the first whole beat, as far as the video shows it."""
    beat = 60 / patient.heart_rate
    start = min(math.ceil((1 - scene.phase) * beat * FPS), frames - 1)
    return start, min(max(start, math.floor(start + beat * FPS)), frames - 1)


def _write_masks(file: Path, patient: Patient, scene: Scene, time: np.ndarray, size: int, side: int) -> None:
    """Write where the ventricle's wall is at each `time`, in the whole picture squeezed to a square."""
    from scipy.io import savemat

    x, y = sector_of(patient, scene.view, size).places(size)
    heart = anatomy(patient, scene, time)
    wall = (heart.bodies[0].inside(x, y) > 0.5) & (heart.ventricle.inside(x, y) <= 0.5)
    whole = np.pad(wall, ((0, 0), (0, 0), (side, side)))
    rows, columns = (np.arange(MASK_SIZE) * length // MASK_SIZE for length in whole.shape[1:])
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, {"predicted": whole[:, rows[:, None], columns].astype(np.uint8)}, do_compression=True)


def _table(view: str, rows: Sequence[Row]) -> bytes:
    """Return an .xlsx with two rows of headers; A4C has the ticks, A2C a footnote below."""
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    head: list[str | None] = ["ECHO", *(f"SEG{i + 1}" for i in range(SEGMENTS)), "One cardiac-cycle frames", None]
    below = [None] * (SEGMENTS + 1) + ["Reference Frame", "End of Cycle"]
    masks = ["LV Wall Ground-truth Segmentation Masks"] if view == "A4C" else []
    sheet.append(head + masks)
    sheet.append(below)
    for row in rows:
        sheet.append(row["cells"] + [row["tick"]] * len(masks))
    if view == "A2C":
        sheet.append([f"* {ROWS['A4C'] - ROWS['A2C']} patients have no video in this view."])
    sheet.merge_cells(start_row=1, end_row=1, start_column=SEGMENTS + 2, end_column=SEGMENTS + 3)
    content = BytesIO()
    book.save(content)
    return content.getvalue()
