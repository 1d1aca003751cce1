"""Which frames of a video make its clips. Pure functions of the frame times, the plan and the video's id."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from echolung.clips.plan import ClipPlan
from echolung.errors import InputError

VIEW_SCALE = (0.5, 1.0)
"""Area of a random view's crop over the short side squared (EchoJEPA's narrow range: ultrasound loses its anatomy in less)."""

VIEW_ASPECT = (0.9, 1.1)
"""Width over height of a random view's crop (EchoJEPA)."""


@dataclass(frozen=True)
class Window:
    """One clip of a video.

    Attributes:
        frames: indices of its frames, ascending; a short video repeats its last frame.
        crop: (centre y, centre x, height, width) of a random view as shares of the frame; None: the plan's centre crop.
    """

    frames: Int[np.ndarray, " frames"]
    crop: tuple[float, float, float, float] | None = None


def sample(times: Float[np.ndarray, " t"] | int, plan: ClipPlan, video_id: str = "") -> list[Window]:
    """Return the windows of one video in the order of `plan.slots()`.

    Args:
        times: seconds at which each frame is shown, ascending; or just the number of frames.
        plan: how many windows of what.
        video_id: seeds the random views, so that they do not depend on what else is extracted.

    Raises:
        InputError: the plan counts in time (`fps`) and the video has no clock (a folder of images).
    """
    if isinstance(times, int):
        times = np.full(times, np.nan) if plan.fps else np.arange(times, dtype=np.float64)
    if len(times) == 0:
        raise InputError(f"The video {video_id} has no frame.")
    if plan.fps is None:
        clock, span = np.arange(len(times), dtype=np.float64), float((plan.frames - 1) * plan.stride)
    else:
        if np.isnan(times).any():
            raise InputError(f"--fps needs a clock, and {video_id} is a folder of images; use --stride instead.")
        clock, span = times - times[0], (plan.frames - 1) / plan.fps
    steps = np.linspace(0.0, span, plan.frames)
    slack = max(clock[-1] - span, 0.0)

    windows = []
    for segment, view in plan.slots():
        crop = None
        if view == 0:
            start = slack * (segment / (plan.segments - 1) if plan.segments > 1 else 0.5)
        else:
            random = _generator(video_id, segment, view)
            start = slack * (segment + random.uniform()) / plan.segments
            crop = _random_crop(random)
        if plan.fps is None:
            start = np.floor(start)
        windows.append(Window(_nearest(clock, start + steps), crop))
    return windows


def random_window(
    times: Float[np.ndarray, " t"], frames: int, fps: int | float, random: np.random.Generator
) -> Int[np.ndarray, " frames"]:
    """Return the indices of a window of `frames` at `fps` that starts anywhere in the video, one draw of `random`.

    A video shorter than the window repeats its last frame; one without a clock (NaN times) is taken frame by frame.

    Raises:
        InputError: the video has no frame.
    """
    if len(times) == 0:
        raise InputError("The video has no frame.")
    share = random.uniform()
    if np.isnan(times).any():
        start = int(share * max(len(times) - frames + 1, 1))
        return np.minimum(start + np.arange(frames), len(times) - 1)
    clock, span = times - times[0], (frames - 1) / fps
    return _nearest(clock, share * max(clock[-1] - span, 0.0) + np.linspace(0.0, span, frames))


def _nearest(clock: Float[np.ndarray, " t"], wanted: Float[np.ndarray, " frames"]) -> Int[np.ndarray, " frames"]:
    """Return for each wanted time the index of the nearest frame; halfway goes to the earlier, past the end to the last."""
    after = np.clip(np.searchsorted(clock, wanted), 0, len(clock) - 1)
    before = np.maximum(after - 1, 0)
    # Clocks carry rounding noise of the container's time base, which must not decide a tie.
    return np.where(wanted - clock[before] <= clock[after] - wanted + 1e-6, before, after)


def _generator(video_id: str, segment: int, view: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{video_id}\n{segment}\n{view}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _random_crop(random: np.random.Generator) -> tuple[float, float, float, float]:
    area = random.uniform(*VIEW_SCALE)
    aspect = np.exp(random.uniform(*np.log(VIEW_ASPECT)))
    height, width = min(np.sqrt(area / aspect), 1.0), min(np.sqrt(area * aspect), 1.0)
    centre = [random.uniform(share / 2, 1 - share / 2) for share in (height, width)]
    return float(centre[0]), float(centre[1]), float(height), float(width)
