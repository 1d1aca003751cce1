"""Dense optical flow between the consecutive frames of a clip: how far each pixel moves, in pixels a frame."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float32, UInt8

FARNEBACK = {
    "pyr_scale": 0.5,
    "levels": 3,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.2,
    "flags": 0,
}
"""The settings of the published two-stream network and motion mask (dannilin2601/cardiac_classification)."""


def flow(frames: UInt8[np.ndarray, "t h w"]) -> Float32[np.ndarray, "t-1 h w 2"]:
    """Return Farnebäck's flow of grey frames from each to the next: (right, down) in pixels; of one frame, none.

    Source: G. Farnebäck, Two-frame motion estimation based on polynomial expansion (SCIA 2003), as OpenCV does it.
    """
    import cv2

    fields = [
        cv2.calcOpticalFlowFarneback(earlier, later, None, **FARNEBACK)  # type: ignore[call-overload]
        for earlier, later in pairwise(frames)
    ]
    return np.stack(fields) if fields else np.zeros((0, *frames.shape[1:], 2), np.float32)
