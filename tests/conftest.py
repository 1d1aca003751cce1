"""Fixtures shared by every test: the real videos where they are, a home of its own for each test."""

import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # processes share the cores: threads of each would only stand in each other's way
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from echolung.cache import TokenStore

REPOSITORY = Path(__file__).parents[1]

settings.register_profile("echolung", deadline=None)  # nothing is asserted about wall time
settings.load_profile("echolung")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real videos, or skip."""
    folder = Path(os.environ.get("ECHOLUNG_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "covid19_ultrasound").is_dir():
        pytest.skip(f"no real videos at {folder} (set ECHOLUNG_TEST_DATA)")
    return folder


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what somebody has set for their own terminal and downloads from the tests."""
    for name in (
        "COLUMNS",
        "LINES",
        "FORCE_COLOR",
        "NO_COLOR",
        "ECHOLUNG_DEBUG",
        "ECHOLUNG_MIRROR",
        "ECHOLUNG_OFFLINE",
    ):
        monkeypatch.delenv(name, raising=False)


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


@pytest.fixture(scope="session")
def write_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return a writer of small token stores: (values [v, views, segments, n, d], videos, tasks, unreadable ids) -> store."""

    def write(
        values: np.ndarray,
        videos: pd.DataFrame,
        tasks: dict[str, Any],
        unreadable: Sequence[str] = (),
        dataset: str = "synthetic",
    ) -> "TokenStore":
        from echolung.cache import Snapshot, TokenStore
        from echolung.cache.layout import PREVIEW_SHAPE, Block

        count, views, segments, n, d = values.shape
        videos = videos.assign(path=videos["video_id"] + ".mp4")
        rows = videos.loc[np.repeat(np.arange(count), views * segments), ["video_id", "patient", "source"]]
        rows = rows.reset_index(drop=True)
        rows["segment"] = np.tile(np.arange(segments), count * views)
        rows["view"] = np.tile(np.repeat(np.arange(views), segments), count)
        snapshot = Snapshot(dataset, videos, {name: task.to_json() for name, task in tasks.items()})
        path = tmp_path_factory.mktemp("store") / "synthetic.zarr"
        store = TokenStore.create(
            path,
            {"made": "up"},
            rows,
            snapshot,
            tokens=n,
            dim=d,
            grid=(1, 1, n),
            frames=1,
            block=len(rows),
            preview=False,
        )
        errors = ["cannot be read" if name in unreadable else "" for name in rows["video_id"]]
        size = len(rows)
        store.write(
            Block(
                start=0,
                tokens=values.reshape(size, n, d).astype(np.float32),
                frames=np.zeros((size, 1), np.int32),
                previews=np.zeros((size, *PREVIEW_SHAPE), np.uint8),
                digests=[""] * size,
                sizes=[0] * size,
                mtimes=[0] * size,
                errors=errors,
            )
        )
        store.finish()
        return TokenStore.open(path)

    return write


@pytest.fixture(scope="session")
def write_classes(write_store: Callable[..., Any]) -> Callable[..., Any]:
    """Return a writer of stores with a task of classes: `signal` marks the class in the tokens, `identity` the patient."""

    def write(
        patients: int = 24,
        each: int = 2,
        classes: int = 3,
        signal: float = 1.5,
        identity: float = 0.0,
        *,
        views: int = 1,
        segments: int = 2,
        tokens: int = 3,
        dim: int = 16,
        seed: int = 0,
        columns: dict[str, Any] | None = None,
        unreadable: Sequence[str] = (),
        dataset: str = "synthetic",
    ) -> "TokenStore":
        from echolung.datasets.manifest import Task

        random = np.random.default_rng(seed)
        person = np.repeat(np.arange(patients), each)
        label = person % classes
        names = [f"class{c}" for c in range(classes)]
        centre = (
            signal * random.normal(size=(classes, dim))[label] + identity * random.normal(size=(patients, dim))[person]
        )
        values = centre[:, None, None, None] + random.normal(size=(len(person), views, segments, tokens, dim))
        videos = pd.DataFrame(
            {
                "video_id": [f"v{i:03d}" for i in random.permutation(len(person))],
                "patient": [f"p{i}" for i in person],
                "source": [f"s{i % 6}" for i in person],
                "label": [names[c] for c in label],
                "number": 50 + 10 * centre[:, 0] + random.normal(size=len(person)),
                **(columns or {}),
            }
        )
        tasks = {
            "label": Task("classification", "label", tuple(names)),
            "number": Task("regression", "number"),
        }
        return write_store(values, videos, tasks, unreadable, dataset)

    return write


SMALL_TENSORS = {"probes", "evaluation", "pretraining", "report"}
"""Folders of tests whose tensors are so small that two threads take longer than one."""


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep torch to one thread where tensors are small."""
    if request.path.parent.name not in SMALL_TENSORS:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
