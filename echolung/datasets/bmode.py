"""B-mode image formation for phantoms: moving speckle in beam coordinates, log compression, sector geometry.

Everything happens on a grid of depth × beam, as in a scanner, and is mapped to pixels last. numpy and scipy only.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float, UInt8


@dataclass(frozen=True)
class Sector:
    """Geometry of a curved-array image.

    Attributes:
        size: height and width of the picture, pixels.
        half_angle: of the sector, radians.
        inner: radius of the transducer's face as a share of the radius of the deepest sample.
        depths: samples along a beam.
        beams: beams side by side.
    """

    size: int
    half_angle: float = 0.6
    inner: float = 0.25
    depths: int = 192
    beams: int = 128

    def depth(self) -> Float[np.ndarray, "depths 1"]:
        """Return the depth of each sample: 0 at the transducer, 1 at the bottom."""
        return np.linspace(0, 1, self.depths)[:, None]

    def angle(self) -> Float[np.ndarray, "1 beams"]:
        """Return the angle of each beam, radians; 0 is straight down."""
        return np.linspace(-self.half_angle, self.half_angle, self.beams)[None]

    def scan_convert(self, image: Float[np.ndarray, "t depths beams"]) -> Float[np.ndarray, "t size size"]:
        """Return pictures of what the beams saw, linearly interpolated; 0 outside the sector."""
        top = self.inner * np.cos(self.half_angle)
        side = max(1 - top, 2 * np.sin(self.half_angle))
        x = (np.arange(self.size) + 0.5) / self.size * side - side / 2
        y = top + (np.arange(self.size) + 0.5) / self.size * side - (side - (1 - top)) / 2
        radius, angle = np.hypot(x[None], y[:, None]), np.arctan2(x[None], y[:, None])
        row = (radius - self.inner) / (1 - self.inner) * (self.depths - 1)
        column = (angle + self.half_angle) / (2 * self.half_angle) * (self.beams - 1)
        inside = (row >= 0) & (row <= self.depths - 1) & (column >= 0) & (column <= self.beams - 1)
        r, c = row[inside], column[inside]
        i, j = np.minimum(r.astype(int), self.depths - 2), np.minimum(c.astype(int), self.beams - 2)
        a, b = r - i, c - j
        pictures = np.zeros((len(image), self.size, self.size))
        pictures[:, inside] = (
            image[:, i, j] * (1 - a) * (1 - b)
            + image[:, i + 1, j] * a * (1 - b)
            + image[:, i, j + 1] * (1 - a) * b
            + image[:, i + 1, j + 1] * a * b
        )
        return pictures


def speckle(
    depths: int, beams: int, random: np.random.Generator, axial: float = 0.9, lateral: float = 1.6
) -> Complex[np.ndarray, "depths beams"]:
    """Return fully developed speckle: complex Gaussian scatterers blurred by a Gaussian point-spread function, mean power 1.

    Its magnitude is Rayleigh distributed (Wagner et al. 1983). It wraps around from the last beam to the first, so that
    tissue can be moved sideways for ever.

    Args:
        depths: samples along a beam.
        beams: beams.
        random: where scatterers come from.
        axial: standard deviation of the point-spread function along the beam, samples.
        lateral: the same across beams.
    """
    from scipy.ndimage import gaussian_filter

    field = [
        gaussian_filter(random.standard_normal((depths, beams)), (axial, lateral), mode=("reflect", "wrap"))
        for _ in range(2)
    ]
    echo = field[0] + 1j * field[1]
    return echo / np.sqrt((np.abs(echo) ** 2).mean())


def slide(image: np.ndarray, shift: float) -> np.ndarray:
    """Return the tissue moved sideways by `shift` beams (not necessarily whole), wrapping around."""
    whole = int(np.floor(shift))
    part = shift - whole
    return np.roll(image, whole, -1) * (1 - part) + np.roll(image, whole + 1, -1) * part


def smooth_noise(length: int, scale: float, random: np.random.Generator) -> Float[np.ndarray, " length"]:
    """Return noise of standard deviation 1 that varies over `scale` samples and wraps around."""
    from scipy.ndimage import gaussian_filter1d

    noise = gaussian_filter1d(random.standard_normal(length), scale, mode="wrap")
    return noise / noise.std()


def log_compress(
    envelope: Float[np.ndarray, "*shape"], gain: float, dynamic_range: float
) -> UInt8[np.ndarray, "*shape"]:
    """Return grey levels: 20·log10 of the envelope, `gain` dB up, the lowest `dynamic_range` dB below 0 dB as black."""
    decibels = 20 * np.log10(np.maximum(envelope, 1e-9)) + gain
    return (np.clip(1 + decibels / dynamic_range, 0, 1) * 255).astype(np.uint8)
