"""A NIfTI sequence (.nii, .nii.gz), as CAMUS has them -> frames in image orientation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from echolung.errors import DecodeError

SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def read_nifti(
    path: Path,
) -> tuple[Float[np.ndarray, " t"], Callable[[Int[np.ndarray, " k"]], UInt8[np.ndarray, "k h w 3"]]]:
    """Return the time of each frame, and what gives frames by their index.

    Arrays are [x, y], [x, y, t] or [x, y, 1, t] (nibabel's order); rows of a frame are y, columns x. Values within 0 to 255
    are rounded and otherwise kept, as CAMUS has them. Others, and fractions that nowhere exceed 1, are stretched so that the
    file's least value is 0 and its greatest 255.

    Times are seconds where the array is [x, y, 1, t] and the header gives a time step in a unit, else NaN: the third
    dimension of [x, y, t] has a spacing by form only.

    Raises:
        DecodeError: another number of dimensions, colours, or values that are not finite.
    """
    import nibabel

    image: Any = nibabel.load(path)
    values = np.asarray(image.dataobj)
    shape = values.shape
    if values.dtype.kind not in "biuf":
        raise DecodeError(f"{path.name} holds values of type {values.dtype}; grey levels are integers or floats.")
    if values.ndim == 4 and 1 in shape[2:]:
        values = values.reshape(*shape[:2], shape[2] * shape[3])
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3:
        raise DecodeError(f"{path.name} has the shape {shape}; a video is (x, y, frames) or (x, y, 1, frames).")
    levels = _levels(values, path.name).transpose(2, 1, 0)
    times = np.full(len(levels), np.nan)
    step = float(image.header.get_zooms()[3]) if len(shape) == 4 else 0.0
    unit = image.header.get_xyzt_units()[1] if len(shape) == 4 else "unknown"
    if step > 0 and unit in SECONDS:
        times = np.arange(len(levels)) * step * SECONDS[unit]
    return times, lambda indices: np.repeat(levels[indices, ..., None], 3, axis=3)


def _levels(values: Shaped[np.ndarray, "x y t"], name: str) -> UInt8[np.ndarray, "x y t"]:
    if values.size == 0:
        return np.zeros(values.shape, np.uint8)
    if not np.isfinite(values).all():
        raise DecodeError(f"{name} holds values that are not finite (NaN or infinite), which are no grey levels.")
    low, high = float(values.min()), float(values.max())
    fractions = values.dtype.kind == "f" and 0 < high <= 1
    if low < 0 or high > 255 or fractions:
        values = (values.astype(np.float64) - low) * (255 / max(high - low, np.finfo(float).tiny))
    return np.round(values).astype(np.uint8)
