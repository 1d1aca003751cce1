"""Where a video moves: time mean of optical flow -> threshold -> convex hull -> which pixels to keep (docs/motion-mask.md)."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt8

from echolung.clips.flow import flow
from echolung.errors import InputError
from echolung.text import suggest

METHODS = ("adaptive", "quantile", "published")

PUBLISHED = 3.5
"""Pixels a frame above which the published mask calls a pixel moving (cardiac_classification, image_processing.py)."""

EDGE = 400
"""Long side, pixels, of the picture that flow is computed in: larger ones are reduced first."""

STILL = 0.02
"""Pixels a frame of the reduced picture: a threshold below it separates rounding noise from nothing."""

SMALLEST = 0.02
"""Share of the picture: a smaller hull is a cursor or a trace, not an organ."""

GAP = 0.03
"""Share of the diagonal: moving parts nearer than this are one region, such as the two walls of a ventricle."""


@dataclass(frozen=True)
class MotionMask:
    """How the moving region of a video is found.

    Attributes:
        method: how the threshold is set. "adaptive": Otsu's, of this video's flow; "quantile": a quantile of it;
            "published": a fixed number of pixels a frame.
        threshold: "published": pixels a frame. "adaptive": if given, in place of Otsu's, diagonals of the picture a second.
        quantile: share of the pixels that are called still; read by "quantile" alone.
        largest: keep the largest moving region alone, so that a moving trace or text elsewhere does not widen the hull.
        edge: long side of the picture that flow is computed in, pixels; 0: as it is.
    """

    method: str = "adaptive"
    threshold: float | None = None
    quantile: float = 0.8
    largest: bool = True
    edge: int = EDGE

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(
                f"There is no motion mask {self.method!r}; there are {', '.join(METHODS)}.{suggest(self.method, METHODS)}"
            )
        if self.threshold is not None and not 0 < self.threshold < 1000:
            raise InputError(f"The threshold of a motion mask is {self.threshold:g}; it must be above 0.")
        if self.threshold is None and self.method == "published":
            raise InputError("The published motion mask needs a threshold in pixels a frame.")
        if self.threshold is not None and self.method == "quantile":
            raise InputError("A motion mask by quantile has no threshold of its own; leave one of the two out.")
        if not 0 < self.quantile < 1:
            raise InputError(f"The quantile of a motion mask is {self.quantile:g}; it must be between 0 and 1.")
        if self.edge < 0:
            raise InputError(f"The edge of a motion mask is {self.edge} pixels; it must be 0 or more.")

    @classmethod
    def of(cls, method: str, threshold: float | None = None, quantile: float | None = None) -> "MotionMask":
        """Return a method with its defaults; "published" has no largest region and flow at full size.

        Raises:
            InputError: there is no such method, or a number that it does not take.
        """
        if quantile is not None and method != "quantile":
            raise InputError(f"A quantile was given, which the motion mask {method!r} does not read; use quantile.")
        if method == "published":
            return cls(method, PUBLISHED if threshold is None else threshold, largest=False, edge=0)
        return cls(method, threshold) if quantile is None else cls(method, threshold, quantile)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Region:
    """What a motion mask keeps of one video.

    Attributes:
        keep: which pixels.
        speed: time mean of the flow's magnitude, pixels (of the video) a frame; of the reduced picture.
        threshold: in the unit of `speed`; NaN where there was none to find.
        hull: corners (x, y) of what is kept, pixels.
        reason: why everything is kept, a phrase; "" where it is not.
    """

    keep: Bool[np.ndarray, "h w"]
    speed: Float32[np.ndarray, "y x"]
    threshold: float
    hull: Int32[np.ndarray, "n 2"]
    reason: str = ""

    @property
    def share(self) -> float:
        """Kept share of the picture."""
        return float(self.keep.mean())


def find_region(grey: UInt8[np.ndarray, "t h w"], fps: float, settings: MotionMask) -> Region:
    """Return what moves in a video, or all of it, with the reason, where next to nothing does.

    Args:
        grey: the frames in the order of time.
        fps: frames a second; NaN where there is no clock.
        settings: how.

    Raises:
        InputError: the threshold is one a second, and there is no clock.
    """
    height, width = grey.shape[1:]
    scale = min(settings.edge / max(height, width), 1.0) if settings.edge else 1.0
    if len(grey) < 2:
        return _everything(grey, np.zeros((1, 1), np.float32), np.nan, "a single frame has no motion")
    speed = mean_speed(grey, scale)
    threshold = find_threshold(speed, fps / np.hypot(height, width), settings)
    if threshold * scale < STILL and settings.method != "published":
        return _everything(grey, speed, threshold, "nothing moves")
    moving = speed > threshold
    if settings.largest:
        moving = largest_region(moving)
    if moving.sum() < 3:
        return _everything(grey, speed, threshold, "nothing moves as much as the threshold")
    keep, hull = fill_hull(moving, height, width)
    if keep.mean() < SMALLEST:
        return _everything(grey, speed, threshold, f"what moves is {keep.mean():.1%} of the picture")
    return Region(keep, speed, threshold, hull)


def mean_speed(grey: UInt8[np.ndarray, "t h w"], scale: float = 1.0) -> Float32[np.ndarray, "y x"]:
    """Return the time mean of the flow's magnitude between consecutive frames, pixels of the video a frame.

    Args:
        grey: two frames or more.
        scale: the frames are reduced to this share of their height and width first.
    """
    import cv2

    def reduced(frame: np.ndarray) -> np.ndarray:
        return frame if scale == 1 else cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)

    before = reduced(grey[0])
    total = np.zeros(before.shape, np.float32)
    for frame in grey[1:]:  # two at a time: the flow of a whole video is eight times the video
        after = reduced(frame)
        total += cv2.magnitude(*cv2.split(flow(np.stack([before, after]))[0]))
        before = after
    return total / np.float32((len(grey) - 1) * scale)


def find_threshold(speed: Float32[np.ndarray, "y x"], per_second: float, settings: MotionMask) -> float:
    """Return the speed, pixels a frame, above which a pixel moves.

    Otsu's threshold and a quantile go with the video's own speeds, so neither size nor frame rate matters to them. Otsu's is
    of the speeds' square roots: a heart's valves are so much faster than its walls that they alone would be "moving".

    Args:
        speed: time mean of the flow's magnitude, pixels a frame.
        per_second: diagonals a second that one pixel a frame is: frames a second / diagonal.
        settings: how.

    Raises:
        InputError: the threshold is one a second, and there is no clock (`per_second` is NaN).
    """
    if settings.method == "quantile":
        return float(np.quantile(speed, settings.quantile))
    if settings.method == "published":
        return float(settings.threshold or PUBLISHED)
    if settings.threshold is None:
        return otsu(np.sqrt(speed)) ** 2
    if np.isnan(per_second):
        raise InputError(
            "A motion mask with a threshold in diagonals a second needs a clock, and this video is a folder of images. "
            "Leave the threshold out, or use the method quantile."
        )
    return settings.threshold / per_second


def otsu(values: Float[np.ndarray, "y x"], bins: int = 256) -> float:
    """Return the threshold that parts values into two groups with the least variance within them (Otsu 1979).

    The few largest values (1 in 1,000) count as the largest of the rest, so that they do not coarsen the histogram.
    """
    top = float(np.quantile(values, 0.999))
    if top <= 0:
        return 0.0
    counts, edges = np.histogram(np.minimum(values, top), bins, (0, top))
    middles = (edges[:-1] + edges[1:]) / 2
    below, total = np.cumsum(counts), counts.sum()
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below / total - sums) ** 2 / (below * (total - below))
    return float(edges[1 + int(np.nanargmax(np.where(np.isfinite(between), between, -1)))])


def largest_region(moving: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the moving pixels of the largest region; those of nearly touching parts are one (`GAP`)."""
    import cv2

    reach = max(round(GAP * np.hypot(*moving.shape) / 2), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    _, regions = cv2.connectedComponents(cv2.dilate(moving.astype(np.uint8), disc))
    sizes = np.bincount(regions[moving], minlength=2)
    return moving & (regions == sizes.argmax())


def fill_hull(
    moving: Bool[np.ndarray, "y x"], height: int, width: int
) -> tuple[Bool[np.ndarray, "h w"], Int32[np.ndarray, "n 2"]]:
    """Return (pixels inside the convex hull of the moving ones, its corners (x, y)), in a picture of height × width."""
    import cv2

    y, x = np.nonzero(moving)
    scale = np.array([width / moving.shape[1], height / moving.shape[0]])
    points = ((np.stack([x, y], 1) + 0.5) * scale - 0.5).round().astype(np.int32)
    hull = cv2.convexHull(points).reshape(-1, 2)
    filled = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), hull, 1)
    return filled.astype(bool), hull


def _everything(grey: np.ndarray, speed: np.ndarray, threshold: float, reason: str) -> Region:
    height, width = grey.shape[1:]
    hull = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.int32)
    return Region(np.ones((height, width), bool), speed, float(threshold), hull, reason)
