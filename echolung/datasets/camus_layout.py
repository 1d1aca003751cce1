"""Heart phantoms in the layout of CAMUS's NIfTI release: half sequences with masks, Info_*.cfg, split files."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from echolung.datasets.apical import VIEWS
from echolung.datasets.bmode import Sector
from echolung.datasets.camus import QUALITIES, SPLIT_FILES
from echolung.datasets.heart_anatomy import Anatomy, Patient, anatomy, ejection_time
from echolung.datasets.heart_image import render, sector_of
from echolung.datasets.phantom_files import Row, check_numbers, write_files
from echolung.datasets.phantom_heart import draw_patient, draw_scene, draw_split, video_random

BACKWARDS, OLD = 5, 7
"""One patient in so many has sequences from ES to ED, or the keys of the old release in its Info_*.cfg."""
INSIDE = "database_nifti"


def write(
    root: Path,
    videos: int = 24,
    seed: int = 0,
    frames: int = 18,
    size: int = 112,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write heart phantoms as CAMUS is distributed: database_nifti/patientNNNN/… and database_split.

    A patient has two half sequences, 4CH and 2CH, from the fullest to the emptiest frame, which share its EF; every fifth
    patient's run the other way. Pictures are higher than wide, floats from 0 to 255; masks have 1 cavity, 2 wall, 3 atrium.

    Args:
        root: folder, made where it is not there.
        videos: how many half sequences, two a patient.
        seed: 0 or more.
        frames: of the shortest half sequence; up to 40 % more.
        size: width, pixels; the height is five fourths of it.
        progress: called with 1 after each half sequence.

    Raises:
        InputError: a number is out of range, or `root` holds something that is no phantom.
        RunError: the folder cannot be written to, or is full.
    """
    check_numbers(videos, None, seed, frames, size, 50.0)
    infos = [_info(number) for number in range(videos)]

    def write_one(number: int) -> Row:
        who, nth = divmod(number, len(VIEWS))
        patient, random = draw_patient(who, seed), video_random(seed, who, nth)
        view = tuple(VIEWS)[nth]
        scene = replace(draw_scene(random, view), phase=0.0)
        quality = str(random.choice([*QUALITIES], p=[0.4, 0.4, 0.2]))
        shown = frames + int(random.integers(0, 1 + frames * 2 // 5))
        fps = max(shown - 1, 1) / ejection_time(patient)
        if quality == "Poor":
            patient, scene = replace(patient, haze=patient.haze + 8), replace(scene, dropout=scene.dropout + 8)
        video = render(patient, scene, random, shown, size, fps)
        sector = sector_of(patient, view, size)
        masks = _masks(anatomy(patient, scene, np.arange(shown) / fps), sector, size)
        backwards = who % BACKWARDS == BACKWARDS - 1
        stem = root / INSIDE / _name(who) / f"{_name(who)}_{VIEWS[view]}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        pixel = 10 * sector.pixel(size)
        order = slice(None, None, -1 if backwards else 1)
        for part, chosen in (("half_sequence", order), ("ED", 0), ("ES", -1)):
            _write_nifti(stem.with_name(f"{stem.name}_{part}.nii.gz"), video[chosen], pixel)
            _write_nifti(stem.with_name(f"{stem.name}_{part}_gt.nii.gz"), masks[chosen], pixel)
        return {"number": number, "cfg": _cfg(patient, who, seed, quality, shown, fps, backwards)}

    def tables(rows: Sequence[Row]) -> dict[str, bytes]:
        cfgs = {infos[row["number"]]: row["cfg"].encode() for row in rows}
        people = sorted({row["number"] // len(VIEWS) for row in rows})
        lists = {part: [_name(who) for who in people if draw_split(who).lower() == part] for part in SPLIT_FILES}
        return cfgs | {f"database_split/{SPLIT_FILES[part]}": "\n".join(lists[part]).encode() for part in SPLIT_FILES}

    names = [*infos, *(f"database_split/{file}" for file in SPLIT_FILES.values())]
    write_files(root, videos, write_one, tables, names, progress)


def _name(who: int) -> str:
    return f"patient{who + 1:04d}"


def _info(number: int) -> str:
    who, nth = divmod(number, len(VIEWS))
    return f"{INSIDE}/{_name(who)}/Info_{tuple(VIEWS.values())[nth]}.cfg"


def _cfg(patient: Patient, who: int, seed: int, quality: str, frames: int, fps: float, backwards: bool) -> str:
    """Return an Info_*.cfg; every seventh patient's has the keys of the old release."""
    random = np.random.default_rng([seed, 7, who])
    ends = {"ED": frames if backwards else 1, "ES": 1 if backwards else frames, "NbFrame": frames}
    about = {"Sex": random.choice(["F", "M"]), "Age": int(random.integers(20, 90)), "ImageQuality": quality}
    if who % OLD == OLD - 1:
        new = {"LVedv": f"{patient.edv:.1f}", "LVesv": f"{patient.esv:.1f}", "LVef": f"{patient.ef:.1f}"}
    else:
        new = {"EF": f"{patient.ef:.1f}", "FrameRate": f"{fps:.1f}"}
    return "".join(f"{key}: {value}\n" for key, value in {**ends, **about, **new}.items())


def _masks(heart: Anatomy, sector: Sector, size: int) -> UInt8[np.ndarray, "t h w"]:
    """Return 1 in the ventricle's cavity, 2 in its wall, 3 in the atrium, 0 elsewhere."""
    x, y = sector.places(size)
    cavity, wall = heart.ventricle, heart.bodies[0]
    atrium = heart.cavities[-2 if len(heart.cavities) > 2 else -1]
    labels = np.zeros((len(cavity.length), size, size), np.uint8)
    for label, body in ((3, atrium), (2, wall), (1, cavity)):
        labels[body.inside(x, y) > 0.5] = label
    return labels


def _write_nifti(file: Path, frames: UInt8[np.ndarray, "*t h w"], pixel: float) -> None:
    """Write frames as an image with the axes x, y and time, as CAMUS has them; `pixel` in mm."""
    import nibabel

    below = frames.shape[-1] // 4
    padded = np.pad(frames, [(0, 0)] * (frames.ndim - 2) + [(0, below), (0, 0)])
    image = nibabel.Nifti1Image(padded.T.astype(np.float32), np.diag([-pixel, -pixel, 1.0, 1.0]))
    nibabel.save(image, file)
