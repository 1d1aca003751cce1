"""How fast an extraction goes: tried on a few clips and videos beforehand, and seen from its first batches."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from echolung.clips.timing import seconds_a_video
from echolung.encoders import Encoder
from echolung.extraction.plan import ExtractionPlan
from echolung.extraction.pooling import GridPool
from echolung.extraction.run import encode
from echolung.extraction.sources import cut_from
from echolung.machine import cores, cores_each
from echolung.text import about

PATIENCE = 3.0
"""Seconds that a trial of the encoder should take, where one clip does not take longer."""

VIDEOS = 3
"""Videos that are decoded to see how long that takes."""

WRITING = 250e6
"""Bytes a second that Zarr was seen to write of tokens on one core, less its best."""

LONG = 3600.0
"""Seconds from which somebody at a CPU should be told beforehand."""

FIRST = 30.0
"""Seconds after which the pace of a run can be told."""


@dataclass(frozen=True)
class Pace:
    """How fast an extraction goes here.

    Attributes:
        device: where the encoder runs, "cpu" or "cuda".
        clip: seconds a clip in the encoder.
        video: seconds a video in one decoding process; NaN where none could be read.
        workers: decoding processes.
        clip_bytes: that a clip adds to the store.
        how: what was tried, a phrase.
    """

    device: str
    clip: float
    video: float
    workers: int
    clip_bytes: int
    how: str

    def seconds(self, clips: int, each: int) -> float | None:
        """Return the seconds that `clips` clips take, `each` a video; None where decoding could not be timed.

        A GPU encodes while processors decode and write, so that the slowest of the three counts. On a CPU all share it.
        """
        if not np.isfinite(self.video):
            return None
        encoding, decoding = clips * self.clip, clips / each * self.video
        if self.device == "cpu":
            return encoding + decoding / min(cores(), self.workers)
        return max(encoding, decoding / self.workers, clips * self.clip_bytes / WRITING)


def measure(plan: ExtractionPlan, encoder: Encoder, batch: int, workers: int | None) -> Pace:
    """Encode some random clips, decode up to three of the videos, and return how fast that went."""
    device = next(encoder.parameters()).device.type
    size, frames = plan.clips.size, plan.clips.frames
    pooled = encoder if plan.pool == 1 else GridPool(encoder, encoder.spec.grid(frames, size, size), plan.pool)
    clip, clips = _encoding(pooled, plan, batch)
    decoding = seconds_a_video(_videos(plan))
    tokens = 0 if plan.token_pool == "none" else int(np.prod(encoder.spec.grid(frames, size, size))) // plan.pool**2
    where = "cpu" if device == "cpu" else torch.cuda.get_device_name()
    how = f"{_rate(clip)} in the encoder on {where}, on {clips} random clip{'s' * (clips > 1)}"
    if decoding:
        how += f"; {_short(float(np.mean(decoding)))} a video to decode, on {len(decoding)} of the dataset's"
    else:
        how += "; none of the videos tried could be decoded"
    return Pace(
        device,
        clip,
        float(np.mean(decoding)) if decoding else float("nan"),
        workers or cores_each(),
        tokens * encoder.spec.dim * 2,
        how,
    )


def _encoding(encoder: nn.Module, plan: ExtractionPlan, batch: int) -> tuple[float, int]:
    """Return the seconds a clip, and on how many that was measured; one clip before warms up."""
    shape = (plan.clips.frames, plan.clips.size, plan.clips.size, 3)
    frames = np.random.default_rng(0).integers(0, 256, (batch, *shape), np.uint8)

    def timed(count: int) -> float:
        began = time.perf_counter()
        encode(encoder, frames[:count], plan.precision)  # gives numpy, so that a GPU has finished
        return time.perf_counter() - began

    if (first := timed(1)) > PATIENCE:
        return first, 1
    count = max(1, min(batch, int(PATIENCE / timed(1))))
    return timed(count) / count, count


def _videos(plan: ExtractionPlan) -> list[tuple]:
    """Return the arguments of `prepare_video` for a few videos, from all over the dataset."""
    videos = plan.manifest.videos
    cut = cut_from(videos)
    chosen = np.unique(np.linspace(0, len(videos) - 1, VIDEOS).round().astype(int)).tolist()
    names = videos["video_id"].astype(str).tolist()
    return [
        (plan.manifest.root / path, names[i], plan.clips, plan.decoder, span, starts)
        for i, (path, span, starts) in ((i, cut[i]) for i in chosen)
    ]


def _rate(seconds: float) -> str:
    return f"{1 / seconds:.0f} clips a second" if seconds < 0.2 else f"{_short(seconds)} a clip"


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 0.095 else f"{seconds:.2g} s" if seconds < 99 else about(seconds)


class LongRun:
    """Tells once, from the first batches of a run, that it will take hours."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.done = self.todo = 0
        self.told = False

    def start(self, done: int, total: int) -> None:
        """Begin to count."""
        self.began, self.done, self.todo = time.monotonic(), 0, total - done

    def advance(self, clips: int) -> str:
        """Count clips, and return how long the rest will take where that has to be told now; "" otherwise."""
        self.done += clips
        elapsed = time.monotonic() - self.began
        if self.told or elapsed < FIRST or not self.done:
            return ""
        self.told = True
        left = elapsed / self.done * (self.todo - self.done)
        return about(left) if left > LONG else ""
