"""Fixtures shared by every test: the real videos where they are, a home of its own for each test."""

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real videos, or skip."""
    folder = Path(os.environ.get("ECHOLUNG_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "covid19_ultrasound").is_dir():
        pytest.skip(f"no real videos at {folder} (set ECHOLUNG_TEST_DATA)")
    return folder


@pytest.fixture(autouse=True)
def echolung_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty ECHOLUNG_HOME."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ECHOLUNG_HOME", str(home))
    return home


def _grey_frames(count: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Return smooth grey frames [t, h, w], each different from the next, that a codec keeps within a few grey levels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phases = random.uniform(0, 2 * np.pi, 3)
    speed = random.uniform(0.3, 0.5)
    waves = [
        np.sin(x / 9 + phases[0] + speed * t) + np.cos(y / 7 + phases[1] - speed * t) + np.sin((x + y) / 13 + phases[2])
        for t in range(count)
    ]
    return np.stack([np.clip(128 + 35 * wave, 0, 255).astype(np.uint8) for wave in waves])


def _write_video(
    path: Path,
    frames: np.ndarray,
    fps: int = 25,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    gop: int = 12,
    stamps: Sequence[int] | None = None,
) -> Path:
    """Write grey [t, h, w] or RGB [t, h, w, 3] frames with PyAV; `stamps`: when each is shown, in 1/1000 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = *frames.shape[1:3], pixels, gop
        if codec != "gif":
            stream.bit_rate = 4_000_000
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="gray" if image.ndim == 2 else "rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def grey_frames() -> Callable[..., np.ndarray]:
    """Return a maker of smooth grey frames [t, h, w]."""
    return _grey_frames


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """Return a writer of small video files."""
    return _write_video
