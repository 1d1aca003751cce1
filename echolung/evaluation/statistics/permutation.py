"""Is a score more than labels that mean nothing would give? Labels are shuffled between patients, never between videos."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from echolung.evaluation.statistics import weighted

TIE = 1e-12
"""Values that differ by no more are the same number, rounded in another order."""


class Permuted(NamedTuple):
    """The score as it is, the scores of shuffled labels, and how often those are as good."""

    observed: float
    null: np.ndarray
    p: float


def shuffle_patients(labels: np.ndarray, patients: np.ndarray, seed: int) -> np.ndarray:
    """Return labels in which each patient has the sequence of another, cut or repeated to the number of its videos.

    Videos of a patient stay as alike in their labels as they are; shuffling videos would make them less so, and any score
    of a probe that recognises patients would look significant.
    """
    names = np.unique(patients)
    givers = np.random.default_rng(seed).permutation(names)
    out = labels.copy()
    for name, giver in zip(names, givers, strict=True):
        own = patients == name
        out[own] = np.resize(labels[patients == giver], own.sum())
    return out


def p_value(observed: int | float, null: Float[np.ndarray, " n"], larger_is_better: bool = True) -> float:
    """Return (1 + how many of the null are as good) / (1 + n): never 0 (Phipson & Smyth 2010).

    Undefined (NaN) scores of the null are left out of both counts.
    """
    known = null[~np.isnan(null)]
    better = known >= observed - TIE if larger_is_better else known <= observed + TIE
    return float((1 + better.sum()) / (1 + len(known)))


def posthoc(
    truth: np.ndarray,
    scores: Float[np.ndarray, "v c"],
    folds: np.ndarray,
    patients: np.ndarray,
    measure: str = "balanced_accuracy",
    permutations: int = 1000,
    seed: int = 0,
    videos: np.ndarray | None = None,
) -> Permuted:
    """Return the cheap, post-hoc permutation test: labels are shuffled against predictions that stay as they are.

    It asks whether these predictions go with these labels. It leaves out everything that was done with the labels before:
    training, and choosing settings and epochs. A probe that learnt from shuffled labels would predict something else, so only
    a test that repeats the whole procedure says how well nothing scores under it. In particular it finds an
    optimistic result, chosen on the videos it is scored on, as significant as it looks.

    Args:
        truth: class indices (int), or numbers (float).
        scores: probabilities [v, classes], or predictions [v, 1].
        folds: which fold's probe scored a video.
        patients: the patient of each video.
        measure: a metric of `statistics.weighted`.
        permutations: how many.
        seed: of the shuffles.
        videos: the video of each row, where one has several (repeats): its label is then the same in all of them.
    """
    _, first, row = np.unique(
        np.arange(len(truth)) if videos is None else videos, return_index=True, return_inverse=True
    )
    labels, people = truth[first], patients[first]
    seeds = np.random.default_rng(seed).integers(2**32, size=permutations)
    null = [weighted.value(measure, shuffle_patients(labels, people, int(s))[row], scores, folds) for s in seeds]
    observed = weighted.value(measure, truth, scores, folds)
    values = np.array(null, np.float64)
    return Permuted(observed, values, p_value(observed, values, measure not in weighted.SMALLER_IS_BETTER))
