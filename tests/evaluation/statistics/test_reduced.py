"""An ejection fraction as a classifier: polarity, the boundary, folds, and classes that are not there."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from echolung.evaluation.statistics.reduced import find_reduced


def test_positive_is_reduced_strictly_below():
    truth = np.array([39.9, 40.0, 40.1, 60.0])
    told = np.array([30.0, 50.0, 55.0, 60.0])
    folds, patients = np.zeros(4, np.int64), np.arange(4).astype(str)
    (found,) = find_reduced(truth, told, folds, patients, [40])
    assert (found.positive, found.negative, found.auroc) == (1, 3, 1.0)
    (wrong,) = find_reduced(truth, -told, folds, patients, [40])
    assert wrong.auroc == 0.0


def test_it_is_scikit_learns_auroc_within_folds():
    random = np.random.default_rng(0)
    truth = random.normal(50, 12, 120)
    told, folds = truth + random.normal(0, 10, 120), np.arange(120) % 3
    found = find_reduced(truth, told, folds, np.arange(120).astype(str))
    assert [each.below for each in found] == [35, 40, 45, 50]
    for each in found:
        by_fold = [roc_auc_score(truth[folds == f] < each.below, -told[folds == f]) for f in range(3)]
        assert each.auroc == pytest.approx(np.mean(by_fold)) and each.positive == (truth < each.below).sum()
        low, high = each.interval
        assert 0.5 < low < each.auroc < high <= 1


def test_a_side_without_a_video_is_not_defined():
    truth, folds = np.array([50.0, 60.0, 70.0]), np.zeros(3, np.int64)
    found = find_reduced(truth, truth, folds, np.array(["a", "b", "c"]), (45, 50, 55, 80))
    assert [each.auroc for each in found] == [None, None, 1.0, None]  # exactly 50 is not below 50
    assert [each.interval is None for each in found] == [True, True, False, True]
    assert (found[3].positive, found[3].negative) == (3, 0)
