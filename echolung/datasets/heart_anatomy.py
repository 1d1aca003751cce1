"""What a phantom heart looks like to a scanner: chambers as bullets that beat, their walls, valves, what lies around.

Lengths are in cm, angles in rad, volumes in ml, strengths in dB. x runs to the picture's right, y down from the probe.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from echolung.datasets.bullet import Bullet, bullet_share

VIEWS = ("A4C", "PSAX", "A2C")
"""Apical four-chamber; parasternal short axis; apical two-chamber, which is the four-chamber view's left half."""


@dataclass(frozen=True)
class Patient:
    """What all videos of one phantom patient share. Nothing but `ef` follows from the ejection fraction.

    Attributes:
        ef: ejection fraction, percent.
        edv: end-diastolic volume of the left ventricle.
        roundness: where along its long axis the left ventricle is widest (0.5 is an ellipsoid, 1 half of one).
        slender: its length over its greatest width, end-diastolic.
        wall: thickness of its wall, end-diastolic.
        heart_rate: beats a minute.
        kick: share of the filling that the atrium's contraction brings.
        right: width of the right ventricle over that of the left one.
        right_motion: by what share the right ventricle narrows.
        atrium: height of the left atrium, end-diastolic.
        half_angle: of the sector.
        depth: of the picture, over that which just shows the whole heart.
        gain: dB.
        dynamic_range: dB from white to black.
        haze: clutter before the heart, dB.
        blood: dB.
        tissue: of the heart's muscle, dB.
    """

    ef: float
    edv: float
    roundness: float
    slender: float
    wall: float
    heart_rate: float
    kick: float
    right: float
    right_motion: float
    atrium: float
    half_angle: float
    depth: float
    gain: float
    dynamic_range: float
    haze: float
    blood: float
    tissue: float

    @property
    def esv(self) -> float:
        """End-systolic volume of the left ventricle."""
        return self.edv * (1 - self.ef / 100)


@dataclass(frozen=True)
class Scene:
    """What one video of a patient shows: where the probe stands, when it begins.

    Attributes:
        view: one of `VIEWS`.
        phase: of the beat at the first frame, 0 (end of diastole) to 1.
        tilt: of the long axis against the middle beam.
        aside: of the apex from the middle beam.
        standoff: depth of the apex.
        sway: how far breath and hand move the heart.
        dropout: what the worst-seen wall loses, dB.
    """

    view: str
    phase: float
    tilt: float
    aside: float
    standoff: float
    sway: float
    dropout: float


def filling(patient: Patient, phase: Float[np.ndarray, " t"]) -> tuple[np.ndarray, np.ndarray]:
    """Return, at phases of the beat, (how full the left ventricle is, 0 to 1; how open its inlet is, 0 to 1).

    Full at phase 0, empty from the end of ejection until the inlet opens; then early filling, a pause, the atrial kick.
    """
    phase = phase % 1
    beat = 60 / patient.heart_rate
    ejected = ejection_time(patient) / beat
    opens, fast, kick = ejected + 0.07 / beat, 0.42 * (1 - ejected), 0.12 / beat
    fast = min(fast, 0.22 / beat)
    early = _smooth((phase - opens) / fast)
    late = _smooth((phase - (1 - kick)) / kick)
    full = 1 - _smooth(phase / ejected) + (1 - patient.kick) * early + patient.kick * late
    pulse = np.sin(math.pi * np.clip((phase - opens) / (1.2 * fast), 0, 1)) ** 0.7
    pulse = np.maximum(pulse, 0.75 * np.sin(math.pi * np.clip((phase - (1 - kick)) / kick, 0, 1)))
    idle = 0.35 * ((phase > opens + 0.5 * fast) & (phase < 1 - 0.5 * kick))
    return full, np.maximum(pulse, idle)


def ejection_time(patient: Patient) -> float:
    """Return how long the left ventricle takes from fullest to emptiest, s: 0.33 at 60 beats a minute."""
    return 0.33 * math.sqrt(60 / patient.heart_rate)


class Band(NamedTuple):
    """A wall: what lies within `thickness` of a curve, on the side of its normals.

    `level` is its strength, dB, and `facing` what it gains where the sound meets it at right angles.
    """

    curve: Float[np.ndarray, "t k 2"]
    normals: Float[np.ndarray, "t k 2"]
    thickness: Float[np.ndarray, "t k"]
    level: Float[np.ndarray, " k"]
    facing: float


class Anatomy(NamedTuple):
    """A view of the heart in motion: the left ventricle's cavity, all cavities, all that is heart, walls and valves."""

    ventricle: Bullet
    cavities: list[Bullet]
    bodies: list[Bullet]
    bands: list[Band]


# ---- the two views -----------------------------------------------------------------------------------------------------


def end_diastole(patient: Patient) -> tuple[float, float]:
    """Return (length, radius) of the left ventricle at the end of diastole: those that hold `edv`."""
    volume = float(bullet_share(patient.roundness)) * math.pi * 2 * patient.slender
    radius = (patient.edv / volume) ** (1 / 3)
    return 2 * patient.slender * radius, radius


def _ventricle(patient: Patient, full: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (length, radius, wall) of the left ventricle: a quarter of the ejection, by logarithm, is shortening.

    The wall keeps its volume: its cross-section at the widest grows as the ventricle shortens.
    """
    length0, radius0 = end_diastole(patient)
    volume = patient.esv + (patient.edv - patient.esv) * full
    length = length0 * (volume / patient.edv) ** 0.25
    radius = radius0 * np.sqrt(volume / patient.edv * length0 / length)
    muscle = ((radius0 + patient.wall) ** 2 - radius0**2) * length0 / length
    return length, radius, np.sqrt(radius**2 + muscle) - radius


def picture_depth(patient: Patient, view: str) -> float:
    """Return the depth of the picture, cm."""
    length, radius = end_diastole(patient)
    whole = 3.6 + 2 * (radius + 1.6 * patient.wall) + 1.5 if view == "PSAX" else 2.6 + length + patient.atrium
    return patient.depth * whole


def anatomy(patient: Patient, scene: Scene, time: Float[np.ndarray, " t"]) -> Anatomy:
    """Return the heart as a view shows it at each `time`, s."""
    full, opening = filling(patient, scene.phase + time * patient.heart_rate / 60)
    breath = 2 * math.pi * (0.25 * time + scene.phase)
    drift = scene.sway * np.stack([np.sin(breath), 0.7 * np.cos(0.83 * breath)], axis=1)
    build = {"A4C": _four_chambers, "PSAX": _short_axis, "A2C": _two_chambers}[scene.view]
    return build(patient, scene, full, opening, drift)


def _four_chambers(patient: Patient, scene: Scene, full: np.ndarray, opening: np.ndarray, drift: np.ndarray) -> Anatomy:
    length, radius, wall = _ventricle(patient, full)
    length0, radius0 = end_diastole(patient)
    down = _unit(scene.tilt)
    # The apex hardly moves; the base comes to it.
    tip = np.array([scene.aside, scene.standoff]) + drift + 0.08 * (length0 - length)[:, None] * down
    left = Bullet(tip, down, length, radius, patient.roundness)
    right = left.across

    lean = _unit(scene.tilt - 0.17)
    narrow = patient.right * radius0 * (1 - patient.right_motion * (1 - full))
    septum = 0.72 * radius0 + patient.wall
    start = left.at(0.24) - (septum + 0.45 * narrow)[:, None] * right
    base = left.at(1.0) - 0.45 * down
    ventricle = Bullet(start, lean, (base - start) @ lean, narrow, 0.62)

    # Atria hang from a roof that stays, so they fill while the ventricles empty.
    roof = np.array([scene.aside, scene.standoff]) + drift + (length0 + patient.atrium) * down
    wide, narrower = 1.15 * radius0 * math.sin(left.end) + 0 * full, 1.05 * patient.right * radius0 + 0 * full
    atrium = Bullet(roof, -down, (roof - left.at(1.0)) @ down - 0.12, wide, 0.56)
    inlet = ventricle.at(1.0)
    beside = inlet + (0.92 * patient.atrium) * down - 0.1 * right
    other = Bullet(beside, -down, (beside - inlet) @ down - 0.12, narrower, 0.56)

    k = np.linspace(-left.end, left.end, 49)
    worse = scene.dropout * np.clip(np.sin(k) if scene.aside > 0 else -np.sin(k), 0, 1)
    bands = [
        _wall(left, k, np.multiply.outer(wall, 0.72 + 0.28 * np.abs(np.sin(k))), patient.tissue - worse, 6.0),
        _wall(left, k, np.full((len(full), len(k)), 0.12), patient.tissue + 3 - worse, 7.0),
        _wall(left.grown(wall), k[26:44], np.full((len(full), 18), 0.22), patient.tissue + 7 - worse[26:44], 6.0),
        _wall(ventricle, np.linspace(-ventricle.end, 0.1, 31), 0.38, patient.tissue + 1, 6.0),
        _wall(atrium, np.linspace(-2.0, atrium.end, 41), 0.24, patient.tissue + 1, 7.0),
        _wall(other, np.linspace(0.1, other.end, 31), 0.24, patient.tissue + 1, 7.0),
        *_valve(left, opening, patient.tissue + 4),
        *_valve(ventricle, opening, patient.tissue + 2),
    ]
    bodies = [left.grown(wall), ventricle.grown(0.35), atrium.grown(0.22), other.grown(0.22)]
    return Anatomy(left, [left, ventricle, atrium, other], bodies, bands)


def _two_chambers(patient: Patient, scene: Scene, full: np.ndarray, opening: np.ndarray, drift: np.ndarray) -> Anatomy:
    whole = _four_chambers(patient, scene, full, opening, drift)
    (left, _, atrium, _), (wall, _, around, _), bands = whole.cavities, whole.bodies, whole.bands
    return Anatomy(left, [left, atrium], [wall, around], [*bands[:3], bands[4], *bands[6:8]])


def _short_axis(patient: Patient, scene: Scene, full: np.ndarray, opening: np.ndarray, drift: np.ndarray) -> Anatomy:
    _, radius, wall = _ventricle(patient, full)
    _, radius0 = end_diastole(patient)
    down = _unit(scene.tilt)
    middle = np.array([scene.aside + 0.8, 3.4 + radius0 + 1.3 * patient.wall]) + drift
    left = _circle(middle, down, radius)
    narrow = patient.right * radius0 * (1 - patient.right_motion * (1 - full)) + 0.8 * radius0
    beside = middle - (0.75 * (radius0 + patient.wall)) * left.across - 0.35 * radius0 * down
    ventricle = _circle(beside, down, narrow)
    around = np.linspace(-math.pi, math.pi, 65)
    worse = scene.dropout * np.abs(np.sin(around)) ** 4
    bands = [
        _wall(left, around, np.repeat(wall[:, None], 65, 1), patient.tissue - worse, 6.0),
        _wall(left, around, 0.12, patient.tissue + 2 - worse, 7.0),
        _wall(left.grown(wall), np.linspace(0.9, 3.0, 24), 0.16, patient.tissue + 6, 5.0),
        _wall(ventricle, np.linspace(-2.9, -0.1, 41), 0.36, patient.tissue + 1, 6.0),
    ]
    # The two papillary muscles are short stretches of thick wall that reach into the cavity.
    for at in (2.2, -2.2):
        curve, normals = left.arc(np.linspace(at - 0.3, at + 0.3, 7))
        reach = np.broadcast_to(0.55 * wall[:, None], curve.shape[:2])
        bands.append(Band(curve, -normals, reach, np.full(7, patient.tissue + 1), 4.0))
    return Anatomy(left, [left, ventricle], [left.grown(wall), ventricle.grown(0.35)], bands)


def _circle(middle: np.ndarray, down: np.ndarray, radius: np.ndarray) -> Bullet:
    return Bullet(middle - radius[:, None] * down, down, 2 * radius, radius, 0.5)


def _wall(
    around: Bullet, angles: np.ndarray, thickness: np.ndarray | float, level: np.ndarray | float, facing: float
) -> Band:
    curve, normals = around.arc(angles)
    thick = np.broadcast_to(np.asarray(thickness, float), curve.shape[:2])
    return Band(curve, normals, thick, np.broadcast_to(np.asarray(level, float), angles.shape), facing)


def _valve(chamber: Bullet, opening: np.ndarray, level: float) -> list[Band]:
    """Return two leaflets that hang on the mouth: closed they meet a little inside it, open they lie along the walls."""
    swing = (0.32 + 1.05 * opening)[:, None]
    leaflets = []
    for side, length in ((-1, 1.12), (1, 0.92)):
        hinge = chamber.at(1.0, side * 0.97 * chamber.mouth)
        leaf = np.linspace(0, 1, 9)
        bow = swing + 0.35 * (1 - 2 * leaf)
        step = np.cos(bow)[..., None] * (-side * chamber.across) - np.sin(bow)[..., None] * chamber.along
        reach = (length * chamber.mouth / len(leaf))[:, None, None]
        curve = hinge[:, None] + np.cumsum(step * reach, axis=1)
        normals = np.stack([step[..., 1], -step[..., 0]], axis=-1)
        leaflets.append(Band(curve, normals, np.full(curve.shape[:2], 0.16), np.full(9, level) - 3 * leaf, 5.0))
    return leaflets


def _unit(tilt: float) -> np.ndarray:
    return np.array([math.sin(tilt), math.cos(tilt)])


def _smooth(x: np.ndarray) -> np.ndarray:
    """Return 0 below 0, 1 above 1, a smooth step between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
