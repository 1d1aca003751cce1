"""Whether probabilities mean what they say: reliability curve, and one temperature that mends over-confidence."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar

from echolung.evaluation.metrics import ECE_BINS, brier, calibration_error, log_loss
from echolung.evaluation.statistics.resampling import LEVEL, draw

TEMPERATURES = (0.1, 10.0)
"""The least and the greatest temperature that is fitted: where every video is told right, the least is the best."""

SMALLEST = 1e-15


@dataclass(frozen=True)
class Reliability:
    """Confidence against what came true, in bins of equal width that hold a video at least.

    Attributes:
        low: [b] lower edge of each bin; bins hold low ≤ confidence < high, the last one also 1.
        high: [b] upper edge.
        count: [b] videos.
        confidence: [b] mean probability.
        observed: [b] share of videos for which it came true.
        observed_low: [b] lower end of the 95 % patient-bootstrap band of `observed`.
        observed_high: [b] upper end.
    """

    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    observed: np.ndarray
    observed_low: np.ndarray
    observed_high: np.ndarray


def reliability(
    truth: Int[np.ndarray, " v"],
    p: Float[np.ndarray, "v c"],
    patients: np.ndarray,
    of_class: int | None = None,
    bins: int = ECE_BINS,
    seed: int = 0,
) -> Reliability:
    """Return the reliability curve, and around it the band of resampled patients.

    Args:
        truth: class of each video.
        p: probabilities.
        patients: the patient of each video.
        of_class: whose probability is looked at; None: of whichever class the video was taken for (as ECE does).
        bins: number of bins between 0 and 1.
        seed: of the resampling.
    """
    confidence = p.max(1) if of_class is None else p[:, of_class]
    came_true = p.argmax(1) == truth if of_class is None else truth == of_class
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    filled = np.unique(bin_of)
    inside = (bin_of[:, None] == filled).astype(float)
    count = inside.sum(0)
    weights = draw(patients, seed).astype(float)
    with np.errstate(invalid="ignore"):  # a resample may leave a bin empty
        shares = (weights @ (inside * came_true[:, None])) / (weights @ inside)
    band = np.nanquantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    mean_of = [(values @ inside) / count for values in (confidence.astype(float), came_true.astype(float))]
    return Reliability(filled / bins, (filled + 1) / bins, count.astype(int), *mean_of, *band)


def fit_temperature(log_p: Float[np.ndarray, "v c"], truth: Int[np.ndarray, " v"]) -> float:
    """Return the T for which softmax(log_p / T) has the least log-loss (Guo et al. 2017).

    Above 1 the probe was too sure of itself. It must be fitted on other videos than those it is then judged on.

    Args:
        log_p: logits, or the logarithm of probabilities: the same up to a constant a video, which softmax forgets.
        truth: class of each video.
    """
    logits = np.maximum(np.asarray(log_p, np.float64), np.log(SMALLEST))
    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(1)
        return float((np.log(np.exp(scaled - top[:, None]).sum(1)) + top - scaled[rows, truth]).mean())

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x))


def apply_temperature(
    p: Float[np.ndarray, "v c"], temperature: int | float | Float[np.ndarray, "v 1"]
) -> Float[np.ndarray, "v c"]:
    """Return softmax(log(p) / T), of one T or one a video: the order of a video's classes stays, its confidence changes."""
    scaled = np.log(np.maximum(np.asarray(p, np.float64), SMALLEST)) / temperature
    scaled = np.exp(scaled - scaled.max(1, keepdims=True))
    return scaled / scaled.sum(1, keepdims=True)


def calibration(
    truth: Int[np.ndarray, " v"], p: Float[np.ndarray, "v c"], after: Float[np.ndarray, "v c"] | None = None
) -> dict[str, float]:
    """Return ECE, Brier score and log-loss of all predictions pooled, and `..._after` those after temperature scaling.

    ECE of a small fold is biased upwards, so this one is nearer the truth than the mean over folds.
    """
    measures = {"ece": calibration_error, "brier": brier, "log_loss": log_loss}
    found = {name: measure(truth, p) for name, measure in measures.items()}
    if after is not None:
        found |= {f"{name}_after": measure(truth, after) for name, measure in measures.items()}
    return found
