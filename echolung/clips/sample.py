"""Which frames of a video make its clips. Pure functions of the frame times, the plan and the video's id."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from echolung.clips.plan import ClipPlan
from echolung.errors import DecodeError, InputError

VIEW_SCALE = (0.5, 1.0)
"""Area of a random view's crop over the short side squared (EchoJEPA's narrow range: ultrasound loses its anatomy in less)."""

VIEW_ASPECT = (0.9, 1.1)
"""Width over height of a random view's crop (EchoJEPA)."""

VIEW_SHIFT, SHIFTED_SIDE = 6, 112
"""How far a random view of the whole square is shifted, and the side this is counted at, pixels (CoReEcho, augmentation.py)."""

BLACK, GREY = -1, -2
"""Indices of frames that no video has: zeros, and the mean grey level of echocardiograms."""

PAST_THE_END = {"loop": 0, "black": BLACK, "grey": GREY}
"""What follows a video's last frame; otherwise the last frame itself."""


@dataclass(frozen=True)
class Window:
    """One clip of a video.

    Attributes:
        frames: indices of its frames; past the video's end what the plan pads with, `BLACK` and `GREY` among it.
        crop: (centre y, centre x, height, width) of a random view as shares of the frame; None: the plan's own crop.
        shift: (down, right) by which the picture is moved over black, as shares of the square's side.
    """

    frames: Int[np.ndarray, " frames"]
    crop: tuple[float, float, float, float] | None = None
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Clock:
    """When the frames of a video are shown, in seconds or counted in frames, and how its windows are cut.

    Attributes:
        times: of each frame, ascending from 0.
        gap: how long a frame is shown.
        step: from one frame of a window to the next.
        span: from the first to the last.
        frames: of a window.
        pad: what follows the last frame, see `ClipPlan`.
    """

    times: Float[np.ndarray, " t"]
    gap: float
    step: float
    span: float
    frames: int
    pad: str

    @classmethod
    def counting(cls, length: int, frames: int, stride: int, pad: str) -> "Clock":
        """Return the clock that counts the frames of a video of `length`; windows have `frames`, every `stride`-th."""
        times = np.arange(length, dtype=np.float64)
        return cls(times, 1.0, float(stride), float((frames - 1) * stride), frames, pad)

    @classmethod
    def timed(cls, times: Float[np.ndarray, " t"], frames: int, fps: int | float, pad: str) -> "Clock":
        """Return the clock of a video whose frames are shown at `times`, seconds; windows have `frames` at `fps`."""
        gap = float(times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1 / fps
        return cls(times - times[0], gap, 1 / fps, (frames - 1) / fps, frames, pad)

    @property
    def slack(self) -> float:
        """When the last window starts.

        A video padded with black or grey counts as long as all steps of a window, its last one included (CoReEcho,
        dataset.py: 36 frames, every 4th, of fewer than 144 start at 0 to 3). A window begins with a frame of the video.
        """
        slack = float(self.times[-1]) - self.span
        if self.fills:
            slack = max(slack, self.step - self.gap)
        return min(max(slack, 0.0), float(self.times[-1]))

    @property
    def fills(self) -> bool:
        """Whether frames that the video does not have follow it."""
        return self.pad in ("black", "grey")

    def window(self, start: int | float) -> Int[np.ndarray, " frames"]:
        """Return the indices of the frames of the window from `start` on."""
        wanted, end = start + np.linspace(0.0, self.span, self.frames), float(self.times[-1])
        if self.pad == "loop":
            wanted = wanted % (end + self.gap)
        found = _nearest(self.times, wanted)
        past = wanted > end + self.gap / 2 + 1e-6
        return np.where(past, PAST_THE_END[self.pad], found) if self.pad in PAST_THE_END else found


def sample(
    times: Float[np.ndarray, " t"] | int,
    plan: ClipPlan,
    video_id: str = "",
    starts: Sequence[int] | None = None,
) -> list[Window]:
    """Return the windows of one video in the order of `plan.slots()`.

    Args:
        times: seconds at which each frame is shown, ascending; or just the number of frames.
        plan: how many windows of what.
        video_id: seeds the random views, so that they do not depend on what else is extracted.
        starts: the frame that the fixed window of each segment begins with; None: they are evenly spaced.

    Raises:
        InputError: the plan counts in time (`fps`) and the video has no clock (a folder of images, a DICOM file without
            frame times).
        DecodeError: a window starts after the video's end.
    """
    if isinstance(times, int):
        times = np.full(times, np.nan) if plan.fps else np.arange(times, dtype=np.float64)
    if len(times) == 0:
        raise InputError(f"The video {video_id} has no frame.")
    if plan.fps is None:
        clock = Clock.counting(len(times), plan.frames, plan.stride, plan.pad)
    elif np.isnan(times).any():
        raise InputError(
            f"--fps needs a clock, and {video_id} is a folder of images or a file that does not say when its frames are shown; "
            "use --stride instead."
        )
    else:
        clock = Clock.timed(times, plan.frames, plan.fps, plan.pad)
    if starts and max(starts) >= len(times):
        raise DecodeError(
            f"The stored clip start {max(starts)} lies past the end of {video_id}, which has {len(times)} frames: the starts "
            "are of other videos."
        )
    windows = []
    for segment, view in plan.slots():
        if view:
            windows.append(_random_view(clock, plan, segment, _generator(video_id, segment, view)))
            continue
        if starts:
            start = float(clock.times[starts[segment]])
        elif plan.window == "first":
            start = 0.0
        else:
            start = clock.slack * (segment / (plan.segments - 1) if plan.segments > 1 else 0.5)
        windows.append(Window(clock.window(np.floor(start) if plan.fps is None else start)))
    return windows


def _random_view(clock: Clock, plan: ClipPlan, segment: int, random: np.random.Generator) -> Window:
    # Frames 0 to `slack` are as likely as each other; without filling, `slack` itself is never drawn: older stores rely on it.
    slack = clock.slack + (1 if clock.fills and plan.fps is None else 0)
    start = slack * (segment + random.uniform()) / plan.segments
    if plan.window == "first":
        start = 0.0
    frames = clock.window(np.floor(start) if plan.fps is None else start)
    if plan.crop == "centre":
        return Window(frames, crop=_random_crop(random))
    down, right = random.integers(-VIEW_SHIFT, VIEW_SHIFT + 1, 2) / SHIFTED_SIDE
    return Window(frames, shift=(float(down), float(right)))


def random_window(
    times: Float[np.ndarray, " t"],
    frames: int,
    fps: int | float,
    random: np.random.Generator,
    *,
    stride: int = 0,
    pad: str = "repeat",
    first: bool = False,
) -> Int[np.ndarray, " frames"]:
    """Return the indices of a window of `frames` at `fps` that starts anywhere in the video, one draw of `random`.

    Args:
        times: seconds at which each frame is shown; one without a clock (NaN) is taken frame by frame.
        frames: of the window.
        fps: frames a second of the window; not looked at where there is a `stride`.
        random: draws the start.
        stride: source frames from one frame of the window to the next; 0: by `fps`.
        pad: what follows the video's last frame, see `ClipPlan`.
        first: start with the video.

    Raises:
        InputError: the video has no frame.
    """
    if len(times) == 0:
        raise InputError("The video has no frame.")
    share = 0.0 if first else random.uniform()
    if stride or np.isnan(times).any():
        clock = Clock.counting(len(times), frames, stride or 1, pad)
        return clock.window(int(share * (int(clock.slack) + 1)))
    clock = Clock.timed(times, frames, fps, pad)
    return clock.window(share * clock.slack)


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
