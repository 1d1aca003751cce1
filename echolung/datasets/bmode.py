"""B-mode image formation: moving scatterers -> echoes -> point-spread function -> log compression -> sector image."""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Complex, Float, UInt8


@dataclass(frozen=True)
class Sector:
    """The fan of beams of a curved array; `radius` 0 is a phased array with its apex on the skin.

    Attributes:
        radius: radius of curvature of the transducer face, cm.
        half_angle: half of the opening angle, rad.
        depth: imaged depth below the transducer face, cm.
        beams: beams across the opening angle.
        samples: samples along a beam.
        pad: further beams computed on either side, so that the image's edge is no edge of the computation.
    """

    radius: float
    half_angle: float
    depth: float
    beams: int
    samples: int
    pad: int = 6

    @classmethod
    def for_image(cls, size: int, radius: float, half_angle: float, depth: float) -> "Sector":
        """Return the sector whose beams and samples are just finer than the pixels of a `size` × `size` image."""
        return cls(radius, half_angle, depth, beams=max(size * 3 // 4, 8), samples=max(size * 5 // 4, 8))

    @property
    def sample_step(self) -> float:
        """Distance of two samples, cm."""
        return self.depth / (self.samples - 1)

    @property
    def beam_step(self) -> float:
        """Angle between two beams, rad."""
        return 2 * self.half_angle / (self.beams - 1)

    def pixel(self, size: int) -> float:
        """Return the width of a pixel of its `size` × `size` picture, cm: the whole sector just fits."""
        far, top = self.radius + self.depth, self.radius * math.cos(self.half_angle)
        return max(far - top, 2 * far * math.sin(min(self.half_angle, math.pi / 2))) / size

    def to_pixels(self, points: Float[np.ndarray, "*n 2"], size: int) -> Float[np.ndarray, "*n 2"]:
        """Return where points (x, y; cm from the centre of curvature) lie in its picture: column, row from 0."""
        middle = (self.radius * math.cos(self.half_angle) + self.radius + self.depth) / 2
        return (points - np.array([0.0, middle])) / self.pixel(size) + (size - 1) / 2

    def places(self, size: int) -> tuple[Float[np.ndarray, "size size"], Float[np.ndarray, "size size"]]:
        """Return (x, y) of each pixel of its picture, cm from the centre of curvature."""
        middle = (self.radius * math.cos(self.half_angle) + self.radius + self.depth) / 2
        centre = (np.arange(size) + 0.5 - size / 2) * self.pixel(size)
        y, x = np.meshgrid(centre + middle, centre, indexing="ij")
        return x, y

    @property
    def depths(self) -> Float[np.ndarray, " r"]:
        """Depth of each sample below the transducer face, cm."""
        return np.linspace(0, self.depth, self.samples, dtype=np.float32)

    @property
    def angles(self) -> Float[np.ndarray, " b"]:
        """Angle of each beam computed, the padding included, rad."""
        edge = self.half_angle + self.pad * self.beam_step
        return np.linspace(-edge, edge, self.beams + 2 * self.pad, dtype=np.float32)


@dataclass(frozen=True)
class PointSpread:
    """The Gaussian image of one point: pulse length along the beam, beam width across it.

    Attributes:
        axial: standard deviation along the beam, cm.
        lateral: standard deviation across, at the focus, rad.
        focus: depth of the focus, cm.
        spread: relative widening a focal depth away from the focus.

    Both widths are at least 0.8 samples (beams): what a coarse grid cannot show it must not alias.
    """

    axial: float = 0.05
    lateral: float = 0.013
    focus: float = 4.0
    spread: float = 0.5

    def axial_samples(self, sector: Sector) -> float:
        """Return the standard deviation along the beam in samples."""
        return max(self.axial / sector.sample_step, 0.8)

    def lateral_beams(self, sector: Sector) -> Float[np.ndarray, " r"]:
        """Return the standard deviation across in beams, at each depth: hyperbolic around the focus."""
        defocus = self.spread * (sector.depths / self.focus - 1)
        return np.maximum(self.lateral / sector.beam_step * np.sqrt(1 + defocus**2), 0.8)


@dataclass(frozen=True)
class Echoes:
    """Points that send back sound, in every frame: where they are and how strongly, with which phase.

    Attributes:
        depth: cm below the transducer face.
        angle: rad.
        amplitude: complex.
    """

    depth: Float[np.ndarray, "t n"]
    angle: Float[np.ndarray, "t n"]
    amplitude: Complex[np.ndarray, "t n"]


def diffuse(
    rng: np.random.Generator,
    depth: Float[np.ndarray, "t n"],
    angle: Float[np.ndarray, "t n"],
    strength: Float[np.ndarray, " n"],
    density: float,
    wavelength: float = 0.044,
) -> Echoes:
    """Return scatterers far smaller than the wavelength: fully developed speckle that moves with them.

    Each has a fixed complex normal reflectivity; its echo turns by exp(-4πi depth / wavelength) as it moves along the
    beam. Where `strength` is s the speckle has root mean square s (Goodman's random walk; Wagner et al. 1983).

    Args:
        rng: draws the reflectivities.
        depth: of each scatterer in each frame, cm.
        angle: of each scatterer in each frame, rad.
        strength: of each scatterer (the tissue's echogenicity there; amplitude, not dB).
        density: scatterers per cell of the sector's grid.
        wavelength: cm (0.044: 3.5 MHz in tissue).
    """
    n = len(strength)
    reflectivity = rng.standard_normal((n, 2), dtype=np.float32).view(np.complex64)[:, 0]
    phase = np.float32(4 * math.pi / wavelength) * depth.astype(np.float32)
    turn = np.empty(phase.shape, np.complex64)
    turn.real, turn.imag = np.cos(phase), -np.sin(phase)
    return Echoes(depth, angle, turn * (reflectivity * (strength / math.sqrt(2 * density)).astype(np.float32)))


def specular(
    sector: Sector,
    psf: PointSpread,
    depth: Float[np.ndarray, "t b"],
    strength: Float[np.ndarray, "t b"],
    thickness: float = 0.0,
) -> Echoes:
    """Return a smooth reflector: one point a beam, in phase with its neighbours, so that they add up to a line.

    Args:
        sector: its `angles` are the points' angles.
        psf: strengths are scaled by it so that 1 draws as bright as speckle of root mean square 1.
        depth: of the reflector at each of the sector's beams, cm.
        strength: at each beam.
        thickness: standard deviation of the band's brightness across, cm, beyond the pulse's own.
    """
    pulse, width = psf.axial_samples(sector), float(np.median(psf.lateral_beams(sector)))
    # Kernels have unit energy: peak of the axial one, and sum of the lateral one.
    unit = (math.pi * pulse**2) ** -0.25 * (4 * math.pi * width**2) ** 0.25
    offsets = np.linspace(-1.5, 1.5, 5) if thickness else np.zeros(1)
    weights = np.exp(-(offsets**2) / 2) / (1 if not thickness else max(1.0, sector.sample_step / thickness))
    frames, beams = depth.shape
    angle = np.broadcast_to(sector.angles, (frames, beams))
    return Echoes(
        np.concatenate([depth + o * thickness for o in offsets], axis=1),
        np.concatenate([angle] * len(offsets), axis=1),
        np.concatenate([strength * (w / unit) for w in weights], axis=1).astype(np.complex64),
    )


def receive(sector: Sector, echoes: Echoes) -> Complex[np.ndarray, "t r b"]:
    """Return what each beam receives before the point spread: every echo shared among its four nearest cells."""
    frames = len(echoes.depth)
    rows, columns = sector.samples, sector.beams + 2 * sector.pad
    # A border of one cell takes whatever lies outside, so that nothing needs to be cut away.
    y = np.clip(echoes.depth / sector.sample_step + 1, 0, rows + 0.999).astype(np.float32)
    x = (echoes.angle + sector.half_angle) / sector.beam_step + sector.pad + 1
    x = np.clip(x, 0, columns + 0.999).astype(np.float32)
    i, j = y.astype(np.int32), x.astype(np.int32)
    y, x = y - i, x - j
    stride = columns + 2
    frame = np.arange(frames, dtype=np.int32)[:, None] * ((rows + 2) * stride)
    corner = frame + i * stride + j
    field = np.zeros(frames * (rows + 2) * stride, np.complex64)
    for shift, weight in ((0, (1 - y) * (1 - x)), (1, (1 - y) * x), (stride, y * (1 - x)), (stride + 1, y * x)):
        index = (corner + shift).ravel()
        part = echoes.amplitude * weight
        field.real += np.bincount(index, part.real.ravel(), len(field))
        field.imag += np.bincount(index, part.imag.ravel(), len(field))
    return field.reshape(frames, rows + 2, stride)[:, 1:-1, 1:-1]


def blur(field: Complex[np.ndarray, "t r b"], sector: Sector, psf: PointSpread) -> Complex[np.ndarray, "t r b"]:
    """Return `field` seen through the point spread; kernels have unit energy, so white noise keeps its power."""
    from scipy.fft import fft, fftfreq, ifft
    from scipy.ndimage import gaussian_filter1d

    pulse, width = psf.axial_samples(sector), psf.lateral_beams(sector)[:, None]
    field = gaussian_filter1d(field, pulse, axis=1, mode="constant", truncate=3.0)
    field *= np.float32((4 * math.pi * pulse**2) ** 0.25)
    # The width changes with depth: a product with each depth's own Gaussian in lateral frequency.
    wave = 2 * math.pi * fftfreq(field.shape[2])
    transfer = np.exp(-((wave * width) ** 2) / 2) * (4 * math.pi * width**2) ** 0.25
    return ifft(fft(field, axis=2) * transfer.astype(np.float32), axis=2)


def noise(rng: np.random.Generator, shape: tuple[int, int, int]) -> Complex[np.ndarray, "t r b"]:
    """Return the receiver's white complex noise, root mean square 1, new in every frame."""
    return rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0] / np.float32(math.sqrt(2))


def detect(field: Complex[np.ndarray, "t r b"], smoothing: float = 0.7) -> Float[np.ndarray, "t r b"]:
    """Return the envelope, its power averaged over neighbours (sd `smoothing` samples) as compounding scanners do."""
    from scipy.ndimage import gaussian_filter

    power = field.real**2 + field.imag**2
    if smoothing:
        power = gaussian_filter(power, (0, smoothing, smoothing), mode="nearest", truncate=3.0)
    return np.sqrt(power)


def compress(envelope: Float[np.ndarray, "t r b"], gain: float, dynamic_range: float) -> Float[np.ndarray, "t r b"]:
    """Return grey values 0 to 1: 1 + (20 log10(envelope) + gain) / dynamic_range, clipped.

    Args:
        envelope: amplitudes.
        gain: dB; amplitude 1 is white at 0.
        dynamic_range: dB from white to black.
    """
    level = 20 * np.log10(np.maximum(envelope, 1e-6)) + gain
    return np.clip(1 + level / dynamic_range, 0, 1)


def scan_convert(polar: Float[np.ndarray, "t r b"], sector: Sector, size: int) -> UInt8[np.ndarray, "t h w"]:
    """Return grey beams (0 to 1) as `size` × `size` pictures of the sector, centred, as large as fits, 0 outside.

    A pixel (x, y) from the centre of curvature lies at depth √(x² + y²) - radius on the beam at angle atan2(x, y);
    its value is interpolated linearly between the four samples around it.
    """
    x, y = sector.places(size)
    row = (np.hypot(x, y) - sector.radius) / sector.sample_step
    angle = np.arctan2(x, y)
    inside = (row >= 0) & (row < sector.samples - 1) & (np.abs(angle) <= sector.half_angle)
    row = row[inside]
    column = (angle[inside] + sector.half_angle) / sector.beam_step + sector.pad
    i, j = row.astype(int), column.astype(int)
    v, u = (row - i).astype(np.float32), (column - j).astype(np.float32)
    grey = np.zeros((len(polar), size, size), np.uint8)
    value = (polar[:, i, j] * (1 - u) + polar[:, i, j + 1] * u) * (1 - v)
    value += (polar[:, i + 1, j] * (1 - u) + polar[:, i + 1, j + 1] * u) * v
    grey[:, inside] = np.rint(255 * value)
    return grey


@dataclass(frozen=True)
class Texture:
    """A smooth random function of position: a sum of cosines with random waves, defined everywhere, free of any grid.

    Mean 0, variance 1, Gaussian correlation exp(-d²/2) with d the distance in units of `scale` (random Fourier
    features, Rahimi & Recht 2007).
    """

    waves: Float[np.ndarray, "m axes"]
    phases: Float[np.ndarray, " m"]

    @classmethod
    def draw(cls, rng: np.random.Generator, *scale: float, terms: int = 48) -> "Texture":
        """Draw one that varies over `scale` along each of its axes."""
        waves = rng.standard_normal((terms, len(scale))) / np.array(scale)
        return cls(waves.astype(np.float32), rng.uniform(0, 2 * math.pi, terms).astype(np.float32))

    def __call__(self, *position: np.ndarray) -> np.ndarray:
        """Return its value at `position` (one array an axis, all of one shape)."""
        total = np.zeros(np.shape(position[0]), np.float32)
        for wave, phase in zip(self.waves, self.phases, strict=True):
            total += np.cos(sum(w * np.asarray(p, np.float32) for w, p in zip(wave, position, strict=True)) + phase)
        return total * np.float32(math.sqrt(2 / len(self.phases)))


def write_video(path: Path, frames: UInt8[np.ndarray, "t h w"], fps: float, codec: str | None = None) -> None:
    """Write grey frames of even height and width: `.mp4` as H.264 where this FFmpeg can, else MPEG-4 part 2.

    `codec` "mjpeg" writes each frame as a JPEG of its own, in colour, as echocardiography datasets have them.
    """
    import av

    if codec is None:
        codec = "libx264" if path.suffix == ".mp4" and "libx264" in av.codecs_available else "mpeg4"
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    with av.open(str(path), "w") as container:
        stream = cast("av.VideoStream", container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000)))
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = pixels
        # One thread: how frames are cut into slices, and with it the file, must not depend on the machine.
        stream.codec_context.thread_count = 1
        if codec == "mpeg4":
            stream.bit_rate = 4_000_000
        stream.options = {"crf": "18"} if codec == "libx264" else {"qscale": "3"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray").reformat(format=pixels)))
        container.mux(stream.encode())
