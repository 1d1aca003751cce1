"""Clips that show the same scan: by small pictures of their frames, and by their mean tokens."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

CELLS = 14
"""Cells a side that a frame is averaged into."""

ALIKE = 0.9
"""Cosine from which two are called alike. Of seven such pairs of POCUS, of different patients by its table, five show one
scan and two the same view of two volunteers; COVID-BLUES has none. Other pairs seldom reach 0.87."""

NEARLY = 0.75
"""Cosine of mean pictures from which frames are compared one by one."""

COMPONENTS = 16
"""Principal components that tokens are compared in."""

FEWEST = 8
"""Videos below which what all have in common cannot be told from what two have."""


@dataclass(frozen=True)
class Pair:
    """Two videos that look like one, and how much so (cosine; 1 is equal)."""

    first: str
    second: str
    alike: float


def alike_pictures(pictures: Mapping[str, UInt8[np.ndarray, "f h w"]]) -> list[Pair]:
    """Return the pairs of videos whose frames look alike, the most alike first.

    A frame becomes 14 × 14 means, standardised, minus what the frames of all videos have in common: the fan of a convex
    probe is the same in every clip, and hashes of whole frames (dHash) take half a dataset for copies. Every frame is
    compared with its likest in the other video, so a shift in time does not hide a copy.
    """
    if len(pictures) < FEWEST:
        return []
    names = list(pictures)
    frames = [_cells(pictures[name]) for name in names]
    common = np.mean([cells.mean(0) for cells in frames], 0)
    frames = [_unit(cells - common) for cells in frames]
    whole = _unit(np.stack([cells.mean(0) for cells in frames]))
    pairs = []
    for i, j, _ in _above(whole, NEARLY):
        cosines = frames[i] @ frames[j].T
        if (alike := float(min(np.median(cosines.max(0)), np.median(cosines.max(1))))) >= ALIKE:
            pairs.append(Pair(names[i], names[j], alike))
    return sorted(pairs, key=lambda pair: -pair.alike)


def alike_tokens(tokens: Mapping[str, Float32[np.ndarray, " d"]]) -> list[Pair]:
    """Return the pairs of videos whose mean tokens are alike, the most alike first.

    Tokens of one encoder share most of their direction, so plain cosines are all near 1. They are compared in their first
    16 principal components (at most one for every four videos), each scaled to unit variance.
    """
    if len(tokens) < 4 * FEWEST:
        return []
    names = list(tokens)
    values = np.stack([tokens[name] for name in names]).astype(np.float64)
    left, sizes, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    kept = min(COMPONENTS, len(names) // 4, int((sizes > 1e-6 * sizes[0]).sum()))
    if kept < FEWEST:
        return []
    pairs = [Pair(names[i], names[j], alike) for i, j, alike in _above(_unit(left[:, :kept]), ALIKE)]
    return sorted(pairs, key=lambda pair: -pair.alike)


def _cells(pictures: UInt8[np.ndarray, "f h w"]) -> Float32[np.ndarray, "f cells"]:
    f, h, w = pictures.shape
    cells = pictures.reshape(f, CELLS, h // CELLS, CELLS, w // CELLS).mean((2, 4), dtype=np.float32).reshape(f, -1)
    cells -= cells.mean(1, keepdims=True)
    return cells / (cells.std(1, keepdims=True) + 1)


def _unit(values: np.ndarray) -> np.ndarray:
    return values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-6)


def _above(values: np.ndarray, least: float) -> Iterator[tuple[int, int, float]]:
    """Yield (i, j, cosine) for i < j of all rows whose cosine is at least that; a thousand rows at a time."""
    for start in range(0, len(values), 1000):
        cosines = values[start : start + 1000] @ values.T
        for i, j in np.argwhere(cosines >= least).tolist():
            if start + i < j:
                yield start + i, j, float(cosines[i, j])
