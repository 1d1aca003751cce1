"""The picture of a phantom heart: walls as scatterers that move with them, blood, what lies around, clutter -> B-mode."""

from dataclasses import replace

import numpy as np
from jaxtyping import Complex, UInt8

from echolung.datasets.bmode import (
    Echoes,
    PointSpread,
    Sector,
    Texture,
    blur,
    compress,
    detect,
    diffuse,
    noise,
    receive,
    scan_convert,
)
from echolung.datasets.heart_anatomy import Anatomy, Band, Patient, Scene, anatomy, picture_depth

DENSITY = 1.5
"""Scatterers of a wall a cell of the sector's grid."""


def sector_of(patient: Patient, view: str, size: int) -> Sector:
    """Return the phased array's sector for a `size` × `size` picture of a view."""
    return Sector.for_image(size, 0.0, patient.half_angle, picture_depth(patient, view))


def render(
    patient: Patient, scene: Scene, random: np.random.Generator, frames: int, size: int, fps: float
) -> UInt8[np.ndarray, "t h w"]:
    """Return one video: `frames` grey pictures of `size` × `size` pixels, `fps` a second."""
    sector = sector_of(patient, scene.view, size)
    heart = anatomy(patient, scene, np.arange(frames) / fps)
    psf = PointSpread(axial=0.06, lateral=0.014, focus=8.0, spread=0.35)
    field = _still(patient, heart, sector, random)
    # Scatterers are shared out at the end of diastole, so that nothing depends on where in the beat a video begins.
    relaxed = anatomy(patient, replace(scene, phase=0.0, sway=0.0), np.zeros(1))
    for band, rest in zip(heart.bands, relaxed.bands, strict=True):
        field += receive(sector, _echoes(band, rest, sector, random))
    field = blur(field, sector, psf)
    floor = 10 ** ((-57 + 0.7 * sector.depths) / 20)
    envelope = detect(field + noise(random, field.shape) * floor[:, None].astype(np.float32))
    return scan_convert(compress(envelope, patient.gain, patient.dynamic_range), sector, size)


def _still(
    patient: Patient, heart: Anatomy, sector: Sector, random: np.random.Generator
) -> Complex[np.ndarray, "t r b"]:
    """Return what is no wall: the surroundings, which stay and which the heart hides, blood, which flows, and clutter."""
    y = sector.depths[:, None] * np.cos(sector.angles)
    x = sector.depths[:, None] * np.sin(sector.angles)
    patches = Texture.draw(random, 1.2, 0.7)(x, y) + 0.6 * Texture.draw(random, 3.0, 0.25)(x, y)
    near = 14 * np.exp(-((sector.depths[:, None] / 1.1) ** 2))
    around = _amplitude(patient.tissue - random.uniform(9, 14) + 4.5 * patches + near)
    clutter = _amplitude(patient.haze - random.uniform(2.2, 3.2) * sector.depths[:, None] + 2 * patches)
    hidden = np.maximum.reduce([body.inside(x, y) for body in heart.bodies])
    cavities = [cavity.inside(x, y) for cavity in heart.cavities]
    for cavity in cavities[1:2]:  # the right ventricle lies behind the left one's wall
        cavity *= 1 - heart.bodies[0].inside(x, y)
    blood = np.maximum.reduce(cavities)
    shape = (1, *x.shape)
    still = noise(random, shape) * around * (1 - hidden) + noise(random, shape) * clutter
    # Between the chambers lies fat and muscle.
    return (
        still
        + noise(random, blood.shape) * _amplitude(patient.blood) * blood
        + (noise(random, shape) * _amplitude(patient.tissue - 8) * (hidden * (1 - blood)))
    )


def _echoes(band: Band, rest: Band, sector: Sector, random: np.random.Generator) -> Echoes:
    """Return a wall's scatterers, which move with it: equally many in each cell of the grid when it is at `rest`."""
    middle = (rest.curve[0, 1:] + rest.curve[0, :-1]) / 2
    steps = np.linalg.norm(np.diff(rest.curve[0], axis=0), axis=1)
    cell = np.maximum(np.linalg.norm(middle, axis=1), 1.0) * sector.beam_step * sector.sample_step
    cells = np.concatenate([[0.0], np.cumsum(steps * (rest.thickness[0, 1:] + rest.thickness[0, :-1]) / 2 / cell)])
    n = max(int(DENSITY * cells[-1]), 8)
    place = np.interp(random.random(n), cells / cells[-1], np.arange(len(cells)))
    i = np.minimum(place.astype(int), len(cells) - 2)
    u = place - i

    def along(nodes: np.ndarray) -> np.ndarray:
        share = u[:, None] if nodes.ndim == 3 else u
        return nodes[:, i] * (1 - share) + nodes[:, i + 1] * share

    within = random.random(n)
    at = along(band.curve) + (within * along(band.thickness))[..., None] * along(band.normals)
    depth, angle = np.hypot(at[..., 0], at[..., 1]), np.arctan2(at[..., 0], at[..., 1])
    normal, place_at_rest = along(rest.normals)[0], along(rest.curve)[0]
    way = place_at_rest / np.linalg.norm(place_at_rest, axis=1, keepdims=True)
    facing = band.facing * ((normal * way).sum(1) ** 2 - 0.4)
    grain = 1.5 * Texture.draw(random, 2.0, 0.4)(place, within)
    strength = _amplitude(along(band.level[None])[0] + facing + grain)
    return diffuse(random, depth, angle, strength, DENSITY)


def _amplitude(decibels: np.ndarray | float) -> np.ndarray:
    return np.asarray(10 ** (np.asarray(decibels, np.float32) / 20), np.float32)
