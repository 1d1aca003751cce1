"""Two runs on the same videos: by how much one is better, and whether patients alone could have made it so."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from echolung.evaluation.statistics import weighted
from echolung.evaluation.statistics.permutation import TIE, p_value
from echolung.evaluation.statistics.resampling import LEVEL, RESAMPLES, draw, draw_whole

Scores = np.ndarray | Sequence[np.ndarray]
"""Scores [v, c] of a run, or of several runs that differ in the encoder's seed alone."""

Run = tuple[np.ndarray, np.ndarray]
"""Scores [v, c], and which fold's probe gave them [v]."""


class Bootstrapped(NamedTuple):
    """A metric of a and of b, a − b, its standard error and 95 % interval, and how many resamples had lost a class."""

    a: float
    b: float
    difference: float
    se: float
    low: float
    high: float
    redrawn: int


class SignFlip(NamedTuple):
    """The difference a − b, its two-sided p, how many swaps that is from, and whether those are all there are."""

    difference: float
    p: float
    swaps: int
    exact: bool


def paired_bootstrap(
    truth: np.ndarray,
    a: Scores,
    b: Scores,
    folds: Scores,
    patients: np.ndarray,
    measure: str = "balanced_accuracy",
    folds_b: Scores | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Bootstrapped:
    """Return the difference of a metric, and its interval over resampled patients, the same draw for both runs.

    Where an arm has several seeds of its encoder, its value is the mean over them, and seeds are resampled with the patients.
    Few seeds drawn with replacement vary less than seeds do, by √((s − 1)/s), which is put right. What the interval
    leaves out is that other patients to learn from would have made other probes.

    Args:
        truth: class indices (int), or numbers (float).
        a: scores [v, c], or those of each encoder seed.
        b: the same of the other run; rows are the same videos.
        folds: which fold's probe gave each row's scores; one for all, or one for each seed of a.
        patients: the patient of each row.
        measure: a metric of `statistics.weighted`.
        folds_b: folds of b, where they are others.
        seed: of the resampling.
        resamples: how many.
    """
    arms = (_runs(a, folds), _runs(b, folds if folds_b is None else folds_b))
    weights, redrawn = _draw(truth, [run for arm in arms for run in arm], patients, seed, resamples)
    weights, random = weights.astype(float), np.random.default_rng([seed, 1])
    of_a, of_b = (float(np.mean([weighted.value(measure, truth, *run) for run in arm])) for arm in arms)
    values = [
        _over_seeds(np.stack([weighted.measure(measure, truth, *run, weights) for run in arm]), random) for arm in arms
    ]
    differences = values[0] - values[1]
    known = differences[~np.isnan(differences)]
    if len(known) < 2:
        return Bootstrapped(of_a, of_b, of_a - of_b, float("nan"), float("nan"), float("nan"), redrawn)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Bootstrapped(of_a, of_b, of_a - of_b, float(known.std(ddof=1)), low, high, redrawn)


def sign_flip(
    truth: np.ndarray,
    a: Scores,
    b: Scores,
    folds: Scores,
    patients: np.ndarray,
    measure: str = "balanced_accuracy",
    folds_b: Scores | None = None,
    seed: int = 0,
    swaps: int = 2000,
) -> SignFlip:
    """Return the permutation test in which a patient's two sets of predictions change places between the runs.

    If it did not matter which run made them, the difference would be as large after any such swap. All patterns are tried
    where there are no more than `swaps`, else so many random ones. With several encoder seeds every seed of one arm is
    compared with every seed of the other, under the same swaps; the seeds themselves are not permuted. For AUROC scores
    are replaced by their ranks within the fold first, because two probes' scores are on different scales.

    Args: as in `paired_bootstrap`; swaps is how many.
    """
    arms = (_runs(a, folds), _runs(b, folds if folds_b is None else folds_b))
    if measure == "auroc":
        arms = tuple([(_ranks(*run), run[1]) for run in arm] for arm in arms)  # type: ignore[assignment]
    swapped, exact = _patterns(patients, swaps, seed)
    keep = np.concatenate([~swapped, swapped], axis=1)  # rows of a, then rows of b, that make up the first run
    twice = np.concatenate([truth, truth])
    differences = np.zeros(len(swapped))
    for one, other in product(*arms):
        scores, of_fold = (np.concatenate([one[i], other[i]]) for i in (0, 1))
        first, second = (weighted.measure(measure, twice, scores, of_fold, w.astype(float)) for w in (keep, ~keep))
        differences += (first - second) / (len(arms[0]) * len(arms[1]))
    observed, null = float(differences[0]), np.abs(differences[1:])
    if not exact:
        return SignFlip(observed, p_value(abs(observed), null), len(null), False)
    return SignFlip(observed, float((np.abs(differences) >= abs(observed) - TIE).mean()), len(differences), True)


def _runs(scores: Scores, folds: Scores) -> list[Run]:
    several = [scores] if isinstance(scores, np.ndarray) else list(scores)
    each = [folds] * len(several) if isinstance(folds, np.ndarray) else list(folds)
    return list(zip(several, each, strict=True))


def _draw(
    truth: np.ndarray, runs: list[Run], patients: np.ndarray, seed: int, resamples: int
) -> tuple[np.ndarray, int]:
    if truth.dtype.kind == "f":
        return draw(patients, seed, resamples), 0
    tests: list[Callable[[np.ndarray], np.ndarray]] = []
    for i, (scores, folds) in enumerate(runs):
        if not any(np.array_equal(folds, before) for _, before in runs[:i]):
            tests.append(weighted.lost_classes(truth, folds, scores.shape[1]))
    return draw_whole(patients, lambda weights: np.any([test(weights) for test in tests], axis=0), seed, resamples)


def _over_seeds(values: Float[np.ndarray, "s r"], random: np.random.Generator) -> Float[np.ndarray, " r"]:
    """Return for each resample the mean over seeds drawn with replacement, spread as widely as seeds are."""
    seeds, resamples = values.shape
    if seeds == 1:
        return values[0]
    drawn = random.integers(seeds, size=(seeds, resamples))
    centre = values.mean(0)
    return centre + np.sqrt(seeds / (seeds - 1)) * (np.take_along_axis(values, drawn, 0).mean(0) - centre)


def _patterns(patients: np.ndarray, swaps: int, seed: int) -> tuple[Bool[np.ndarray, "n v"], bool]:
    """Return whether each row is swapped in each pattern, the first of which swaps none, and whether they are all."""
    names, member = np.unique(patients, return_inverse=True)
    count = len(names)
    if exact := 2**count <= swaps:
        flipped = (np.arange(2**count)[:, None] >> np.arange(count)) % 2 == 1
    else:
        flipped = np.random.default_rng(seed).random((swaps + 1, count)) < 0.5
        flipped[0] = False
    return flipped[:, member], exact


def _ranks(scores: Float[np.ndarray, "v c"], folds: np.ndarray) -> Float[np.ndarray, "v c"]:
    ranked = np.empty(scores.shape)
    for fold in np.unique(folds):
        ranked[folds == fold] = rankdata(scores[folds == fold], axis=0)
    return ranked
