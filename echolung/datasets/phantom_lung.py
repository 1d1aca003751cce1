"""Synthetic lung ultrasound: real video files whose pattern is known, for the demo, the tests and the documentation."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from echolung.datasets import looking
from echolung.datasets.bmode import write_video
from echolung.datasets.lung_anatomy import Lesion, Patient, Scene, render
from echolung.datasets.manifest import Manifest, Task
from echolung.datasets.phantom_files import OWN_TABLE, Row, check_numbers, write_files
from echolung.errors import InputError
from echolung.text import listed

PATTERNS = ("regular", "covid", "pneumonia")

TABLE = OWN_TABLE


def draw_patient(number: int, seed: int) -> Patient:
    """Return phantom patient `number`: each three in a row have the three patterns, all else comes from shared ranges."""
    order = _random(seed, 0, number // len(PATTERNS)).permutation(len(PATTERNS))
    random = _random(seed, 1, number)
    return Patient(
        PATTERNS[order[number % len(PATTERNS)]],
        radius=random.uniform(4.2, 5.2),
        half_angle=random.uniform(0.50, 0.58),
        depth=random.uniform(9.5, 12.0),
        pleural_depth=random.uniform(1.9, 2.6),
        gain=random.uniform(-17, -11),
        dynamic_range=random.uniform(52, 60),
        haze=random.uniform(-18, -13),
        fading=random.uniform(2.0, 3.5),
        breaths=random.uniform(12, 26),
        sliding=random.uniform(0.4, 1.2),
        ribs=bool(random.random() < 0.3),
    )


def draw_scene(patient: Patient, random: np.random.Generator) -> Scene:
    """Return one video's scene. Mild signs overlap: a healthy lung may show one thin B-line, a sick one A-lines."""
    suffix = (".mp4", ".avi")[random.integers(2)]
    half = patient.half_angle
    phase, tilt = random.uniform(0, 2 * math.pi), random.uniform(-0.25, 0.25)
    severity = random.uniform(0.4, 1)
    a_lines = random.uniform(-9, 1)
    first = random.uniform(-0.9, -0.2) * half
    ribs = (first, first + random.uniform(1.0, 1.5) * half) if patient.ribs else ()
    lesions: tuple[Lesion, ...] = ()
    if patient.pattern == "regular":
        severity, roughness, lines = 0.0, 0.01, int(random.random() < 0.25)
        levels, widths = (-12, -6), (0.010, 0.018)
    elif patient.pattern == "covid":
        a_lines -= 4 + 10 * severity
        roughness, lines = 0.03 + 0.07 * severity, 2 + round(4 * severity)
        levels, widths = (-9, -1), (0.010, 0.02 + 0.035 * severity)
    else:
        a_lines -= 4
        roughness, lines = 0.03, int(random.integers(3))
        levels, widths = (-10, -3), (0.012, 0.03)
        where = random.uniform(-0.5, 0.5) * half
        lesions = (Lesion(where, (0.3 + 0.5 * severity) * half, 1.2 + 3.2 * severity),)
    at = _spread_out(lines, 0.85 * half, random)
    b_lines = tuple((a, random.uniform(*widths), random.uniform(*levels)) for a in at)
    return Scene(phase, tilt, severity, a_lines, roughness, b_lines, lesions, ribs, suffix)


def _spread_out(n: int, half: float, random: np.random.Generator) -> np.ndarray:
    """Return n angles, one in each of n equal parts of -half to half."""
    return half * (2 * (np.arange(n) + random.random(n)) / max(n, 1) - 1)


def _random(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


# ---- on disk -----------------------------------------------------------------------------------------------------------


def write(
    root: Path,
    videos: int = 24,
    patients: int | None = None,
    seed: int = 0,
    frames: int = 32,
    size: int = 128,
    fps: float = 20.0,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write `videos` phantom videos and, last, their table under `root`.

    A video follows from the seed, its patient and its number among the patient's, never from how many are written.

    Args:
        root: folder, made where it is not there.
        videos: how many.
        patients: of how many patients, taking turns; default half as many, a multiple of three for balanced patterns.
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
    people = min(patients or 3 * math.ceil(videos / 6), videos)

    def write_one(number: int) -> Row:
        nth, who = divmod(number, people)
        patient, random = draw_patient(who, seed), _random(seed, 2, who, nth)
        scene = draw_scene(patient, random)
        name = f"phantom_{who:03d}_{nth}"
        path = f"videos/{name}{scene.suffix}"
        (root / "videos").mkdir(exist_ok=True)
        write_video(root / path, render(patient, scene, random, frames, size, fps), fps)
        drawn = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(patient).items()}
        seen = {"severity": round(scene.severity, 3), "b_lines": len(scene.b_lines), "lesions": len(scene.lesions)}
        return {"video_id": name, "path": path, "patient": f"P{who:03d}", **drawn, **seen, "fps": fps}

    write_files(root, videos, write_one, lambda rows: {TABLE: pd.DataFrame(rows)}, (TABLE,), progress)


def load(root: Path) -> Manifest:
    """Return the phantoms that `write` left under `root`.

    Raises:
        InputError: there are none, or the table is not one of ours.
    """
    table = root / TABLE
    if not table.is_file():
        raise looking.no_phantoms(root, "phantom-lung")
    videos = pd.read_csv(table, dtype={"video_id": str, "path": str, "patient": str, "pattern": str})
    if absent := [c for c in ("video_id", "path", "patient", "pattern") if c not in videos]:
        raise InputError(f"{table} has no column {' or '.join(absent)}. Make it again: echolung data phantom {root}")
    there = np.array([(root / path).is_file() for path in videos["path"]], bool)
    if not there.any():
        raise InputError(
            f"None of the {len(videos)} videos that {table} lists is on disk. Make them again: echolung data phantom {root}"
        )
    notes = []
    if not there.all():
        notes.append(
            f"{(~there).sum()} of {len(videos)} phantoms are not on disk: {listed(videos['video_id'][~there])}."
        )
    videos = videos[there].reset_index(drop=True)
    videos.insert(3, "source", "")
    task = Task("classification", "pattern", PATTERNS, level="patient")
    return Manifest("phantom-lung", root, videos, {"pattern": task}, tuple(notes))
