"""What pretraining takes of a video: a random window of grey squares. The same bytes from the file as from a pack of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from echolung.clips.decode import Choose, Span, decode_chosen
from echolung.clips.prepare import central_square
from echolung.clips.sample import random_window
from echolung.errors import DecodeError


@dataclass(frozen=True)
class Draw:
    """One clip to be read.

    Attributes:
        frames: of the window.
        fps: frames a second of the window; not looked at where there is a `stride`.
        limit: largest side of the square, pixels; a larger one is reduced to it.
        entropy: what the window's start is drawn from.
        stride: source frames from one frame of the window to the next; 0: by `fps`.
        pad: what follows the video's last frame, see `ClipPlan`.
        window: where it starts: "random", or "first" (with the video).
    """

    frames: int
    fps: float
    limit: int
    entropy: tuple[int, ...]
    stride: int = 0
    pad: str = "repeat"
    window: str = "random"

    def choose(self, times: Float[np.ndarray, " t"]) -> Int[np.ndarray, " frames"]:
        """Return the indices of the frames wanted, from the times of all."""
        random, first = np.random.default_rng(self.entropy), self.window == "first"
        return random_window(times, self.frames, self.fps, random, stride=self.stride, pad=self.pad, first=first)


def read_square(
    path: Path, draw: Draw, decoder: str = "auto", refused: str | None = None, span: Span | None = None
) -> UInt8[np.ndarray, "t s s"]:
    """Return the clip from the video at `path`; DecodeError where it cannot be read, or is `refused` for a known reason.

    `span` says which frames of the file are the video, as in `decode`.
    """
    if refused is not None:
        raise DecodeError(refused)
    frames, indices = decode_chosen(path, draw.choose, decoder, span)
    return square(to_grey(frames), indices, draw.limit)


def collate(
    clips: Sequence[UInt8[np.ndarray, "t _ _"] | None], frames: int
) -> tuple[UInt8[np.ndarray, "b t s s"], Int[np.ndarray, " b"]]:
    """Return clips as one array, zeros right and below where one is smaller than the largest, and their sides.

    Where there is no clip all is zero, and the side 1.
    """
    sides = np.array([1 if clip is None else clip.shape[-1] for clip in clips])
    together = np.zeros((len(clips), frames, sides.max(), sides.max()), np.uint8)
    for place, side, clip in zip(together, sides, clips, strict=True):
        if clip is not None:
            place[:, :side, :side] = clip
    return together, sides


def read_grey(
    path: Path, choose: Choose, decoder: str = "auto", span: Span | None = None, box: str = ""
) -> UInt8[np.ndarray, "k h w"]:
    """Return the chosen frames of a video in grey, at their own size; DecodeError where it cannot be read."""
    return to_grey(decode_chosen(path, choose, decoder, span, box)[0])


def to_grey(frames: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "t h w"]:
    """Return the luma (ITU-R BT.601) of RGB frames; frames with three equal channels come out as they are."""
    return np.stack([np.asarray(Image.fromarray(frame).convert("L")) for frame in np.ascontiguousarray(frames)])


def square(
    frames: UInt8[np.ndarray, "t h w"], indices: Int[np.ndarray, " t"], limit: int
) -> UInt8[np.ndarray, "t s s"]:
    """Return the central square of each frame, its side the short one, reduced (bilinear, antialiased) to `limit` if larger.

    `indices` says which frames are the same, so that none is resampled twice.
    """
    cut = central_square(frames)
    if cut.shape[1] <= limit:
        return np.ascontiguousarray(cut)
    _, first, again = np.unique(indices, return_index=True, return_inverse=True)
    return np.stack([_resize(cut[i], limit, limit) for i in first])[again]


def reduce_short_side(frames: UInt8[np.ndarray, "t h w"], size: int) -> UInt8[np.ndarray, "t h2 w2"]:
    """Return the frames with their short side reduced (bilinear, antialiased) to `size`; smaller ones as they are."""
    height, width = frames.shape[1:]
    short = min(height, width)
    if short <= size:
        return frames
    height, width = (round(side * size / short) for side in (height, width))
    return np.stack([_resize(frame, height, width) for frame in frames])


def _resize(frame: UInt8[np.ndarray, "h w"], height: int, width: int) -> UInt8[np.ndarray, "h2 w2"]:
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
