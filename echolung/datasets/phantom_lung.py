"""Synthetic lung ultrasound: real video files whose pattern is known, for the demo, the tests and the documentation.

The patterns are the textbook ones (Lichtenstein 2014; Soldati et al. 2020): a sliding pleural line with A-lines; B-lines
from an irregular pleura; subpleural consolidation with air bronchograms. docs/datasets/phantom-lung.md shows them.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from echolung.datasets.bmode import Sector, log_compress, slide, smooth_noise, speckle
from echolung.datasets.manifest import Manifest, Task
from echolung.errors import InputError
from echolung.text import listed

PATTERNS = ("regular", "covid", "pneumonia")

TABLE = "phantoms.csv"


@dataclass(frozen=True)
class Patient:
    """What all videos of one phantom patient share.

    Attributes:
        pattern: one of `PATTERNS`.
        pleura: depth of the pleural line as a share of the picture's.
        gain: dB.
        dynamic_range: dB.
        attenuation: dB from top to bottom that gain compensation leaves over.
        half_angle: of the sector, radians.
        breath: breaths a second.
        excursion: how far the lung slides, beams.
    """

    pattern: str
    pleura: float
    gain: float
    dynamic_range: float
    attenuation: float
    half_angle: float
    breath: float
    excursion: float


def draw_patient(number: int, seed: int) -> Patient:
    """Return phantom patient `number`; patterns take turns, everything else is drawn from ranges all patterns share."""
    random = np.random.default_rng((seed, 1, number))
    return Patient(
        PATTERNS[number % len(PATTERNS)],
        pleura=random.uniform(0.18, 0.28),
        gain=random.uniform(-6, 6),
        dynamic_range=random.uniform(48, 66),
        attenuation=random.uniform(2, 14),
        half_angle=random.uniform(0.52, 0.68),
        breath=random.uniform(0.2, 0.5),
        excursion=random.uniform(3, 9),
    )


def render(
    patient: Patient, random: np.random.Generator, frames: int, size: int, fps: float
) -> UInt8[np.ndarray, "t size size"]:
    """Return one video of a patient: grey frames."""
    sector = Sector(size, patient.half_angle)
    depth = sector.depth()
    time = np.arange(frames) / fps
    phase = random.uniform(0, 2 * np.pi)
    sliding = patient.excursion * np.sin(2 * np.pi * patient.breath * time + phase)
    wall_echo = speckle(sector.depths, sector.beams, random)
    lung_echo = speckle(sector.depths, sector.beams, random)
    wall = _chest_wall(sector, patient, random)
    shadow = _rib_shadow(sector, patient, random)
    lung, line = _LUNGS[patient.pattern](sector, patient, random)
    fall = 10 ** (-patient.attenuation * depth / 20)
    pictures = []
    for t in range(frames):
        # What lies below the pleura moves with the lung, its speckle too; the chest wall stays.
        below = np.abs(slide(lung_echo, sliding[t])) * slide(lung, sliding[t])
        above = np.abs(wall_echo) * wall
        bright = slide(line, sliding[t]) * (0.75 + 0.25 * np.abs(slide(lung_echo, sliding[t])))
        flicker = 1 + 0.06 * random.standard_normal()
        pictures.append((np.where(depth < patient.pleura, above, below * flicker) + bright) * shadow * fall)
    noise = 0.0018 * random.rayleigh(size=(frames, sector.depths, sector.beams))
    grey = log_compress(np.stack(pictures) + noise, patient.gain, patient.dynamic_range)
    return sector.scan_convert(grey.astype(np.float64)).round().astype(np.uint8)


# ---- anatomy, in beam coordinates: each returns amplitudes [depths, beams] -------------------------------------------------


def _chest_wall(sector: Sector, patient: Patient, random: np.random.Generator) -> Float[np.ndarray, "d b"]:
    """Return skin, fat and muscle: a bright surface, then layers that run along the skin."""
    depth = sector.depth()
    layers = np.interp(depth[:, 0], np.linspace(0, patient.pleura, 9), random.uniform(0.05, 0.22, 9))[:, None]
    stripes = 1 + 0.5 * np.sin(2 * np.pi * depth / random.uniform(0.02, 0.05) + smooth_noise(sector.beams, 12, random))
    skin = 0.8 * np.exp(-((depth / 0.015) ** 2))
    return layers * np.clip(stripes, 0.3, None) + skin


def _rib_shadow(sector: Sector, patient: Patient, random: np.random.Generator) -> Float[np.ndarray, "d b"]:
    """Return what ribs at the edges of the picture leave of the sound: 1 between them, little below them."""
    angle, depth = sector.angle() / patient.half_angle, sector.depth()
    left = 1 - random.uniform(0, 0.22) * np.array([1.0, random.integers(2)])
    behind = 1 / (1 + np.exp((np.abs(angle) - np.where(angle < 0, left[0], left[1])) / 0.02))
    return np.where(depth < 0.75 * patient.pleura, 1.0, 0.05 + 0.95 * behind)


def _line(sector: Sector, at: np.ndarray | float, thickness: float, strength: np.ndarray | float) -> np.ndarray:
    """Return a bright band at depth `at` (a number, or one for each beam)."""
    return strength * np.exp(-(((sector.depth() - at) / thickness) ** 2)) * np.ones((1, sector.beams))


def _haze(sector: Sector, patient: Patient, random: np.random.Generator) -> Float[np.ndarray, "d b"]:
    """Return the grey below an aerated pleura: reverberation of the chest wall, fading with depth."""
    below = np.maximum(sector.depth() - patient.pleura, 0)
    return random.uniform(0.02, 0.06) * np.exp(-below / random.uniform(0.25, 0.6)) * np.ones((1, sector.beams))


def _a_lines(
    sector: Sector, patient: Patient, strength: float, random: np.random.Generator
) -> Float[np.ndarray, "d b"]:
    """Return repetitions of the pleural line at multiples of its depth, strongest where beams meet it at right angles."""
    centre = random.uniform(-0.3, 0.3) * patient.half_angle
    facing = np.exp(-(((sector.angle()[0] - centre) / (0.6 * patient.half_angle)) ** 2))
    lines = np.zeros((sector.depths, sector.beams))
    for k in range(2, int(1 / patient.pleura) + 1):
        lines += _line(sector, k * patient.pleura, 0.010, strength * facing * 0.6 ** (k - 2))
    return lines


Lung = tuple[Float[np.ndarray, "d b"], Float[np.ndarray, "d b"]]
"""(echogenicity below the pleura, pleural line with its repetitions)."""


def _regular(sector: Sector, patient: Patient, random: np.random.Generator) -> Lung:
    pleura = _line(sector, patient.pleura, 0.011, random.uniform(0.6, 1.0))
    return _haze(sector, patient, random), pleura + _a_lines(sector, patient, random.uniform(0.12, 0.30), random)


def _covid(sector: Sector, patient: Patient, random: np.random.Generator) -> Lung:
    """B-lines: beams that stay bright from an irregular, broken pleura to the bottom, and wipe out the A-lines."""
    beam = np.arange(sector.beams)
    bright = np.zeros(sector.beams)
    for _ in range(random.integers(2, 7)):
        centre, width = random.uniform(0, sector.beams), random.uniform(1.5, 6)
        away = (beam - centre + sector.beams / 2) % sector.beams - sector.beams / 2
        bright = np.maximum(bright, random.uniform(0.25, 0.7) * np.exp(-((away / width) ** 2)))
    ragged = patient.pleura + 0.008 * smooth_noise(sector.beams, 3, random)
    pleura = _line(sector, ragged, 0.016, np.clip(0.6 + 0.3 * smooth_noise(sector.beams, 4, random), 0.1, 1))
    rays = bright * np.exp(-np.maximum(sector.depth() - patient.pleura, 0) * random.uniform(0, 0.8))
    return _haze(sector, patient, random) + rays, pleura + _a_lines(sector, patient, 0.02, random)


def _pneumonia(sector: Sector, patient: Patient, random: np.random.Generator) -> Lung:
    """Consolidation: tissue-like grey under the pleura with a shredded border and bright air bronchograms."""
    beam, depth = np.arange(sector.beams), sector.depth()
    away = (beam - random.uniform(0, sector.beams) + sector.beams / 2) % sector.beams - sector.beams / 2
    reach = random.uniform(0.18, 0.5) * np.exp(-((away / random.uniform(14, 34)) ** 2))
    floor = patient.pleura + reach * (1 + 0.25 * smooth_noise(sector.beams, 2.5, random))
    inside = (depth > patient.pleura) & (depth < floor) & (reach > 0.03)
    tissue = random.uniform(0.05, 0.14) * inside
    for _ in range(random.integers(2, 7)):  # bronchi that still hold air: short bright branches
        centre, at = random.choice(np.flatnonzero(reach > 0.6 * reach.max())), random.uniform(0.2, 0.9)
        tilt = random.uniform(-0.02, 0.02) * (beam - centre)
        branch = _line(sector, patient.pleura + at * reach.max() + tilt, 0.008, random.uniform(0.4, 0.8))
        tissue = tissue + branch * inside * np.exp(-(((beam - centre) / random.uniform(2, 6)) ** 2))
    shred = _line(sector, floor, 0.012, random.uniform(0.3, 0.7) * (reach > 0.03))
    tails = 0.16 * np.exp(-np.maximum(depth - floor, 0) / 0.25) * (depth >= floor) * (reach > 0.03)
    aerated = reach < 0.03
    pleura = _line(sector, patient.pleura, 0.011, np.where(aerated, 0.8, 0.3))
    haze = _haze(sector, patient, random) * ~inside
    return haze + tissue + shred + tails, pleura + _a_lines(sector, patient, 0.12, random) * aerated


_LUNGS = {"regular": _regular, "covid": _covid, "pneumonia": _pneumonia}


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
    """Write `videos` phantom videos of `patients` patients (default: two videos each) and their table under `root`.

    A video depends on the seed, its patient and its number alone, not on how many are written. The table is written last.
    """
    patients = patients or max(1, -(-videos // 2))
    if videos < 1 or frames < 1 or size < 16:
        raise InputError(f"Phantoms need at least 1 video, 1 frame and 16 pixels, not {videos}, {frames} and {size}.")
    size += size % 2  # video codecs want even sizes
    (root / "videos").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(videos):
        who = number % patients
        patient = draw_patient(who, seed)
        random = np.random.default_rng((seed, 2, number))
        # Drawn, so that the container says nothing about the pattern.
        suffix = (".mp4", ".avi")[random.integers(2)]
        name = f"phantom_{number:04d}"
        _write_video(root / "videos" / f"{name}{suffix}", render(patient, random, frames, size, fps), fps)
        described = {k: v if isinstance(v, str) else round(v, 4) for k, v in asdict(patient).items()}
        rows.append({"video_id": name, "path": f"videos/{name}{suffix}", "patient": f"P{who:03d}", **described})
        if progress:
            progress(1)
    partial = root / f"{TABLE}.partial"
    pd.DataFrame(rows).to_csv(partial, index=False, lineterminator="\n")
    partial.replace(root / TABLE)


def _write_video(path: Path, frames: UInt8[np.ndarray, "t h w"], fps: float) -> None:
    import av

    codec = "libx264" if path.suffix == ".mp4" and "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=round(fps))
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuv420p"
        # One thread: how frames are cut into slices, and with it the file, must not depend on the machine.
        stream.codec_context.thread_count = 1
        stream.options = {"crf": "18"} if codec == "libx264" else {"qscale": "3"}
        if codec == "mpeg4":
            stream.bit_rate = 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray").reformat(format="yuv420p")))
        container.mux(stream.encode())


def load(root: Path) -> Manifest:
    """Return the phantoms that `write` left under `root`.

    Raises:
        InputError: there are none.
    """
    table = root / TABLE
    if not table.is_file():
        raise InputError(f"There are no lung phantoms at {root} (no {TABLE}). Make some: echolung data phantom {root}")
    videos = pd.read_csv(table, dtype={"video_id": str, "patient": str})
    there = np.array([(root / path).is_file() for path in videos["path"]], bool)
    notes = []
    if not there.all():
        notes.append(f"{(~there).sum()} phantoms of {TABLE} are not on disk: {listed(videos['video_id'][~there])}.")
    if not there.any():
        raise InputError(
            f"None of the {len(videos)} phantoms that {table} lists is on disk. Make them again: echolung data phantom."
        )
    videos = videos[there].reset_index(drop=True).assign(source="")
    task = Task("classification", "pattern", PATTERNS, level="patient")
    return Manifest("phantom-lung", root, videos, {"pattern": task}, tuple(notes))
