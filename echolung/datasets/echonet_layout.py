"""Heart phantoms in the layouts of EchoNet-Dynamic and EchoNet-Pediatric, tables and all, for tests, demo and rehearsal."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from echolung.datasets.bmode import write_video
from echolung.datasets.bullet import Bullet
from echolung.datasets.echonet_pediatric import VIEWS, fold_of
from echolung.datasets.heart_anatomy import Patient, Scene, anatomy, filling
from echolung.datasets.heart_image import render, sector_of
from echolung.datasets.phantom_files import Row, check_numbers, write_files
from echolung.datasets.phantom_heart import draw_patient, draw_scene, draw_split, video_random

CHORDS = 20
"""Short-axis chords of a tracing, as EchoNet-Dynamic has them."""
UNTRACED = 40
"""One video in so many lacks its tracings, or one of them."""
FOLDS = (2, 0, 1, *range(3, 10))
"""Fold of each ten patients in a row of the pediatric layout: the first three are for train, test and validation."""
INSIDE = Path("pediatric_echo_avi") / "pediatric_echo_avi"
"""Where the pediatric archive has its two views."""


def write_dynamic(
    root: Path,
    videos: int = 24,
    seed: int = 0,
    frames: int = 64,
    size: int = 112,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write heart phantoms as EchoNet-Dynamic is distributed: FileList.csv, VolumeTracings.csv, Videos/*.avi.

    Names in FileList.csv lack `.avi`, those in VolumeTracings.csv have it. EF, ESV and EDV are the geometry's; a tracing is
    the cavity's outline in the emptiest and the fullest frame. Videos have `frames` frames or up to 40 % more.

    Args:
        root: folder, made where it is not there.
        videos: how many; each is of a patient of its own.
        seed: 0 or more.
        frames: of the shortest video; 64 show a whole beat.
        size: height and width, pixels.
        progress: called with 1 after each video.

    Raises:
        InputError: a number is out of range, or `root` holds something that is no phantom.
        RunError: the folder cannot be written to, or is full.
    """
    check_numbers(videos, None, seed, frames, size, 50.0)

    def write_one(number: int) -> Row:
        random, patient = video_random(seed, number, 0), draw_patient(number, seed)
        name = "0X" + hashlib.sha1(f"dynamic {seed} {number}".encode()).hexdigest()[:16].upper()
        shown, fps = _length(random, frames), float(random.choice([50, 50, 50, 50, 40, 30]))
        scene = draw_scene(random)
        (root / "Videos").mkdir(exist_ok=True)
        write_video(
            root / "Videos" / f"{name}.avi", render(patient, scene, random, shown, size, fps), fps, codec="mjpeg"
        )
        untraced = number % UNTRACED == UNTRACED - 1
        height, width = (768, 1024) if untraced else (600, 800)
        row = {"FileName": name, "EF": patient.ef, "ESV": patient.esv, "EDV": patient.edv, "FrameHeight": height}
        row |= {"FrameWidth": width, "FPS": int(fps), "NumberOfFrames": shown, "Split": draw_split(number)}
        trace = [] if untraced else _chords(patient, scene, shown, size, fps)
        return row | {"traces": [(f"{name}.avi", *line) for line in trace]}

    def tables(rows: Sequence[Row]) -> dict[str, pd.DataFrame]:
        lines = [line for row in rows for line in row["traces"]]
        traced = pd.DataFrame(lines, columns=["FileName", "X1", "Y1", "X2", "Y2", "Frame"])
        return {"VolumeTracings.csv": traced, "FileList.csv": pd.DataFrame(rows).drop(columns="traces")}

    write_files(root, videos, write_one, tables, ("VolumeTracings.csv", "FileList.csv"), progress)


def write_pediatric(
    root: Path,
    videos: int = 24,
    seed: int = 0,
    frames: int = 64,
    size: int = 112,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write heart phantoms as EchoNet-Pediatric is distributed: two nested folders, in them A4C and PSAX with tables each.

    A visit has two videos of either view, which share its EF; every fifth patient comes for a second visit. Names are
    patient-visit-instance.avi, Split is the SHA-1 of the patient's name modulo 10; tracings are polygons, the systole first.

    Args: as `write_dynamic`.

    Raises:
        InputError: a number is out of range, or `root` holds something that is no phantom.
        RunError: the folder cannot be written to, or is full.
    """
    check_numbers(videos, None, seed, frames, size, 50.0)
    inside = root / INSIDE
    both = [str(INSIDE / view / f"{table}.csv") for table in ("VolumeTracings", "FileList") for view in VIEWS]

    def write_one(number: int) -> Row:
        visit, instance = divmod(number, 4)
        child, again = divmod(visit, 6)[0] * 5 + min(visit % 6, 4), visit % 6 == 5
        view, random = VIEWS[instance % 2], video_random(seed, child, instance + 4 * again)
        patient, name = draw_patient(child, seed), _child(seed, child)
        if again:
            patient = replace(patient, ef=float(np.clip(patient.ef + _change(seed, child), 15, 75)))
        accession = "CR" + hashlib.sha1(f"visit {seed} {visit}".encode()).hexdigest()[:7]
        file = f"{name}-{accession}-{instance * 17 + 6:06d}.avi"
        shown, scene = _length(random, frames), draw_scene(random, view)
        (inside / view / "Videos").mkdir(parents=True, exist_ok=True)
        video = render(patient, scene, random, shown, size, 50.0)
        write_video(inside / view / "Videos" / file, video, 50.0, codec="mjpeg")
        row = {"FileName": file, "EF": patient.ef, **_body(seed, child, again), "Split": fold_of(name)}
        half = number % UNTRACED == 3
        return row | {"view": view, "traces": [(file, *line) for line in _polygons(patient, scene, shown, size, half)]}

    def tables(rows: Sequence[Row]) -> dict[str, pd.DataFrame]:
        made = {}
        for view in sorted({row["view"] for row in rows}):
            here = [row for row in rows if row["view"] == view]
            traces = [line for row in here for line in row["traces"]]
            made[str(INSIDE / view / "VolumeTracings.csv")] = pd.DataFrame(
                traces, columns=["FileName", "X", "Y", "Frame"]
            )
            made[str(INSIDE / view / "FileList.csv")] = pd.DataFrame(here).drop(columns=["traces", "view"])
        return made

    write_files(root, videos, write_one, tables, both, progress)


def _change(seed: int, child: int) -> float:
    """Return by how many points of EF a child's second visit differs from the first."""
    return float(np.random.default_rng([seed, 5, child]).uniform(-8, 8))


def _child(seed: int, number: int) -> str:
    """Return the first name that puts the patient into its fold, so that few patients fill all of them."""
    attempt = 0
    while True:
        name = "CR" + hashlib.sha1(f"child {seed} {number} {attempt}".encode()).hexdigest()[:7]
        if fold_of(name) == FOLDS[number % len(FOLDS)]:
            return name
        attempt += 1


def _body(seed: int, child: int, again: bool) -> Row:
    """Return Sex, Age (whole years), Weight (kg), Height (cm), as a family's measurements might be; some are missing."""
    random = np.random.default_rng([seed, 6, child])
    age = random.uniform(0, 18) + again
    height = 52 + 6.6 * age + random.normal(0, 4)
    weight = 14.5 * (height / 100) ** 2.1 + random.normal(0, 1) ** 2
    known = random.random(2) > 0.1
    sex = str(random.choice(["M", "F", "M", "F", "M", "F", "O"]))
    return {
        "Sex": sex,
        "Age": int(age),
        "Weight": f"{weight:.1f}" if known[0] else "nan",
        "Height": f"{height:.0f}" if known[1] else "nan",
    }


def _length(random: np.random.Generator, frames: int) -> int:
    return frames + int(random.integers(0, 1 + frames * 2 // 5))


# ---- tracings ----------------------------------------------------------------------------------------------------------


def _traced(patient: Patient, scene: Scene, frames: int, fps: float) -> tuple[Bullet, tuple[int, int]]:
    """Return the cavity in every frame, and which frames are the (emptiest, fullest)."""
    time = np.arange(frames) / fps
    full, _ = filling(patient, scene.phase + time * patient.heart_rate / 60)
    return anatomy(patient, scene, time).ventricle, (int(full.argmin()), int(full.argmax()))


def _chords(patient: Patient, scene: Scene, frames: int, size: int, fps: float) -> list[tuple[object, ...]]:
    """Return lines X1, Y1, X2, Y2, Frame: of each traced frame the long axis, then chords from the apex on, pixels."""
    cavity, traced = _traced(patient, scene, frames, fps)
    sector = sector_of(patient, scene.view, size)
    shares = (np.arange(CHORDS) + 0.5) / CHORDS
    lines: list[tuple[object, ...]] = []
    for frame in traced:
        ends = [(cavity.at(0.0)[frame], cavity.at(1.0)[frame])]
        for share in shares:
            half = cavity.radius * np.sqrt(1 - ((share - cavity.widest) / cavity.widest) ** 2)
            ends.append((cavity.at(share, -half)[frame], cavity.at(share, half)[frame]))
        pixels = np.round(sector.to_pixels(np.array(ends), size), 4)
        lines += [(*map(float, line.ravel()), frame) for line in pixels]
    return lines


def _polygons(patient: Patient, scene: Scene, frames: int, size: int, half: bool) -> list[tuple[object, ...]]:
    """Return lines X, Y, Frame: the outline's points at the systole, then at the diastole; `half`: no systole."""
    cavity, traced = _traced(patient, scene, frames, 50.0)
    sector = sector_of(patient, scene.view, size)
    outline = cavity.outline(30)
    lines: list[tuple[object, ...]] = []
    for frame, word in zip(traced, ("No Systolic", "No Diastolic"), strict=True):
        if half and word == "No Systolic":
            lines.append(("", "", word))
            continue
        pixels = np.rint(sector.to_pixels(outline[frame], size)).astype(int)
        lines += [(int(x), int(y), frame) for x, y in pixels]
    return lines
