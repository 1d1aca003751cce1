"""A video read by PyAV, from a file or from the bytes that a DICOM file wraps."""

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from echolung.errors import DecodeError


def read_av(
    source: str | bytes, name: str
) -> tuple[Float[np.ndarray, " t"], Callable[[Int[np.ndarray, " k"]], UInt8[np.ndarray, "k h w 3"]]]:
    """Return the time of every frame in seconds, and what gives frames by ascending index.

    Args:
        source: a file's path, or the content of one.
        name: what to call it in an error.

    Raises:
        DecodeError: it has no video stream.
    """
    import av

    def opened() -> Any:
        return av.open(BytesIO(source) if isinstance(source, bytes) else source)

    def frames() -> Iterator[Any]:
        with opened() as container:
            if not container.streams.video:
                raise DecodeError(f"{name} has no video stream.")
            container.streams.video[0].thread_type = "SLICE"  # frame threads hold frames back when a file breaks off
            yield from container.decode(video=0)

    def times() -> Float[np.ndarray, " t"]:
        with opened() as container:
            rate = float(container.streams.video[0].average_rate or 25) if container.streams.video else 25.0
        stamps = [frame.time for frame in frames()]
        if any(stamp is None for stamp in stamps):
            return np.arange(len(stamps)) / rate
        return np.asarray(stamps, np.float64)

    def frames_at(indices: Int[np.ndarray, " k"]) -> UInt8[np.ndarray, "k h w 3"]:
        wanted, kept = set(indices.tolist()), []
        size: tuple[int, int] | None = None
        for index, frame in enumerate(frames()):
            if index in wanted:
                size = size or (frame.width, frame.height)
                kept.append(frame.to_ndarray(format="rgb24", width=size[0], height=size[1]))
            if index >= indices[-1]:
                break
        return np.stack(kept)

    # The headers' frame count is wrong for MPEG and edit-list files, so the file is decoded once to count and once to
    # keep: the price of holding a long video's chosen frames instead of all.
    return times(), frames_at
