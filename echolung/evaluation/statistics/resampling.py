"""Patients drawn with replacement: how often each video counts in each resample."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int

RESAMPLES = 2000
LEVEL = 0.95

ROUNDS = 100
"""How often resamples that cannot be used are drawn anew before they are left as they are."""


def draw(groups: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Int[np.ndarray, "r v"]:
    """Return how often each video counts in each resample: as many patients as there are, drawn with replacement."""
    names, member = np.unique(groups, return_inverse=True)
    return _counts(np.random.default_rng(seed), resamples, len(names))[:, member]


def draw_whole(
    groups: np.ndarray,
    unusable: Callable[[Int[np.ndarray, "r v"]], Bool[np.ndarray, " r"]],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[Int[np.ndarray, "r v"], int]:
    """Return (weights, redrawn): as `draw`, but resamples that are `unusable` are drawn anew, and counted.

    Args:
        groups: the patient of each video.
        unusable: of weights [r, v], which resamples lack what a metric needs (`weighted.lost_classes`).
        seed: of the resampling.
        resamples: how many.

    After `ROUNDS` rounds what is still unusable stays so; metrics of it are NaN.
    """
    names, member = np.unique(groups, return_inverse=True)
    random = np.random.default_rng(seed)
    weights, redrawn = _counts(random, resamples, len(names))[:, member], 0
    for _ in range(ROUNDS):
        bad = np.flatnonzero(unusable(weights))
        if not len(bad):
            break
        redrawn += len(bad)
        weights[bad] = _counts(random, len(bad), len(names))[:, member]
    return weights, redrawn


def _counts(random: np.random.Generator, resamples: int, patients: int) -> Int[np.ndarray, "r g"]:
    drawn = random.integers(patients, size=(resamples, patients))
    places = (np.arange(resamples)[:, None] * patients + drawn).ravel()
    return np.bincount(places, minlength=resamples * patients).reshape(resamples, patients)
