"""What is cut out of every video: how many windows, of which frames, at what size."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from echolung.clips.crop import parse_box
from echolung.clips.motion_mask import MotionMask
from echolung.errors import InputError

PADS = ("repeat", "loop", "black", "grey")

CHOICES = {"crop": ("centre", "whole"), "pad": PADS, "window": ("even", "first")}

LATER = ("pad", "window", "starts", "mask", "box")
"""Fields that came later: left out of a key where they are as they always were, so that older stores keep theirs."""


@dataclass(frozen=True)
class ClipPlan:
    """The windows and the crop that every video of a store goes through.

    Attributes:
        segments: windows a video, evenly spaced from its first frame to its last.
        frames: frames a window.
        stride: source frames from one frame of a window to the next; ignored where `fps` is given.
        fps: frames a second within a window: the nearest frame in time is taken. None: count source frames.
        size: height and width of the crop, pixels.
        views: random windows and crops beside the fixed one, for training; seeded by the video's id.
        crop: how the square is taken. "centre": the central size/int(size·256/224) of the short side. "whole": all of the
            central square; a random view shifts it over black, by up to 6/112 of its side (CoReEcho).
        pad: what a window shows past the video's end. "repeat": the last frame. "loop": the video from its start.
            "black": zeros before normalising (CoReEcho). "grey": the mean grey, zeros after normalising (EchoNet-Dynamic,
            EchoCoTr).
        window: where fixed windows begin. "even": see `segments`. "first": the only one begins with the video, and so do
            its random views.
        starts: digest of the file that says where the fixed windows of each video begin; "": nothing does.
        mask: how the moving region is found outside which every frame is black; None: nothing is masked.
        box: which part of the picture is looked at, before anything else: "X,Y,W,H" in pixels; "": of DICOM files their
            tissue region, of other videos all; "none": all.
    """

    segments: int = 2
    frames: int = 16
    stride: int = 1
    fps: float | None = None
    size: int = 224
    views: int = 0
    crop: str = "centre"
    pad: str = "repeat"
    window: str = "even"
    starts: str = ""
    mask: MotionMask | None = None
    box: str = ""

    def __post_init__(self) -> None:
        for name in ("segments", "frames", "stride", "size"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is {getattr(self, name)}; it must be at least 1.")
        if self.views < 0:
            raise InputError(f"--views is {self.views}; it must be 0 or more.")
        if self.fps is not None and not 0 < self.fps < 1000:
            raise InputError(f"--fps is {self.fps}; it must be above 0 and below 1000 frames a second.")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                option = "square" if name == "crop" else name
                raise InputError(f"--{option} is {getattr(self, name)!r}; it must be one of {', '.join(known)}.")
        parse_box(self.box)
        if self.window == "first" and self.segments != 1:
            raise InputError(f"--window first is one window a video, not {self.segments}: set --segments 1.")

    @property
    def clips(self) -> int:
        """Clips a video: segments × (1 fixed view + random views)."""
        return self.segments * (1 + self.views)

    def slots(self) -> list[tuple[int, int]]:
        """Return (segment, view) of each clip of a video in the order of its rows; view 0 is the fixed one."""
        return [(segment, view) for segment in range(self.segments) for view in range(1 + self.views)]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values, for a store's key; `stride` is left out where `fps` overrules it."""
        fields = asdict(self)
        fields.pop("stride" if self.fps is not None else "fps")
        return {name: value for name, value in fields.items() if name not in LATER or value != getattr(ClipPlan, name)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "ClipPlan":
        """Rebuild a plan from `to_json`."""
        mask = fields.get("mask")
        return cls(**{**fields, "mask": MotionMask(**mask) if mask else None})
