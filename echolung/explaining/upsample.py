"""Cells of a feature map -> a value for each pixel of each frame."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32


def upsample(
    cells: Float[np.ndarray, "a b c"], pitch: Sequence[int | float], shape: Sequence[int]
) -> Float32[np.ndarray, "t h w"]:
    """Return a map spread over a clip, trilinear between the centres of cells; beyond the outer centres it goes on as there.

    Args:
        cells: values.
        pitch: frames, rows and columns from one cell to the next; the first cell begins with the clip.
        shape: (t, h, w) of the clip.
    """
    t, h, w = (_linear(*axis) for axis in zip(shape, cells.shape, pitch, strict=True))
    return np.einsum("ta,hb,wc,abc->thw", t, h, w, cells.astype(np.float64), optimize=True).astype(np.float32)


def _linear(size: int, count: int, pitch: int | float) -> Float[np.ndarray, "size count"]:
    """Return the weights with which cells make up the pixels of one axis."""
    place = np.clip((np.arange(size) + 0.5) / pitch - 0.5, 0, count - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count)))
