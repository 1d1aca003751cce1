"""Metrics of many weightings of the same predictions at once: the inner loop of every resampling.

Everything is of all predictions pooled but AUROC, which is computed within each fold and averaged over the folds in which
it is defined: scores of different folds' probes are on different scales.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Num

Weights = Num[np.ndarray, "r v"]

SMALLER_IS_BETTER = ("brier", "mae", "rmse")


def measure(
    name: str, truth: np.ndarray, scores: Float[np.ndarray, "v c"], folds: np.ndarray, weights: Weights
) -> Float[np.ndarray, " r"]:
    """Return a metric for each row of weights; NaN where it is not defined.

    Args:
        name: one of `names(...)`.
        truth: class indices (int), or numbers (float).
        scores: probabilities [v, classes], or predictions [v, 1].
        folds: which fold's probe scored a video: AUROC compares scores within a fold only.
        weights: how often each video counts.
    """
    if name in NUMBERS:
        return NUMBERS[name](truth, scores[:, 0], weights)
    if name == "auroc":
        return mean_auroc(truth, scores, folds, weights)
    return CLASSES[name](truth, scores, weights)


def names(regression: bool, ordinal: bool = False) -> tuple[str, ...]:
    """Return the metrics that `measure` knows for a kind of task."""
    if regression:
        return tuple(NUMBERS)
    return ("auroc", *(name for name in CLASSES if ordinal or name != "qwk"))


def value(name: str, truth: np.ndarray, scores: Float[np.ndarray, "v c"], folds: np.ndarray) -> float:
    """Return a metric of the predictions as they are."""
    return float(measure(name, truth, scores, folds, np.ones((1, len(truth))))[0])


def lost_classes(truth: np.ndarray, folds: np.ndarray, classes: int) -> Callable[[Weights], Bool[np.ndarray, " r"]]:
    """Return what tells of weights [r, v] which rows have lost a class.

    A row has lost one where a class that has videos keeps none at all, or where no fold is left with every class though
    some fold has every class. A fold alone may lose one: its AUROC is then left out of that row's mean, just as a fold
    without a class is left out of the mean that is reported.
    """
    order = np.unique(folds)
    cells = (folds[:, None, None] == order[:, None]) & (truth[:, None, None] == np.arange(classes))  # [v, f, c]
    there = cells.any(0)
    whole = there.all(1)

    def lost(weights: Weights) -> Bool[np.ndarray, " r"]:
        counts = _dot(weights, cells.reshape(len(truth), -1)).reshape(len(weights), *there.shape)
        kept: np.ndarray = np.greater(counts, 0)
        lost_one = np.asarray(~kept[:, :, there.any(0)].any(1)).any(1)
        no_fold = np.asarray(~kept[:, whole].all(2)).all(1)
        return np.asarray(lost_one | no_fold if whole.any() else lost_one)

    return lost


def mean_auroc(
    truth: np.ndarray, p: Float[np.ndarray, "v c"], folds: np.ndarray, weights: Weights
) -> Float[np.ndarray, " r"]:
    """Return the AUROC of each fold, averaged over those in which it is defined."""
    total, defined = np.zeros(len(weights)), np.zeros(len(weights))
    for fold in np.unique(folds):
        own = folds == fold
        if len(np.unique(truth[own])) == p.shape[1]:
            areas = weighted_auroc(truth[own], p[own], weights[:, own])
            total += np.nan_to_num(areas)
            defined += ~np.isnan(areas)
    with np.errstate(invalid="ignore"):
        return total / defined


def weighted_auroc(truth: np.ndarray, p: Float[np.ndarray, "v c"], weights: Weights) -> Float[np.ndarray, " r"]:
    """Return the (one-against-rest, if more than two classes) AUROC: the weighted share of pairs in order."""
    areas = []
    weights = np.asarray(weights, float)
    for c in range(1, 2) if p.shape[1] == 2 else range(p.shape[1]):
        order = np.argsort(p[:, c], kind="stable")
        _, starts = np.unique(p[order, c], return_index=True)  # equal scores count as one step, half in order
        sides = (truth[order] == c, truth[order] != c)
        positive, negative = (np.add.reduceat(weights[:, order] * side, starts, axis=1) for side in sides)
        below = negative.cumsum(1) - 0.5 * negative
        with np.errstate(invalid="ignore"):
            areas.append((positive * below).sum(1) / (positive.sum(1) * negative.sum(1)))
    return np.mean(areas, axis=0)


def _dot(weights: Weights, values: np.ndarray) -> np.ndarray:
    return np.asarray(weights, float) @ values.astype(float)  # floats: integers have no fast product


def _mean(weights: Weights, values: np.ndarray) -> Float[np.ndarray, " r"]:
    return _dot(weights, values) / weights.sum(1)


def _balanced_accuracy(truth: np.ndarray, p: np.ndarray, weights: Weights) -> Float[np.ndarray, " r"]:
    own = truth[:, None] == np.unique(truth)
    with np.errstate(invalid="ignore"):
        return (_dot(weights, own & (p.argmax(1) == truth)[:, None]) / _dot(weights, own)).mean(1)


def _weighted_kappa(truth: np.ndarray, p: np.ndarray, weights: Weights) -> Float[np.ndarray, " r"]:
    """Return the quadratic-weighted kappa, 1 − Σ w·observed / Σ w·expected; 0 where chance alone is certain."""
    told, steps = p.argmax(1), np.arange(p.shape[1])
    rows, columns = (_dot(weights, labels[:, None] == steps) for labels in (truth, told))
    expected = ((rows @ (steps[:, None] - steps) ** 2) * columns).sum(1) / weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - _dot(weights, (told - truth) ** 2) / expected, 0.0)


def _r2(truth: np.ndarray, predicted: np.ndarray, weights: Weights) -> Float[np.ndarray, " r"]:
    centred = truth - truth.mean()
    spread = _dot(weights, centred**2) - _dot(weights, centred) ** 2 / weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(
            spread > 1e-12 * (centred**2).sum(), 1 - _dot(weights, (predicted - truth) ** 2) / spread, np.nan
        )


def _pearson(truth: np.ndarray, predicted: np.ndarray, weights: Weights) -> Float[np.ndarray, " r"]:
    """Return Pearson's r; NaN where truth or prediction is the same for all."""
    x, y = truth - truth.mean(), predicted - predicted.mean()
    total = weights.sum(1)
    mean_x, mean_y = _dot(weights, x) / total, _dot(weights, y) / total
    spread = (_dot(weights, x**2) / total - mean_x**2) * (_dot(weights, y**2) / total - mean_y**2)
    varied = (spread > 1e-20 * (x**2).mean() * (y**2).mean()) & bool(np.ptp(truth) > 0 and np.ptp(predicted) > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(varied, (_dot(weights, x * y) / total - mean_x * mean_y) / np.sqrt(spread), np.nan)


CLASSES: dict[str, Callable[[np.ndarray, np.ndarray, Weights], np.ndarray]] = {
    "accuracy": lambda truth, p, weights: _mean(weights, p.argmax(1) == truth),
    "balanced_accuracy": _balanced_accuracy,
    "brier": lambda truth, p, weights: _mean(weights, ((p - np.eye(p.shape[1])[truth]) ** 2).sum(1)),
    "qwk": _weighted_kappa,
}

NUMBERS: dict[str, Callable[[np.ndarray, np.ndarray, Weights], np.ndarray]] = {
    "mae": lambda truth, predicted, weights: _mean(weights, np.abs(predicted - truth)),
    "rmse": lambda truth, predicted, weights: np.sqrt(_mean(weights, (predicted - truth) ** 2)),
    "r2": _r2,
    "r_squared": lambda truth, predicted, weights: _pearson(truth, predicted, weights) ** 2,
    "pearson": _pearson,
}
