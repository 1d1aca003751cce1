"""The clips of one encoding batch while their videos come in."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, UInt8

from echolung.cache.layout import FACTS, PREVIEW_SHAPE, Block
from echolung.clips.plan import ClipPlan
from echolung.clips.workers import PreparedVideo
from echolung.errors import DecodeError


@dataclass
class Batch:
    """Clips of consecutive rows from `start` on; black frames where one cannot be read, or need not be."""

    start: int
    clips: UInt8[np.ndarray, "b t s s 3"]
    frames: Int[np.ndarray, "b t"]
    previews: UInt8[np.ndarray, "b 8 112 112"]
    digests: list[str]
    sizes: list[int]
    mtimes: list[int]
    errors: list[str]
    video: Float32[np.ndarray, "b 4"]

    @classmethod
    def empty(cls, start: int, size: int, plan: ClipPlan) -> "Batch":
        """Return a batch of `size` black clips."""
        t, s = plan.frames, plan.size
        return cls(
            start,
            np.zeros((size, t, s, s, 3), np.uint8),
            np.full((size, t), -1),
            np.zeros((size, *PREVIEW_SHAPE), np.uint8),
            *([""] * size, [-1] * size, [-1] * size, [""] * size),
            np.full((size, len(FACTS)), np.nan, np.float32),
        )

    def put(self, row: int, slot: int, result: PreparedVideo | DecodeError, size: int, mtime: int) -> None:
        """Take the clip `slot` of a video as the store's `row`, or the reason why there is none."""
        place = row - self.start
        self.sizes[place], self.mtimes[place] = size, mtime
        if isinstance(result, DecodeError):
            self.errors[place] = str(result)
            return
        self.clips[place] = result.clips[slot]
        self.frames[place] = result.frames[slot]
        self.previews[place] = result.previews[slot]
        self.digests[place] = result.digest
        self.video[place] = result.video

    def encoded(self, tokens: Float32[np.ndarray, "b n d"]) -> Block:
        """Return what the store takes."""
        source = (self.digests, self.sizes, self.mtimes, self.errors, self.video)
        return Block(self.start, tokens, self.frames, self.previews, *source)
