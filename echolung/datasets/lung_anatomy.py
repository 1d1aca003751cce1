"""What a phantom lung looks like to a scanner: chest wall, ribs, pleura, A-lines, B-lines, consolidation.

Lengths are in cm, angles in rad, strengths in dB. The patterns are the textbook ones (Lichtenstein 2014; Soldati et al. 2020).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

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
    specular,
)

DENSITY = 1.2
"""Scatterers a cell of the sector's grid; several share each point spread, so that speckle is fully developed."""


@dataclass(frozen=True)
class Patient:
    """What all videos of one phantom patient share. Only `pattern` follows from the pattern.

    Attributes:
        pattern: one of `PATTERNS`.
        radius: of the transducer's face, cm.
        half_angle: of the sector, rad.
        depth: of the picture, cm.
        pleural_depth: of the pleural line, cm.
        gain: dB.
        dynamic_range: dB from white to black.
        haze: reverberation just below an aerated pleura, dB below the chest wall's echo.
        fading: of that haze, dB/cm, what gain compensation leaves over.
        breaths: a minute.
        sliding: how far the pleura slides to either side, cm.
        ribs: whether the sector lies across the ribs (and sees their shadows) or along the space between two.
    """

    pattern: str
    radius: float
    half_angle: float
    depth: float
    pleural_depth: float
    gain: float
    dynamic_range: float
    haze: float
    fading: float
    breaths: float
    sliding: float
    ribs: bool


@dataclass(frozen=True)
class Lesion:
    """A consolidation. Angles in rad and depths in cm, both on the lung, which slides."""

    angle: float
    half_width: float
    height: float


@dataclass(frozen=True)
class Scene:
    """What one video of a patient shows: where the probe stands, how far the disease goes.

    Attributes:
        phase: of the breath at the first frame, rad.
        tilt: slope of the pleura across the picture, a share of its depth a rad.
        severity: 0 to 1; 0 for `regular`.
        a_lines: strength of the first repetition, dB below the chest wall's echo.
        roughness: of the pleural line, cm.
        b_lines: angle on the lung (rad), width (rad) and level (dB) of each.
        lesions: consolidations.
        ribs: angle of each rib, rad.
        suffix: container, drawn so that it says nothing about the pattern.
    """

    phase: float
    tilt: float
    severity: float
    a_lines: float
    roughness: float
    b_lines: tuple[tuple[float, float, float], ...]
    lesions: tuple[Lesion, ...]
    ribs: tuple[float, ...]
    suffix: str


def render(
    patient: Patient, scene: Scene, random: np.random.Generator, frames: int, size: int, fps: float
) -> UInt8[np.ndarray, "t h w"]:
    """Return one video: `frames` grey pictures of `size` × `size` pixels, `fps` a second."""
    sector = Sector.for_image(size, patient.radius, patient.half_angle, patient.depth)
    grey = compress(
        beam_envelope(patient, scene, random, sector, np.arange(frames) / fps), patient.gain, patient.dynamic_range
    )
    return scan_convert(grey, sector, size)


def beam_envelope(
    patient: Patient, scene: Scene, random: np.random.Generator, sector: Sector, time: Float[np.ndarray, " t"]
) -> Float[np.ndarray, "t r b"]:
    """Return the amplitude that each of the sector's beams hears over its samples, at each `time` (s)."""
    psf = PointSpread()
    pleura = Pleura(patient, scene, Texture.draw(random, 0.05), Texture.draw(random, 0.10), time)
    field = receive(sector, _wall(pleura, sector, random))
    field += receive(sector, _lung(pleura, sector, random))
    for reflector in _lines(pleura, sector, psf, random):
        field += receive(sector, reflector)
    field = blur(field * _shadow(pleura, sector), sector, psf)
    # Gain compensation lifts the receiver's noise with depth.
    floor = 10 ** ((-46 + 1.0 * sector.depths) / 20)
    return detect(field + noise(random, field.shape) * floor[:, None].astype(np.float32))


@dataclass(frozen=True)
class Pleura:
    """The pleural line in motion, and what is known of the lung from the angle on it.

    Attributes:
        patient, scene: what was drawn.
        ragged, patchy: random functions of the angle on the lung.
        time: of each frame, s.
    """

    patient: Patient
    scene: Scene
    ragged: Texture
    patchy: Texture
    time: Float[np.ndarray, " t"]

    @property
    def breath(self) -> Float[np.ndarray, "t 1"]:
        """Where in the breath each frame is, -1 to 1."""
        return np.sin(2 * math.pi * self.patient.breaths / 60 * self.time + self.scene.phase)[:, None]

    @property
    def slide(self) -> Float[np.ndarray, "t 1"]:
        """Angle that the lung has slid by: the distance over the pleura's radius, rad."""
        return self.patient.sliding / (self.patient.radius + self.patient.pleural_depth) * self.breath

    def depth(self, angle: np.ndarray) -> np.ndarray:
        """Return the depth of the smooth pleura at `angle` [n] or [t n], in each frame [t n], cm."""
        lift = 1 - 0.03 * self.breath
        return self.patient.pleural_depth * (1 + self.scene.tilt * angle + 0.35 * angle**2) * lift

    def consolidated(self, at: np.ndarray) -> np.ndarray:
        """Return how deep consolidation reaches below the pleura at `at`, an angle on the lung, cm; 0 where there is none."""
        reach = np.zeros(np.shape(at), np.float32)
        for lesion in self.scene.lesions:
            inside = np.sqrt(np.clip(1 - ((at - lesion.angle) / lesion.half_width) ** 2, 0, 1))
            reach = np.maximum(reach, lesion.height * inside * (1 + 0.22 * self.ragged(at * 1.5)))
        return np.maximum(reach, 0)

    def rays(self, at: np.ndarray) -> np.ndarray:
        """Return the amplitude of the B-lines at `at`, an angle on the lung."""
        bright = np.zeros(np.shape(at), np.float32)
        for angle, width, level in self.scene.b_lines:
            bright = np.maximum(bright, _amplitude(level) * np.exp(-(((at - angle) / width) ** 2) / 2))
        return bright


def _wall(pleura: Pleura, sector: Sector, random: np.random.Generator) -> Echoes:
    """Return skin, fat and muscle: layers along the skin that a breath squeezes a little."""
    edge = sector.angles[-1]
    n = int(DENSITY * len(sector.angles) * pleura.patient.pleural_depth / sector.sample_step)
    share, angle = random.random(n), random.uniform(-edge, edge, n)
    depth = pleura.depth(angle) * share
    layers = Texture.draw(random, 0.07, 0.5)(share, angle) + 0.7 * Texture.draw(random, 0.03, 0.25)(share, angle)
    level = random.uniform(-10, -2) + 5 * layers + 10 * np.exp(-((share / 0.06) ** 2))
    return diffuse(random, depth, np.broadcast_to(angle, depth.shape), _amplitude(level), DENSITY)


def _lung(pleura: Pleura, sector: Sector, random: np.random.Generator) -> Echoes:
    """Return what lies below the pleura and slides with it: haze, B-lines, consolidation with its bronchograms."""
    patient = pleura.patient
    edge = sector.angles[-1] + float(np.abs(pleura.slide).max())
    reach = patient.depth - 0.6 * patient.pleural_depth
    n = int(DENSITY * 2 * edge / sector.beam_step * reach / sector.sample_step)
    below, at = random.uniform(0, reach, n), random.uniform(-edge, edge, n)
    haze = _amplitude(patient.haze - patient.fading * below + 2 * pleura.patchy(at))
    # Ringing flickers along a B-line, but hardly fades.
    flicker = Texture.draw(random, 0.12, 0.02)(below, at)
    strength = np.hypot(haze, pleura.rays(at) * _amplitude(1.5 * flicker - 0.4 * below))
    floor = pleura.consolidated(at)
    if pleura.scene.lesions:
        tissue = random.uniform(-22, -14) + 2.5 * Texture.draw(random, 0.5, 0.08)(below, at)
        tails = -7 + 4 * pleura.patchy(3 * at) - random.uniform(1.5, 4) * (below - floor)
        strength = np.where(
            below < floor, _amplitude(tissue), np.where(floor > 0, np.hypot(haze, _amplitude(tails)), strength)
        )
        strength = np.where(
            (below < floor) & _bronchi(pleura, below, at, random), _amplitude(random.uniform(0, 5)), strength
        )
    angle = at + pleura.slide
    return diffuse(random, pleura.depth(angle) + below, angle, strength, DENSITY)


def _bronchi(pleura: Pleura, below: np.ndarray, at: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return which points lie in bronchi that still hold air: short branches that fan out towards the pleura."""
    across = pleura.patient.radius + pleura.patient.pleural_depth
    inside = np.zeros(len(at), bool)
    for lesion in pleura.scene.lesions:
        for _ in range(random.integers(4, 10)):
            u, v = random.uniform(-0.75, 0.75), random.uniform(0.15, 0.85)
            y0, x0 = v * lesion.height * math.sqrt(1 - u * u), lesion.angle + u * lesion.half_width
            lean = random.normal(0.8 * u, 0.5)
            length, thickness = random.uniform(0.1, 0.6), random.uniform(0.05, 0.09)
            y, x = below - y0, (at - x0) * across
            along, aside = y * math.cos(lean) + x * math.sin(lean), x * math.cos(lean) - y * math.sin(lean)
            inside |= (np.abs(along) < length) & (np.abs(aside) < thickness)
    return inside


def _lines(pleura: Pleura, sector: Sector, psf: PointSpread, random: np.random.Generator) -> list[Echoes]:
    """Return the smooth reflectors: fasciae, ribs, the pleural line, its repetitions, the shred line."""
    patient, scene, angle = pleura.patient, pleura.scene, sector.angles
    at = angle - pleura.slide
    surface, floor = pleura.depth(angle), pleura.consolidated(at)
    lines = []
    for share in random.uniform(0.15, 0.85, random.integers(2, 5)):
        wave, patch = Texture.draw(random, 0.3)(angle), Texture.draw(random, 0.2)(angle)
        lines.append((surface * (share + 0.03 * wave), _amplitude(random.uniform(-6, 4) + 4 * patch), 0.02))
    for rib in scene.ribs:
        bow = surface * 0.72 + 6 * (angle - rib) ** 2
        lines.append((bow, _amplitude(4.0) * np.exp(-(((angle - rib) / 0.07) ** 4)), 0.05))
    patchy = 1.2 + scene.roughness * 30
    line = _amplitude(9 + patchy * pleura.patchy(at) - 9 * (floor > 0.1))
    lines.append((surface + scene.roughness * pleura.ragged(at), line, 0.05))
    # Beams that meet the pleura at right angles hear it again and again; B-lines and consolidation leave no mirror.
    facing = np.exp(-(((angle + 0.6 * scene.tilt) / (0.55 * patient.half_angle)) ** 2))
    mirror = facing * (floor < 0.1) / (1 + (2.5 * pleura.rays(at)) ** 2)
    for k in range(2, 1 + int(patient.depth / surface.min())):
        level = scene.a_lines - 5.0 * (k - 2) + 1.5 * pleura.patchy(at)
        lines.append((k * surface, mirror * _amplitude(level), 0.04 * k))
    if scene.lesions:
        lines.append((surface + floor, (floor > 0.1) * _amplitude(3 + 5 * pleura.patchy(2 * at)), 0.06))
    shape = surface.shape
    return [
        specular(sector, psf, np.broadcast_to(depth, shape), np.broadcast_to(strength, shape), thickness)
        for depth, strength, thickness in lines
    ]


def _shadow(pleura: Pleura, sector: Sector) -> Float[np.ndarray, "t r b"]:
    """Return what ribs, and poor contact at one edge, leave of the sound: 1 elsewhere."""
    angle, surface = sector.angles, pleura.depth(sector.angles)
    blocked = np.zeros(len(angle), np.float32)
    for rib in pleura.scene.ribs:
        blocked = np.maximum(blocked, _step((0.085 - np.abs(angle - rib)) / 0.012))
    behind = _step((sector.depths[:, None] - 0.8 * surface[:, None]) / 0.06)
    contact = 9 * np.clip((angle * np.sign(pleura.scene.tilt) / sector.half_angle - 0.6) / 0.4, 0, 1)
    return _amplitude(-contact - 26 * blocked * behind)


def _amplitude(decibels: np.ndarray | float) -> np.ndarray:
    return np.asarray(10 ** (np.asarray(decibels, np.float32) / 20), np.float32)


def _step(x: np.ndarray) -> np.ndarray:
    """Return the logistic function, written so that it cannot overflow."""
    return 0.5 * (1 + np.tanh(x / 2))
