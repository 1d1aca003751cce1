"""AUROC with a standard error that knows a patient's videos are alike: DeLong's, clustered as in Obuchowski (1997).

The placement of a positive video is the share of negative ones that it lies above; of a negative one, the share of positive
ones that lie above it. AUROC is the mean of either; its variance comes from how the placements, summed within a patient,
spread over patients. All is done within a fold, because scores of different folds' probes are on different scales, and averaged.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

LEVEL = 0.95


class Estimate(NamedTuple):
    """A value, its standard error and 95 % interval; NaN where the data cannot tell."""

    value: float
    se: float
    low: float
    high: float


class Difference(NamedTuple):
    """AUROC of a minus that of b, its standard error, 95 % interval, z and two-sided p."""

    difference: float
    se: float
    low: float
    high: float
    z: float
    p: float


def clustered_auroc(
    truth: np.ndarray, p: Float[np.ndarray, "v c"], folds: np.ndarray | None, patients: np.ndarray
) -> Estimate:
    """Return the mean over folds of the AUROC (macro one-against-rest of more than two classes) and how sure it is.

    The interval is symmetric on the logit scale, so that it stays within 0 and 1 and covers better near 1, where a plain one
    runs over the end (Pepe 2003). An AUROC of exactly 1 or 0 has no interval: its placements do not spread. With ten patients
    on a side or fewer, spread over folds, 95 % intervals cover some 91 % in simulations; the bootstrap does better there.

    Args:
        truth: class index of each row.
        p: probabilities.
        folds: which probe scored a row; None: one scored all. Folds without every class are left out. Of repeated
            cross-validation a video has a row a repeat, and a patient's placements are averaged over them.
        patients: the patient of each row.
    """
    value, variance = _estimate(truth, [np.asarray(p, np.float64)], folds, patients)
    se = float(np.sqrt(variance))
    if not 0 < value < 1 or not se > 0:
        return Estimate(value, se if 0 < value < 1 else float("nan"), float("nan"), float("nan"))
    centre, reach = np.log(value / (1 - value)), _quantile() * se / (value * (1 - value))
    low, high = (float(1 / (1 + np.exp(-end))) for end in (centre - reach, centre + reach))
    return Estimate(value, se, low, high)


def compare_aurocs(
    truth: np.ndarray,
    a: Float[np.ndarray, "v c"],
    b: Float[np.ndarray, "v c"],
    folds: np.ndarray | None,
    patients: np.ndarray,
) -> Difference:
    """Return the difference of the AUROCs of two sets of predictions for the same rows, in the same folds.

    The variance is that of the difference of the placements, so what both runs owe to the same patients cancels.
    """
    both = [np.asarray(scores, np.float64) for scores in (a, b)]
    difference, variance = _estimate(truth, both, folds, patients)
    se = float(np.sqrt(variance))
    if not se > 0:
        same = difference == 0 and se == 0
        return Difference(difference, se, *((0.0, 0.0, 0.0, 1.0) if same else (float("nan"),) * 4))
    z, reach = difference / se, _quantile() * se
    return Difference(difference, se, difference - reach, difference + reach, z, float(2 * stats.norm.sf(abs(z))))


def _quantile() -> float:
    return float(stats.norm.ppf((1 + LEVEL) / 2))


def _estimate(
    truth: np.ndarray, runs: list[np.ndarray], folds: np.ndarray | None, patients: np.ndarray
) -> tuple[float, float]:
    """Return (value, variance) of the mean AUROC of the first run, less that of the second where there are two."""
    folds = np.zeros(len(truth), int) if folds is None else folds
    names, member = np.unique(patients, return_inverse=True)
    classes = runs[0].shape[1]
    whole = [own for fold in np.unique(folds) if len(np.unique(truth[own := folds == fold])) == classes]
    if not whole:
        return float("nan"), float("nan")
    chosen = range(1, 2) if classes == 2 else range(classes)
    values, parts, sides = [], np.zeros(len(names)), []
    for own in whole:
        for c in chosen:
            positive = truth[own] == c
            placed = [_placements(positive, p[own, c]) for p in runs]
            placement = placed[0] - placed[1] if len(runs) == 2 else placed[0]
            values.append(float(placement[positive].mean()))
            for side, name in ((positive, "positive"), (~positive, "negative")):
                part, known, spread = _side(placement[side], member[own][side], len(names))
                parts += part
                sides.append(((c, name), known, spread))
    n = len(values)
    # A patient scored in several repeats is one and the same, so what is not known of one repeat is not independent either.
    repeats = len(np.unique(np.stack([member, folds]), axis=1).T) / len(names)
    variance = (parts**2).sum() / n**2 + repeats * _unknown(sides) / n**2
    return float(np.mean(values)), float(variance)


def _placements(positive: np.ndarray, score: Float[np.ndarray, " v"]) -> Float[np.ndarray, " v"]:
    """Return for each positive the share of negatives below it, for each negative the share of positives above; ties half."""
    placed = np.empty(len(score))
    for own, sign in ((positive, 1), (~positive, -1)):
        others = np.sort(sign * score[~own])
        mine = sign * score[own]
        placed[own] = (np.searchsorted(others, mine, "left") + np.searchsorted(others, mine, "right")) / 2 / len(others)
    return placed


def _side(
    placement: Float[np.ndarray, " s"], member: np.ndarray, patients: int
) -> tuple[Float[np.ndarray, " g"], bool, float]:
    """Return what each patient adds through one side of a fold, whether that shows a variance, and that of one patient.

    Scaled by √(I/(I−1)) of the I patients on that side, so that Σ parts² is Obuchowski's S10/M (or S01/N). Between the
    sides his cross term has I/(I−1) of all patients; here it is the geometric mean of both sides', which keeps the variance
    above 0 and makes parts of folds, classes and runs simply add.
    """
    sums = np.bincount(member, placement - placement.mean(), patients) / len(placement)
    count = len(np.unique(member))
    if count < 2:
        return np.zeros(patients), False, float("nan")
    parts = sums * np.sqrt(count / (count - 1))
    return parts, True, float((parts**2).sum() * count)


def _unknown(sides: list[tuple[tuple[int, str], bool, float]]) -> float:
    """Return the variance of sides with one patient, who cannot show it: taken from the same side of other folds.

    NaN where no fold has two patients there.
    """
    total = 0.0
    for key in {key for key, known, _ in sides if not known}:
        spreads = [spread for other, known, spread in sides if other == key and known]
        lacking = sum(not known for other, known, _ in sides if other == key)
        total += lacking * (float(np.mean(spreads)) if spreads else float("nan"))
    return total
