"""How fast clips are read for training: straight from video files, and from a pack of the same.

    uv run python benchmarks/loader.py [--videos 64] [--clips 2000] [--workers N] [--size 112] [--folder FOLDER]

The videos are Motion-JPEG AVI of 112 × 112 pixels, as EchoNet-Dynamic has them, written to a temporary folder. Both ways give
the same bytes (checked). The page cache is warm; the time that the processes take to start is not counted.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pandas as pd

from echolung.clips.packed import pack
from echolung.datasets import load_manifest
from echolung.pretraining.loader import Loader
from echolung.pretraining.plans import ClipsPlan
from echolung.pretraining.pool import Pool

WARM_UP = 3
"""Batches that are not counted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--frames", type=int, default=176)
    parser.add_argument("--pixels", type=int, default=112, help="height and width of the videos")
    parser.add_argument("--size", type=int, default=112, help="height and width of the clips")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=8.0, help="of one repeat")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write the videos (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        write(folder, arguments.videos, arguments.frames, arguments.pixels)
        pool = Pool.of([load_manifest("table", folder / "videos.csv")])
        began = time.perf_counter()
        packed = pack(pool.videos, folder / "pack.h5", workers=arguments.workers)
        seconds = time.perf_counter() - began
        bytes_in, bytes_out = (sum(f.stat().st_size for f in folder.glob(g)) for g in ("*.avi", "pack.h5"))
        print(
            f"{arguments.videos} videos of {arguments.frames} frames, {arguments.pixels} px, {bytes_in / 1e6:.0f} MB;",
            end=" ",
        )
        print(
            f"packed in {seconds:.1f} s to {bytes_out / 1e6:.0f} MB. Clips of 16 frames at {arguments.size} px,",
            end=" ",
        )
        print(f"batches of {arguments.batch}, {arguments.workers} workers, medians of {arguments.repeats} repeats.")
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python", end=" ")
        print(
            f"{platform.python_version()}, numpy {np.__version__}, PyAV {av.__version__}, {time.strftime('%Y-%m-%d')}\n"
        )
        plan = ClipsPlan(size=arguments.size)
        ways = {
            "video": Loader(pool, plan, 0, arguments.batch, workers=arguments.workers),
            "pack": Loader(pool, plan, 0, arguments.batch, pack=packed.path, workers=arguments.workers),
        }
        same(ways)
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(arguments.repeats):
            for way, loader in ways.items():
                rates[way].append(measure(loader, arguments.batch, arguments.seconds))
        print("| from | clips/s | video = 1 |\n|---|---|---|")
        base = statistics.median(rates["video"])
        for way, found in rates.items():
            print(f"| {way} | {statistics.median(found):,.0f} | {statistics.median(found) / base:.1f} |")


def write(folder: Path, videos: int, frames: int, pixels: int) -> None:
    """Write speckled videos and the table of them."""
    random = np.random.default_rng(0)
    for number in range(videos):
        speckle = np.clip(random.gamma(1.5, 40, (pixels, pixels)), 0, 255)
        with av.open(str(folder / f"{number:04}.avi"), "w") as container:
            stream = container.add_stream("mjpeg", rate=50)
            stream.height, stream.width, stream.pix_fmt = pixels, pixels, "yuvj420p"
            for t in range(frames):
                moved = np.roll(speckle, round(4 * np.sin(t / 8)), 0).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="gray")))
            container.mux(stream.encode())
    pd.DataFrame({"path": [f"{n:04}.avi" for n in range(videos)]}).to_csv(folder / "videos.csv", index=False)


def same(ways: dict[str, Loader]) -> None:
    """Stop where the ways do not give the same bytes."""
    one, other = ([b.frames.numpy() for b in loader.iterate(0, 2)] for loader in ways.values())
    if not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)):
        raise SystemExit("The pack does not give the videos' frames.")


def measure(loader: Loader, batch: int, seconds: float) -> float:
    """Return clips/s over some seconds."""
    batches = loader.iterate(0, 10**9)
    for _ in range(WARM_UP):
        next(batches)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        next(batches)
        done += 1
    rate = done * batch / (time.perf_counter() - began)
    batches.close()  # type: ignore[attr-defined]
    return rate


if __name__ == "__main__":
    main()
