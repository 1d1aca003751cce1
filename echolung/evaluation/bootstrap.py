"""Intervals by resampling patients from saved out-of-fold predictions.

They show how much the score owes to which patients were scored. They leave out how much the probe owes to which patients
it was trained on, so they are, if anything, too short.
"""

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2000
LEVEL = 0.95


def resample(groups: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Int[np.ndarray, "r v"]:
    """Return how often each video counts in each resample: as many patients as there are, drawn with replacement."""
    _, member = np.unique(groups, return_inverse=True)
    count = member.max() + 1
    random = np.random.default_rng(seed)
    drawn = random.integers(count, size=(resamples, count))
    weights = np.zeros((resamples, count), np.int64)
    np.add.at(weights, (np.arange(resamples)[:, None], drawn), 1)
    return weights[:, member]


def intervals(
    truth: np.ndarray, scores: Float[np.ndarray, "v c"], folds: Int[np.ndarray, " v"], groups: np.ndarray, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the 95 % percentile interval of each main metric.

    Args:
        truth: class indices (int), or numbers (float).
        scores: probabilities [v, classes], or predictions [v, 1].
        folds: which fold's probe scored a video: rank metrics compare scores within a fold only.
        groups: the patient of each video.
        seed: of the resampling.
    """
    weights = resample(groups, seed)
    if truth.dtype.kind == "f":
        error = scores[:, 0] - truth
        total = weights.sum(1)
        values = {"mae": weights @ np.abs(error) / total, "rmse": np.sqrt(weights @ error**2 / total)}
    else:
        values = _classification(truth, scores, folds, weights)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return {name: tuple(np.nanquantile(v, tails).tolist()) for name, v in values.items() if not np.isnan(v).all()}


def _classification(
    truth: np.ndarray, p: np.ndarray, folds: np.ndarray, weights: Int[np.ndarray, "r v"]
) -> dict[str, Float[np.ndarray, " r"]]:
    classes = p.shape[1]
    right = p.argmax(1) == truth
    with np.errstate(invalid="ignore"):
        recalls = np.stack(
            [(weights[:, truth == c] @ right[truth == c]) / weights[:, truth == c].sum(1) for c in range(classes)]
        )
        by_fold = [
            weighted_auroc(truth[folds == fold], p[folds == fold], weights[:, folds == fold])
            for fold in np.unique(folds)
            if len(np.unique(truth[folds == fold])) == classes
        ]
    return {
        "accuracy": (weights @ right) / weights.sum(1),
        # A resample that lost a class has no balanced accuracy of the same meaning.
        "balanced_accuracy": recalls.mean(0),
        "auroc": _mean_of_defined(np.stack(by_fold)) if by_fold else np.full(len(weights), np.nan),
    }


def weighted_auroc(
    truth: Int[np.ndarray, " v"], p: Float[np.ndarray, "v c"], weights: Int[np.ndarray, "r v"]
) -> Float[np.ndarray, " r"]:
    """Return for each resample the (one-against-rest, if more than two classes) AUROC: the weighted share of pairs in order."""
    areas = []
    for c in range(1, 2) if p.shape[1] == 2 else range(p.shape[1]):
        order = np.argsort(p[:, c], kind="stable")
        _, starts = np.unique(p[order, c], return_index=True)  # equal scores count as one step, half in order
        sides = (truth[order] == c, truth[order] != c)
        positive, negative = (np.add.reduceat(weights[:, order] * side, starts, axis=1) for side in sides)
        below = negative.cumsum(1) - 0.5 * negative
        areas.append((positive * below).sum(1) / (positive.sum(1) * negative.sum(1)))
    return np.mean(areas, axis=0)


def _mean_of_defined(values: Float[np.ndarray, "f r"]) -> Float[np.ndarray, " r"]:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(0) / known.sum(0)
