"""Tests of differences a fold, as papers print them and as they should be; effect size; several tests at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

LEVEL = 0.95

WHY_THEY_DIFFER = (
    "Folds share most of their training videos, so their differences are more alike than independent ones would be: the "
    "paired t-test takes them for independent and its p is too small; the corrected one widens the variance by the ratio of "
    "test to training videos (Nadeau and Bengio 2003); Wilcoxon's sees only ranks, and of five folds can reach no p below "
    "0.0625."
)
"""For people who see the tests side by side."""


class PairedTest(NamedTuple):
    """Mean difference, t with its degrees of freedom and two-sided p, and the 95 % interval of the mean; NaN of one value."""

    mean: float
    t: float
    df: int
    p: float
    low: float
    high: float


def nadeau_bengio(differences: Float[np.ndarray, " n"], test_share: float) -> PairedTest:
    """Return the corrected resampled t-test: the variance of the mean is (1/n + test/train) s² (Nadeau & Bengio 2003).

    Args:
        differences: one a fold (of all repeats together, for repeated cross-validation: Bouckaert & Frank 2004).
        test_share: share of the videos in a test part, such as 1/5 for five folds; test/train is share / (1 − share).
    """
    return _t_test(differences, test_share / (1 - test_share))


def naive_t(differences: Float[np.ndarray, " n"]) -> PairedTest:
    """Return the paired t-test that takes folds for independent."""
    return _t_test(differences, 0.0)


def wilcoxon(differences: Float[np.ndarray, " n"]) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test; 1 where nothing differs, NaN of nothing."""
    if not len(differences):
        return float("nan")
    differing = differences[differences != 0]
    return float(stats.wilcoxon(differing).pvalue) if len(differing) else 1.0


def cohens_dz(differences: Float[np.ndarray, " n"]) -> float:
    """Return mean over standard deviation (ddof 1) of paired differences; NaN where they do not vary."""
    sd = differences.std(ddof=1) if len(differences) > 1 else 0.0
    return float(differences.mean() / sd) if sd > 0 else float("nan")


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being several (Holm 1979), in the order given; NaN stays and does not count."""
    p = np.asarray(p_values, np.float64)
    adjusted, known = p.copy(), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted.tolist()


def _t_test(differences: Float[np.ndarray, " n"], shared: float) -> PairedTest:
    """Return the t-test with a variance of the mean of (1/n + shared) s²."""
    nan, n, df = float("nan"), len(differences), len(differences) - 1
    mean = float(differences.mean()) if n else nan
    if df < 1:
        return PairedTest(mean, nan, df, nan, nan, nan)
    se = float(differences.std(ddof=1) * np.sqrt(1 / n + shared))
    if se == 0:
        # All alike: no spread to judge a difference by, unless there is none.
        return PairedTest(mean, *((0.0, df, 1.0, 0.0, 0.0) if mean == 0 else (nan, df, nan, nan, nan)))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, df)) * se
    return PairedTest(mean, mean / se, df, float(2 * stats.t.sf(abs(mean / se), df)), mean - reach, mean + reach)
