"""The smallest difference between two runs that so many patients can show."""

import numpy as np
from jaxtyping import Float
from scipy import optimize, stats

POWER = 0.8
ALPHA = 0.05


def patient_means(values: Float[np.ndarray, " v"], patients: np.ndarray) -> Float[np.ndarray, " g"]:
    """Return the mean of a patient's values, such as the differences of two runs, patients in sorted order."""
    _, member = np.unique(patients, return_inverse=True)
    return np.bincount(member, values) / np.bincount(member)


def power_of(dz: int | float, patients: int, alpha: float = ALPHA) -> float:
    """Return how often a two-sided paired t-test of `patients` finds an effect of d_z (Cohen 1988): noncentral t."""
    df, shift = patients - 1, abs(dz) * np.sqrt(patients)
    edge = stats.t.ppf(1 - alpha / 2, df)
    wrong_side = stats.nct.cdf(-edge, df, shift)  # scipy gives NaN for some that are below 1e-20
    return float(stats.nct.sf(edge, df, shift) + np.nan_to_num(wrong_side))


def smallest_dz(patients: int, power: float = POWER, alpha: float = ALPHA) -> float:
    """Return the least d_z (mean over sd of patient-wise differences) found with that power; NaN of fewer than 3 patients."""
    if patients < 3:
        return float("nan")
    # A normal test would need (1.96 + 0.84) / √n; the t-test of few patients more.
    start = (stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)) / np.sqrt(patients)
    return float(optimize.brentq(lambda dz: power_of(dz, patients, alpha) - power, start / 2, start * 10))


def smallest_difference(differences: Float[np.ndarray, " g"], power: float = POWER, alpha: float = ALPHA) -> float:
    """Return the least mean difference that as many patients, differing as much among each other, would show.

    Args:
        differences: one a patient (`patient_means`), of errors, of being right, of whatever is averaged.
        power: how often it shall be found.
        alpha: two-sided level of the test.
    """
    if len(differences) < 3:
        return float("nan")
    return smallest_dz(len(differences), power, alpha) * float(differences.std(ddof=1))
