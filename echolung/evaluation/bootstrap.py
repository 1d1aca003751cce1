"""Intervals by resampling patients from saved out-of-fold predictions.

They show how much the score owes to which patients were scored. They leave out how much the probe owes to which patients
it was trained on, so they are, if anything, too short.
"""

import numpy as np
from jaxtyping import Float, Int

from echolung.evaluation.statistics import weighted
from echolung.evaluation.statistics.resampling import LEVEL, RESAMPLES, draw, draw_whole

__all__ = ["LEVEL", "RESAMPLES", "draw_predictions", "intervals", "percentiles", "resample"]

resample = draw
"""How often each video counts in each resample; `statistics.resampling.draw` by the name that it has here."""


def intervals(
    truth: np.ndarray,
    scores: Float[np.ndarray, "v c"],
    folds: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
    ordinal: bool = False,
    resamples: int = RESAMPLES,
) -> tuple[dict[str, tuple[float, float]], int]:
    """Return the 95 % percentile interval of each metric, and how many resamples had lost a class and were redrawn.

    Args:
        truth: class indices (int), or numbers (float).
        scores: probabilities [v, classes], or predictions [v, 1].
        folds: which fold's probe scored a video: rank metrics compare scores within a fold only.
        groups: the patient of each video.
        seed: of the resampling.
        ordinal: classes are steps of a score.
        resamples: how many.
    """
    weights, redrawn = draw_predictions(truth, scores, folds, groups, seed, resamples)
    weights = weights.astype(float)  # once, not in every metric
    names = weighted.names(truth.dtype.kind == "f", ordinal)
    found = {name: percentiles(weighted.measure(name, truth, scores, folds, weights)) for name in names}
    return {name: ends for name, ends in found.items() if not np.isnan(ends).any()}, redrawn


def draw_predictions(
    truth: np.ndarray,
    scores: Float[np.ndarray, "v c"],
    folds: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[Int[np.ndarray, "r v"], int]:
    """Return (weights, redrawn) of resampled patients; resamples that lost a class (`weighted.lost_classes`) are redrawn."""
    if truth.dtype.kind == "f":
        return draw(groups, seed, resamples), 0
    return draw_whole(groups, weighted.lost_classes(truth, folds, scores.shape[1]), seed, resamples)


def percentiles(values: Float[np.ndarray, " r"]) -> tuple[float, float]:
    """Return the 95 % percentile interval of resampled values; NaN where all are."""
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return low, high
