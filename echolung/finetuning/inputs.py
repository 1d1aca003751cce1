"""What the learnt stages take, clip for clip: computed once and kept in memory, or anew each time from the frames."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from echolung.encoders import normalise
from echolung.finetuning.cut import Cut, map_tensors

BATCH = 16
"""Clips that the frozen stages are computed of at once."""


@dataclass(eq=False)
class Inputs:
    """What the learnt stages take.

    Attributes:
        cut: the encoder.
        clips: the frames of all videos.
        kept: outputs of the frozen stages of all clips, each tensor with a clip a row; None: computed anew.
    """

    cut: Cut
    clips: UInt8[np.ndarray, "v views segments t s s 3"]
    kept: Any = None

    @property
    def views(self) -> int:
        """Views a video, the fixed one among them."""
        return self.clips.shape[1]

    @property
    def segments(self) -> int:
        """Clips of one view of a video."""
        return self.clips.shape[2]

    def of(self, videos: Int[np.ndarray, " b"], shown: Int[np.ndarray, " b"] | None) -> Any:
        """Return what the learnt stages take of some videos, their segments one after the other, on the encoder's device.

        Args:
            videos: which.
            shown: which view of each; None: the fixed one.
        """
        views = np.zeros(len(videos), np.int64) if shown is None else shown
        if self.kept is None:
            return self._compute(self.clips[videos, views])
        first = (videos * self.views + views) * self.segments
        rows = torch.from_numpy((first[:, None] + np.arange(self.segments)).reshape(-1))
        return map_tensors(self.kept, lambda tensor: tensor[rows].to(self.cut.device))

    def keep(self, memory: int | float) -> bool:
        """Compute what the frozen stages make of every clip, where that fits into `memory` bytes; say whether it did."""
        if not self.cut.frozen or self.bytes_a_clip() * self.clips[..., 0, 0, 0, 0].size > memory:
            return False
        flat = self.clips.reshape(-1, *self.clips.shape[3:])
        kept: list[Tensor] = []
        for start in range(0, len(flat), BATCH):
            value = self._compute(flat[start : start + BATCH])
            kept = kept or _tensors(map_tensors(value, lambda t: t.new_empty((len(flat), *t.shape[1:]), device="cpu")))
            for buffer, tensor in zip(kept, _tensors(value), strict=True):
                buffer[start : start + len(tensor)] = tensor.cpu()
        filled = iter(kept)
        self.kept = map_tensors(value, lambda tensor: next(filled))
        return True

    def bytes_a_clip(self) -> int:
        """Return what the output of the frozen stages for one clip takes."""
        value = self._compute(self.clips[:1, 0, :1])
        return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(value))

    def _compute(self, clips: UInt8[np.ndarray, "*b t s s 3"]) -> Any:
        flat = np.ascontiguousarray(clips.reshape(-1, *clips.shape[-4:]))
        value = self.cut.below(normalise(torch.from_numpy(flat).to(self.cut.device)))
        # Dropout above draws in the order of memory, which must be that of what is kept.
        return map_tensors(value, lambda tensor: tensor.contiguous())


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def take(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, take)
    return found
