"""Memory that worker processes write clips into: through a pipe, many small frames would cost more than to read them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

SHARED_FILES = Path("/dev/shm")
"""Where Linux keeps shared memory; a container may have little of it, and going beyond ends the process."""

Clip = UInt8[np.ndarray, "_ _ _"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """A stretch of shared memory that one job may write to: the memory's name, first byte and bytes."""

    name: str
    begin: int
    size: int

    def put(self, clips: Sequence[Clip | None]) -> list[Shape | None]:
        """Write clips one after the other, in a worker, and return their shapes (None where there is no clip)."""
        begin, memory = self.begin, _attach(self.name)
        for clip in clips:
            if clip is not None:
                np.ndarray(clip.shape, np.uint8, memory.buf, begin)[:] = clip
                begin += clip.nbytes
        return [None if clip is None else clip.shape for clip in clips]


@lru_cache(maxsize=1)
def _attach(name: str) -> SharedMemory:
    return SharedMemory(name)


class SharedClips:
    """Places that jobs take turns with."""

    def __init__(self, places: int, size: int) -> None:
        self.places, self.size = places, size
        self.memory = SharedMemory(create=True, size=places * size)

    def place(self, job: int) -> Place:
        """Return the place of a job; `places` jobs later it is another's."""
        return Place(self.memory.name, job % self.places * self.size, self.size)

    def get(self, place: Place, shapes: Sequence[Shape | None]) -> list[Clip | None]:
        """Return the clips that a worker put at a place: views, to be copied before its next turn and before `close`."""
        begin, clips = place.begin, []
        for shape in shapes:
            clips.append(None if shape is None else np.ndarray(shape, np.uint8, self.memory.buf, begin))
            begin += 0 if shape is None else int(np.prod(shape))
        return clips

    def close(self) -> None:
        """Give the memory back."""
        self.memory.unlink()
        self.memory.close()


def has_room(size: int) -> bool:
    """Return whether there is so much shared memory to be had."""
    return not SHARED_FILES.is_dir() or shutil.disk_usage(SHARED_FILES).free > size
