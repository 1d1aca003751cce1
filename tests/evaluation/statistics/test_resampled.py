"""Tests of fold differences against scipy and against the numbers that the published study printed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from echolung.evaluation.statistics.resampled import WHY_THEY_DIFFER, cohens_dz, holm, nadeau_bengio, naive_t, wilcoxon

# Fold accuracies of the published POCUS study, pretrained and from random weights.
PUBLISHED = np.array([100, 95.8333, 95.8333, 95.8333, 100]) - np.array([79.1667, 70.8333, 66.6667, 83.3333, 66.6667])


def test_the_published_tests():
    found = naive_t(PUBLISHED)
    assert found.t == pytest.approx(6.742, abs=5e-4) and found.p == pytest.approx(0.0025, abs=5e-5)
    assert wilcoxon(PUBLISHED) == 0.0625 and "0.0625" in WHY_THEY_DIFFER
    assert cohens_dz(PUBLISHED) == pytest.approx(3.015, abs=5e-4)
    corrected = nadeau_bengio(PUBLISHED, 1 / 5)
    assert corrected.t == pytest.approx(found.t / np.sqrt((1 / 5 + 1 / 4) / (1 / 5)))
    assert found.p < 0.01 < corrected.p < 0.02 and corrected.low < found.low


def test_naive_is_scipys():
    differences = np.random.default_rng(0).normal(0.3, 1, 12)
    found, expected = naive_t(differences), stats.ttest_1samp(differences, 0)
    assert (found.t, found.p, found.df) == pytest.approx((expected.statistic, expected.pvalue, expected.df))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_correction_keeps_its_level_where_folds_share_training_videos():
    """Thirty random splits 80/20 of 60 videos; two regressions on noise of the same worth."""
    random, rejected = np.random.default_rng(1), np.zeros(2)
    for _ in range(300):
        x, y = random.normal(size=(2, 60)), random.normal(size=60)
        test = random.random((30, 60)).argsort(1) < 12
        slopes = (~test @ (x * y).T) / (~test @ (x**2).T)
        errors = (y - slopes.T[:, :, None] * x[:, None]) ** 2
        differences = ((errors[0] - errors[1]) * test).sum(1) / 12
        rejected += [naive_t(differences).p < 0.05, nadeau_bengio(differences, 1 / 5).p < 0.05]
    naive, corrected = rejected / 300
    assert naive > 0.2 and corrected < 0.08


def test_differences_without_spread():
    same, shifted = np.zeros(5), np.full(5, 0.25)
    assert naive_t(same).p == nadeau_bengio(same, 0.2).p == wilcoxon(same) == 1
    assert np.isnan([naive_t(shifted).p, cohens_dz(shifted), cohens_dz(np.array([1.0]))]).all()
    assert np.isnan([naive_t(np.array([])).mean, nadeau_bengio(np.array([]), 0.2).p, wilcoxon(np.array([]))]).all()
    assert wilcoxon(np.array([0.1, 0.1, -0.1, 0.0])) <= 1 and wilcoxon(np.array([0.3])) == 1
    alone = nadeau_bengio(np.array([0.1]), 0.2)
    assert alone.mean == 0.1 and np.isnan([alone.t, alone.p, alone.low]).all()


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    with_nan = holm([0.02, float("nan"), 0.04])
    assert with_nan[::2] == pytest.approx([0.04, 0.04]) and np.isnan(with_nan[1])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_does(p: list[float], alpha: float):
    rejected: set[int] = set()
    for step, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] * (len(p) - step) > alpha:
            break
        rejected.add(i)
    assert {i for i, adjusted in enumerate(holm(p)) if adjusted <= alpha} == rejected
