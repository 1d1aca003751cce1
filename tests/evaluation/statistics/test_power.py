"""The smallest difference, against published tables and simulated studies."""

import numpy as np
import pytest
from scipy import stats

from echolung.evaluation.statistics.power import (
    patient_means,
    power_of,
    smallest_difference,
    smallest_dz,
)


def test_the_usual_table():
    # G*Power 3, two-tailed, difference between two dependent means: d_z 0.5 needs 34 pairs, 0.8 needs 15, 0.2 needs 199.
    for dz, pairs in ((0.5, 34), (0.8, 15), (0.2, 199)):
        assert smallest_dz(pairs) <= dz < smallest_dz(pairs - 1)
    assert power_of(0.5, 34) == pytest.approx(0.8078, abs=1e-4)
    assert power_of(0, 20) == pytest.approx(0.05)


@pytest.mark.parametrize("patients", [3, 10, 63])
def test_so_many_studies_find_it(patients: int):
    dz = smallest_dz(patients)
    data = np.random.default_rng(0).normal(dz, 1, (4000, patients))
    assert (stats.ttest_1samp(data, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.02)


def test_difference_is_in_units_of_what_is_measured():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 3)
    differences = patient_means(random.normal(size=60), groups)
    assert differences.shape == (20,)
    assert smallest_difference(7 * differences) == pytest.approx(7 * smallest_difference(differences))
    assert smallest_difference(differences) == pytest.approx(differences.std(ddof=1) * smallest_dz(20))
    assert np.isnan(smallest_difference(differences[:2]))
    names = np.array(list("bab"))
    assert patient_means(np.array([1.0, 5.0, 3.0]), names).tolist() == [5, 2]
