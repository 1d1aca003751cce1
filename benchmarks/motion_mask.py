"""Frames a second of the motion mask, against a single-threaded OpenCV loop that does it in the published way.

    uv run python benchmarks/motion_mask.py [--videos 4] [--frames 40] [--repeats 3] [--workers N] [--folder FOLDER]

The videos are heart phantoms on a screen of 800 × 600 pixels with text, Motion-JPEG AVI. Both ways decode, find the flow, its
time mean, threshold and hull, black out the rest, and write every frame as PNG. They take turns. echolung's time includes
starting its processes, its checks for text and its tables. Three ways of echolung: as published (flow at full size, 3.5 pixels a
frame), adaptive at full size, adaptive as it is by default (flow of the picture reduced to 400 pixels). The overlap is of the
masks with the adaptive ones at full size. CPU time is that of all processes: on a busy machine it says more than the clock.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd

from echolung.clips.flow import FARNEBACK
from echolung.clips.motion_dataset import mask_videos
from echolung.clips.motion_mask import PUBLISHED, MotionMask
from echolung.datasets import Manifest, load_manifest, phantom_heart
from echolung.datasets.heart_image import render

WAYS = {
    "as published, full size": MotionMask.of("published"),
    "adaptive, full size": replace(MotionMask(), edge=0),
    "adaptive (default)": MotionMask(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, help="where to write the videos (default: a temporary folder)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        manifest = write(folder, arguments.videos, arguments.frames)
        print(
            f"{arguments.videos} videos of {arguments.frames} frames, 800 × 600, {arguments.workers} processes,",
            end=" ",
        )
        print(f"medians of {arguments.repeats} repeats. {platform.processor() or platform.machine()},", end=" ")
        print(
            f"{os.cpu_count()} cores, Python {platform.python_version()}, OpenCV {cv2.__version__}, {time.strftime('%Y-%m-%d')}\n"
        )
        seconds: dict[str, list[tuple[float, float]]] = {"plain loop": [], **{way: [] for way in WAYS}}
        for repeat in range(arguments.repeats):
            place = folder / f"repeat{repeat}"
            seconds["plain loop"].append(timed(lambda place=place: plain(manifest, place / "plain")))
            for number, (way, settings) in enumerate(WAYS.items()):
                out = place / str(number)
                how = {"workers": arguments.workers}
                seconds[way].append(
                    timed(lambda out=out, settings=settings, how=how: mask_videos(manifest, out, settings, **how))
                )
        report(seconds, folder / "repeat0", manifest, arguments.videos * arguments.frames)


def write(folder: Path, videos: int, frames: int) -> Manifest:
    """Write heart phantoms in the middle of a screen, and return their dataset."""
    for number in range(videos):
        random = phantom_heart.video_random(0, number, 0)
        sector = render(
            phantom_heart.draw_patient(number, 0), phantom_heart.draw_scene(random), random, frames, 480, 50.0
        )
        with av.open(str(folder / f"{number:03}.avi"), "w") as container:
            stream = container.add_stream("mjpeg", rate=50)
            stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 600, 800, "yuvj420p", 40_000_000
            for picture in np.pad(sector, ((0, 0), (80, 40), (160, 160))):
                cv2.putText(picture, "NAME 1950-01-01", (20, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 230, 1, cv2.LINE_AA)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
            container.mux(stream.encode())
    pd.DataFrame({"path": [f"{number:03}.avi" for number in range(videos)]}).to_csv(folder / "videos.csv", index=False)
    return load_manifest("table", folder / "videos.csv")


def plain(manifest: Manifest, out: Path) -> None:
    """Mask every video as published, one after the other: the whole video's flow, 3.5 pixels a frame, hull, PNGs."""
    for row, name in enumerate(manifest.videos["video_id"]):
        capture, frames = cv2.VideoCapture(str(manifest.file(row))), []
        while (read := capture.read())[0]:
            frames.append(read[1])
        grey = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames]
        fields = [cv2.calcOpticalFlowFarneback(a, b, None, **FARNEBACK) for a, b in pairwise(grey)]
        speed = np.mean([np.hypot(field[..., 0], field[..., 1]) for field in fields], axis=0)
        y, x = np.nonzero(speed > PUBLISHED)
        hull = cv2.convexHull(np.stack([x, y], 1).astype(np.int32))
        keep = cv2.fillConvexPoly(np.zeros(speed.shape, np.uint8), hull, 1)
        (out / str(name)).mkdir(parents=True)
        for index, picture in enumerate(grey):
            cv2.imwrite(str(out / str(name) / f"frame_{index:03}.png"), picture * keep)


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that a call takes, by the clock and of the processors, those of ended child processes included."""
    began, before = time.perf_counter(), sum(os.times()[:4])
    function()
    return time.perf_counter() - began, sum(os.times()[:4]) - before


def report(seconds: dict[str, list[tuple[float, float]]], folder: Path, manifest: Manifest, frames: int) -> None:
    """Print frames a second of each way, and how its masks overlap with the adaptive ones at full size."""

    def masks(number: int) -> list[np.ndarray]:
        files = [folder / str(number) / "masks" / f"{name}.png" for name in manifest.videos["video_id"]]
        return [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) > 0 for file in files]

    print("| way | frames/s | plain loop = 1 | CPU ms a frame | overlap (IoU) | of the full-size mask kept |")
    print("|---|---|---|---|---|---|")
    base, full = (
        statistics.median(clock for clock, _ in seconds["plain loop"]),
        masks(list(WAYS).index("adaptive, full size")),
    )
    for way, taken in seconds.items():
        middle, processors = (statistics.median(values) for values in zip(*taken, strict=True))
        shares = "| – | – |"
        if way in WAYS:
            pairs = list(zip(masks(list(WAYS).index(way)), full, strict=True))
            overlap = np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs])
            shares = f"| {overlap:.2f} | {np.mean([(a & b).sum() / b.sum() for a, b in pairs]):.3f} |"
        print(f"| {way} | {frames / middle:.1f} | {base / middle:.2f} | {1000 * processors / frames:.0f} {shares}")


if __name__ == "__main__":
    main()
