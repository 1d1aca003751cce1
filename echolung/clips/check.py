"""Opening every video of a dataset once: what can be read, what cannot and why, what is there twice."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8
from PIL import Image

from echolung.clips.decode import Span, decode_chosen, frame_rate
from echolung.clips.screen import Screen, look
from echolung.clips.workers import TIME_LIMIT, run_in_workers, source_digest
from echolung.datasets import Manifest
from echolung.datasets.manifest import spans
from echolung.errors import DecodeError

COMPARED_FRAMES = 8
"""Frames whose pixels, with the number of frames, tell whether two files show the same video."""

PICTURE_SIZE = 28
"""Height and width of the small grey pictures of these frames, by which clips that look alike are found."""


@dataclass(frozen=True)
class VideoFacts:
    """What one video is: frames, pixels, frames a second (0 where it has no clock), digests of its bytes and its pixels.

    Height and width are those of what is kept of the picture. `pictures` are small grey ones of `COMPARED_FRAMES` frames,
    and `screen` says what of the scanner's screen they show.
    """

    frames: int
    height: int
    width: int
    fps: float
    digest: str
    pixels: str
    pictures: UInt8[np.ndarray, "f s s"]
    screen: Screen = field(default_factory=Screen)


@dataclass(frozen=True)
class Check:
    """What opening every video of a dataset showed.

    Attributes:
        videos: the manifest's rows with frames, height, width, fps of each readable one.
        unreadable: video_id -> reason.
        duplicates: groups of video_ids whose files are equal byte for byte.
        same_frames: groups of video_ids whose files differ and whose frames do not.
        pictures: video_id -> small grey frames of each readable video.
        screens: video_id -> what of the scanner's screen is seen, where there is something to be said.
    """

    videos: pd.DataFrame
    unreadable: dict[str, str]
    duplicates: list[list[str]]
    same_frames: list[list[str]]
    pictures: dict[str, UInt8[np.ndarray, "f s s"]] = field(default_factory=dict)
    screens: dict[str, Screen] = field(default_factory=dict)


def inspect_video(path: Path, decoder: str, span: Span | None = None, box: str = "") -> VideoFacts:
    """Return the facts of the video at `path`, see `decode`; DecodeError where it cannot be read."""
    clock: list[Float[np.ndarray, " t"]] = []

    def choose(times: Float[np.ndarray, " t"]) -> Int[np.ndarray, " k"]:
        clock.append(times)
        return np.linspace(0, len(times) - 1, COMPARED_FRAMES).round().astype(int)

    frames, indices = decode_chosen(path, choose, decoder, span, box)
    times = clock[-1]
    pixels = hashlib.sha256(f"{len(times)}".encode() + frames.tobytes()).hexdigest()
    height, width = frames.shape[1:3]
    small = (PICTURE_SIZE, PICTURE_SIZE)
    images = [Image.fromarray(frame).convert("L").resize(small, Image.Resampling.BOX) for frame in frames]
    pictures = np.stack([np.asarray(image) for image in images])
    fps = float(np.nan_to_num(frame_rate(times)))
    screen = look(path, frames[np.unique(indices, return_index=True)[1]], box)
    return VideoFacts(len(times), height, width, fps, source_digest(path), pixels, pictures, screen)


def check_videos(
    manifest: Manifest,
    *,
    decoder: str = "auto",
    box: str = "",
    workers: int | None = None,
    time_limit: float = TIME_LIMIT,
    advance: Callable[[], None] = lambda: None,
) -> Check:
    """Open every video in worker processes and return what was found; `advance` is called after each.

    Args:
        manifest: the videos.
        decoder: as in `decode`.
        box: as in `decode`.
        workers: processes; default one a core.
        time_limit: seconds that a video may take.
        advance: is called.
    """
    facts: dict[str, VideoFacts] = {}
    unreadable: dict[str, str] = {}
    names, of_file = manifest.videos["video_id"].tolist(), spans(manifest.videos)

    def arguments(row: int) -> tuple[Path, str, Span | None, str]:
        return manifest.file(row), decoder, of_file[row], box

    for row, result in run_in_workers(inspect_video, range(len(names)), arguments, workers, time_limit):
        if isinstance(result, DecodeError):
            unreadable[names[row]] = str(result)
        else:
            facts[names[row]] = result
        advance()
    columns = {
        field: [getattr(facts.get(n), field, np.nan) for n in names] for field in ("frames", "height", "width", "fps")
    }
    duplicates = _groups({name: fact.digest for name, fact in facts.items()})
    same = _groups({name: fact.pixels for name, fact in facts.items()})
    return Check(
        manifest.videos.assign(**columns),
        unreadable,
        duplicates,
        [group for group in same if group not in duplicates],
        {name: fact.pictures for name, fact in facts.items()},
        {name: fact.screen for name, fact in facts.items() if fact.screen},
    )


def _groups(digests: dict[str, str]) -> list[list[str]]:
    by_digest: dict[str, list[str]] = {}
    for name, digest in digests.items():
        by_digest.setdefault(digest, []).append(name)
    return [names for names in by_digest.values() if len(names) > 1]
