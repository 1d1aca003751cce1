"""Predictions -> numbers. Rank metrics of a fold that lacks a class are NaN; nobody invents them."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

SPECIFICITY = 0.9
"""At which specificity `sensitivity_at_90` is read off the ROC curve."""

ECE_BINS = 10

LABELS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced acc.",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "auprc_macro": "AUPRC, both classes",
    "kappa": "kappa",
    "mcc": "MCC",
    "f1": "F1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "sensitivity_at_90": "sensitivity at 90 % specificity",
    "ece": "ECE",
    "brier": "Brier score",
    "log_loss": "log-loss",
    "qwk": "weighted kappa",
    "score_mae": "MAE of the score",
    "within_one": "within one",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R² (1 − SSE/SST)",
    "r_squared": "r² (Pearson)",
    "pearson": "Pearson r",
}
"""Metric -> what tables call it."""


MAIN = {"classification": "balanced_accuracy", "regression": "mae"}
"""Kind of task -> the metric that heads pages, sorts tables and is permuted: accuracy flatters whoever knows the frequencies."""


def classification(
    truth: Int[np.ndarray, " v"], p: Float[np.ndarray, "v c"], ordinal: bool = False
) -> dict[str, float]:
    """Return every classification metric of some videos.

    Args:
        truth: class index of each video.
        p: probabilities.
        ordinal: classes are steps of a score: also quadratic-weighted kappa, MAE of the score and within-one accuracy.

    F1, sensitivity, specificity and precision are of the last class where there are two, else means over the classes present;
    precision is 0 where nothing is called by the class, as F1 is. `auprc` is the average precision of the last class of two;
    `auprc_macro` the mean over both, which some papers print under the same name: at 22 % prevalence .88 instead of .79. ECE
    has ten equal bins of the top probability (Guo et al. 2017). Balanced accuracy is the mean recall of the classes present.
    """
    classes, predicted = p.shape[1], p.argmax(1)
    table = np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes).astype(float)
    rates = _rates(table)
    present = table.sum(1) > 0
    positive = np.array([False, True]) if classes == 2 else present
    values = {
        "accuracy": float((predicted == truth).mean()),
        "balanced_accuracy": float(rates["sensitivity"][present].mean()),
        "auroc": auroc(truth, p),
        "auprc": _one_against_rest(truth, p, _average_precision),
        "kappa": _kappa(table),
        "mcc": _matthews(table),
        **{name: float(rates[name][positive].mean()) for name in ("f1", "sensitivity", "specificity", "precision")},
        "ece": calibration_error(truth, p),
        "brier": brier(truth, p),
        "log_loss": log_loss(truth, p),
    }
    if classes == 2:
        values["sensitivity_at_90"] = _sensitivity_at(truth, p[:, 1])
        values["auprc_macro"] = _each_against_rest(truth, p, _average_precision)
    if ordinal:
        off = np.abs(predicted - truth)
        values |= {
            "qwk": _kappa(table, quadratic=True),
            "score_mae": float(off.mean()),
            "within_one": float((off <= 1).mean()),
        }
    return values


def regression(truth: Float[np.ndarray, " v"], predicted: Float[np.ndarray, " v"]) -> dict[str, float]:
    """Return MAE, RMSE, both quantities that papers call R², and Pearson's r."""
    error = predicted - truth
    total = ((truth - truth.mean()) ** 2).sum()
    varied = np.ptp(truth) > 0 and np.ptp(predicted) > 0
    pearson = float(np.corrcoef(truth, predicted)[0, 1]) if varied else float("nan")
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": float(1 - (error**2).sum() / total) if total > 0 else float("nan"),
        "r_squared": pearson**2,
        "pearson": pearson,
    }


def auroc(truth: Int[np.ndarray, " v"], p: Float[np.ndarray, "v c"]) -> float:
    """Return the area under the ROC curve: of the last class for two, the mean of one-against-rest for more."""
    return _one_against_rest(truth, p, _area)


def calibration_error(truth: Int[np.ndarray, " v"], p: Float[np.ndarray, "v c"]) -> float:
    """Return the expected calibration error: Σ bins (n_b/n) |accuracy_b − confidence_b|."""
    confidence, right = p.max(1), p.argmax(1) == truth
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [abs(right[bins == b].sum() - confidence[bins == b].sum()) for b in np.unique(bins)]
    return float(sum(gaps) / len(truth))


def brier(truth: Int[np.ndarray, " v"], p: Float[np.ndarray, "v c"]) -> float:
    """Return the mean over videos of Σ classes (p − truth)² (Brier 1950): 0 to 2, for two classes twice what some print."""
    return float(((p - np.eye(p.shape[1])[truth]) ** 2).sum(1).mean())


def log_loss(truth: Int[np.ndarray, " v"], p: Float[np.ndarray, "v c"]) -> float:
    """Return the mean of −ln p of the true class, p no less than 1e-15."""
    return float(-np.log(np.clip(p[np.arange(len(truth)), truth], 1e-15, None)).mean())


def _one_against_rest(
    truth: np.ndarray, p: np.ndarray, score: Callable[[Bool[np.ndarray, " v"], Float[np.ndarray, " v"]], float]
) -> float:
    if p.shape[1] != 2:
        return _each_against_rest(truth, p, score)
    return score(truth == 1, p[:, 1]) if len(np.unique(truth)) == 2 else float("nan")


def _each_against_rest(
    truth: np.ndarray, p: np.ndarray, score: Callable[[Bool[np.ndarray, " v"], Float[np.ndarray, " v"]], float]
) -> float:
    if len(np.unique(truth)) < p.shape[1]:
        return float("nan")
    return float(np.mean([score(truth == c, p[:, c]) for c in range(p.shape[1])]))


# scikit-learn's versions of these two spend a millisecond a call on looking at their arguments, and summaries make dozens.
def _area(positive: Bool[np.ndarray, " v"], score: Float[np.ndarray, " v"]) -> float:
    """Return the AUROC: Mann and Whitney's U over the number of pairs."""
    hits, misses = positive.sum(), (~positive).sum()
    return float((rankdata(score)[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def _average_precision(positive: Bool[np.ndarray, " v"], score: Float[np.ndarray, " v"]) -> float:
    """Return Σ steps of recall × precision there, over thresholds from the highest score down."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # equal scores are one step
    hits = positive[order].cumsum()[last]
    return float((np.diff(hits, prepend=0) * hits / (last + 1)).sum() / hits[-1])


def _rates(table: Float[np.ndarray, "c c"]) -> dict[str, Float[np.ndarray, " c"]]:
    hit, missed, false = np.diag(table), table.sum(1) - np.diag(table), table.sum(0) - np.diag(table)
    other = table.sum() - hit - missed - false
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "sensitivity": hit / (hit + missed),
            "specificity": other / (other + false),
            "f1": 2 * hit / (2 * hit + missed + false),
            "precision": np.nan_to_num(hit / (hit + false)),
        }


def _kappa(table: Float[np.ndarray, "c c"], quadratic: bool = False) -> float:
    """Return Cohen's kappa, 1 − Σ w·observed / Σ w·expected; 0 where chance alone is certain."""
    steps = np.arange(len(table))
    distance = np.abs(steps[:, None] - steps)
    weights = distance**2 if quadratic else (distance > 0).astype(float)
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    chance = (weights * expected).sum()
    return float(1 - (weights * table).sum() / chance) if chance > 0 else 0.0


def _matthews(table: Float[np.ndarray, "c c"]) -> float:
    """Return the correlation of truth and prediction (Gorodkin 2004); 0 where either is the same for all videos."""
    truth, predicted, n = table.sum(1), table.sum(0), table.sum()
    spread = (n**2 - (truth**2).sum()) * (n**2 - (predicted**2).sum())
    return float((n * np.trace(table) - (truth * predicted).sum()) / np.sqrt(spread)) if spread > 0 else 0.0


def _sensitivity_at(truth: np.ndarray, score: np.ndarray) -> float:
    from sklearn.metrics import roc_curve

    if len(np.unique(truth)) < 2:
        return float("nan")
    false_rate, true_rate, _ = roc_curve(truth, score, drop_intermediate=False)
    return float(true_rate[false_rate <= 1 - SPECIFICITY + 1e-12].max())
