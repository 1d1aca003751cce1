"""Synthetic heart ultrasound: real video files whose ejection fraction is known, for pretraining, demo and tests."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from echolung.datasets import looking
from echolung.datasets.bmode import write_video
from echolung.datasets.echonet import REDUCED, reduced_words
from echolung.datasets.heart_anatomy import Patient, Scene
from echolung.datasets.heart_image import render
from echolung.datasets.manifest import Manifest, Task
from echolung.datasets.phantom_files import OWN_TABLE, Row, check_numbers, write_files
from echolung.errors import InputError
from echolung.text import listed

TABLE = OWN_TABLE
TASKS = {
    "ef": Task("regression", "ef", level="patient"),
    "esv": Task("regression", "esv", level="patient"),
    "edv": Task("regression", "edv", level="patient"),
    "ef-reduced": Task("classification", "ef_reduced", REDUCED, level="patient"),
}
SPLITS = "aabaacaaabaacaabaaca".replace("a", "TRAIN ").replace("b", "VAL ").replace("c", "TEST ").split()
"""What each of 20 patients in a row is for: 14, 3 and 3, and all of them among the first six."""
LOWEST, HIGHEST = 15.0, 75.0
"""Ejection fractions, percent."""
STRATA = 10
"""Each so many patients in a row have one ejection fraction in each tenth of the range."""


def draw_patient(number: int, seed: int) -> Patient:
    """Return phantom patient `number`; the ejection fraction is drawn apart from all else."""
    order = _random(seed, 0, number // STRATA).permutation(STRATA)
    share = (int(order[number % STRATA]) + _random(seed, 1, number).random()) / STRATA
    random = _random(seed, 2, number)
    return Patient(
        ef=LOWEST + (HIGHEST - LOWEST) * share,
        edv=math.exp(random.uniform(math.log(75), math.log(190))),
        roundness=random.uniform(0.60, 0.70),
        slender=random.uniform(1.4, 1.75),
        wall=random.uniform(0.75, 1.25),
        heart_rate=random.uniform(55, 100),
        kick=random.uniform(0.2, 0.35),
        right=random.uniform(0.7, 0.95),
        right_motion=random.uniform(0.15, 0.4),
        atrium=random.uniform(3.2, 4.6),
        half_angle=random.uniform(0.62, 0.74),
        depth=random.uniform(0.94, 1.1),
        gain=random.uniform(-4, 4),
        dynamic_range=random.uniform(50, 60),
        haze=random.uniform(-34, -23),
        blood=random.uniform(-52, -46),
        tissue=random.uniform(-24, -19),
    )


def draw_scene(random: np.random.Generator, view: str = "A4C") -> Scene:
    """Return one video's scene."""
    return Scene(
        view,
        phase=random.uniform(0, 1),
        tilt=random.uniform(-0.12, 0.16),
        aside=random.uniform(0.2, 1.4),
        standoff=random.uniform(2.1, 2.9),
        sway=random.uniform(0.0, 0.15),
        dropout=random.uniform(0, 6),
    )


def draw_split(number: int) -> str:
    """Return "TRAIN", "VAL" or "TEST", what phantom patient `number` is for."""
    return SPLITS[number % len(SPLITS)]


def _random(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def video_random(seed: int, patient: int, nth: int) -> np.random.Generator:
    """Return the generator that draws the scene, then the speckle, of a patient's `nth` video."""
    return _random(seed, 3, patient, nth)


# ---- on disk -----------------------------------------------------------------------------------------------------------


def write(
    root: Path,
    videos: int = 24,
    patients: int | None = None,
    seed: int = 0,
    frames: int = 64,
    size: int = 112,
    fps: float = 50.0,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write `videos` phantom videos and, last, their table under `root`.

    A video follows from the seed, its patient and its number among the patient's, never from how many are written.

    Args:
        root: folder, made where it is not there.
        videos: how many.
        patients: of how many patients, taking turns; default half as many.
        seed: 0 or more.
        frames: of each video.
        size: height and width, pixels; even, for the video codecs.
        fps: frames a second.
        progress: called with 1 after each video.

    Raises:
        InputError: a number is out of range, or `root` holds something that is no phantom.
        RunError: the folder cannot be written to, or is full.
    """
    check_numbers(videos, patients, seed, frames, size, fps)
    people = min(patients or math.ceil(videos / 2), videos)

    def write_one(number: int) -> Row:
        nth, who = divmod(number, people)
        patient, random = draw_patient(who, seed), video_random(seed, who, nth)
        suffix, scene = (".mp4", ".avi")[random.integers(2)], draw_scene(random)
        name = f"phantom_{who:03d}_{nth}"
        (root / "videos").mkdir(exist_ok=True)
        write_video(root / "videos" / f"{name}{suffix}", render(patient, scene, random, frames, size, fps), fps)
        place = {"video_id": name, "path": f"videos/{name}{suffix}", "patient": f"P{who:03d}"}
        volumes = {"ef": patient.ef, "esv": patient.esv, "edv": patient.edv}
        reduced = {"ef_reduced": reduced_words(np.array([patient.ef]))[0], "split": draw_split(who)}
        drawn = {**volumes, **reduced, **asdict(patient), "tilt": scene.tilt, "standoff": scene.standoff, "fps": fps}
        return place | {k: round(v, 4) if isinstance(v, float) else v for k, v in drawn.items()}

    write_files(root, videos, write_one, lambda rows: {TABLE: pd.DataFrame(rows)}, (TABLE,), progress)


def load(root: Path) -> Manifest:
    """Return the phantoms that `write` left under `root`.

    Raises:
        InputError: there are none, or the table is not one of ours.
    """
    table = root / TABLE
    again = f"echolung data phantom {root} --layout phantom-heart"
    if not table.is_file():
        raise looking.no_phantoms(root, "phantom-heart")
    texts = ("video_id", "path", "patient", "ef_reduced", "split")
    videos = pd.read_csv(table, dtype=dict.fromkeys(texts, str))
    if absent := [c for c in (*texts, "ef", "esv", "edv") if c not in videos]:
        raise InputError(f"{table} has no column {' or '.join(absent)}. Make it again: {again}")
    there = np.array([(root / path).is_file() for path in videos["path"]], bool)
    if not there.any():
        raise InputError(f"None of the {len(videos)} videos that {table} lists is on disk. Make them again: {again}")
    notes = []
    if not there.all():
        missing = listed(videos["video_id"][~there])
        notes.append(f"{(~there).sum()} of {len(videos)} phantoms are not on disk: {missing}.")
    videos = videos[there].reset_index(drop=True)
    videos.insert(3, "source", "")
    return Manifest("phantom-heart", root, videos, TASKS, tuple(notes))
