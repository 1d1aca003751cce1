"""Metrics of many weightings at once against scikit-learn on the repeated rows."""

import numpy as np
import pytest
from sklearn import metrics as sk

from echolung.evaluation.metrics import classification, regression
from echolung.evaluation.statistics.resampling import draw, draw_whole
from echolung.evaluation.statistics.weighted import lost_classes, measure, names, value, weighted_auroc


def made_up(classes: int, seed: int = 0, v: int = 60):
    random = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), random.integers(classes, size=v - classes)])
    p = random.dirichlet(np.ones(classes), v) + 0.5 * np.eye(classes)[truth]
    return truth, p / p.sum(1, keepdims=True), np.arange(v) // 3, np.arange(v) // 3 % 3


@pytest.mark.parametrize("classes", [2, 3])
def test_weighted_auroc_is_scikit_learns_with_sample_weights(classes: int):
    random = np.random.default_rng(0)
    truth = np.append(np.arange(classes), random.integers(classes, size=40 - classes))
    p = random.dirichlet(np.ones(classes), 40).round(1)  # many ties
    weights = random.integers(0, 4, (25, 40))
    weights[:, :classes] = 1
    for row, found in zip(weights, weighted_auroc(truth, p, weights), strict=True):
        one_each = [
            sk.roc_auc_score(truth == c, p[:, c], sample_weight=row) for c in (range(classes) if classes > 2 else [1])
        ]
        assert found == pytest.approx(np.mean(one_each), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
def test_classes(classes: int):
    truth, p, groups, folds = made_up(classes)
    weights = draw(groups, 1, 30)
    found = {name: measure(name, truth, p, folds, weights) for name in names(False, True)}
    for i, row in enumerate(weights):
        again = np.repeat(np.arange(len(truth)), row)
        t, told = truth[again], p[again].argmax(1)
        one_hot = np.eye(classes)[t]
        expected = {
            "accuracy": sk.accuracy_score(t, told),
            "brier": ((p[again] - one_hot) ** 2).sum(1).mean(),
            "qwk": sk.cohen_kappa_score(t, told, weights="quadratic"),
        }
        if len(np.unique(t)) == classes:
            expected["balanced_accuracy"] = sk.balanced_accuracy_score(t, told)
        else:
            assert np.isnan(found["balanced_accuracy"][i])
        for name, number in expected.items():
            assert found[name][i] == pytest.approx(number), name


def test_numbers():
    random = np.random.default_rng(0)
    truth, groups = random.normal(55, 12, 40), np.arange(40) // 2
    told = truth[:, None] + random.normal(0, 5, (40, 1))
    weights = draw(groups, 2, 30)
    for name, score in (("mae", sk.mean_absolute_error), ("rmse", sk.root_mean_squared_error), ("r2", sk.r2_score)):
        expected = [score(truth, told[:, 0], sample_weight=row) for row in weights]
        np.testing.assert_allclose(measure(name, truth, told, groups, weights), expected, rtol=1e-9)
    one = np.zeros((1, 40))
    one[0, 3] = 5
    assert np.isnan(measure("r2", truth, told, groups, one)).all()
    assert value("r2", truth, told, groups) == pytest.approx(regression(truth, told[:, 0])["r2"])


def test_one_fold_is_what_the_metrics_say():
    truth, p, _, _ = made_up(3)
    expected = classification(truth, p, ordinal=True)
    for name in names(False, True):
        assert value(name, truth, p, np.zeros(len(truth), int)) == pytest.approx(expected[name]), name


def test_a_resample_loses_a_class_where_none_or_no_whole_fold_is_left():
    truth = np.array([0, 1, 0, 1, 0, 0])
    folds = np.array([0, 0, 1, 1, 2, 2])
    lost = lost_classes(truth, folds, 2)
    weights = np.array(
        [
            [1, 1, 0, 0, 0, 0],  # fold 0 is whole
            [1, 0, 1, 1, 0, 0],  # fold 1 is
            [1, 0, 0, 1, 1, 1],  # both classes, but in different folds: no AUROC
            [1, 0, 1, 0, 1, 1],  # no 1
            [0, 1, 0, 1, 0, 0],  # no 0
        ]
    )
    assert lost(weights).tolist() == [False, False, True, True, True]
    never_whole = lost_classes(truth, truth, 2)  # folds of one class each: only lost classes count
    assert never_whole(weights).tolist() == [False, False, False, True, True]
    absent = lost_classes(truth, folds, 3)  # a class that nobody has cannot be lost
    assert absent(weights).tolist() == [False, False, False, True, True]


def test_redrawn_resamples_are_counted_and_keep_every_class():
    groups, truth = np.arange(8), np.array([1, 1, 0, 0, 0, 0, 0, 0])
    lost = lost_classes(truth, np.zeros(8, int), 2)
    weights, redrawn = draw_whole(groups, lost, seed=3, resamples=4000)
    assert not lost(weights).any() and (weights.sum(1) == 8).all()
    often = 0.75**8 + 0.25**8  # no positive, or no negative
    assert redrawn / (4000 + redrawn) == pytest.approx(often, abs=0.02)
    same, none = draw_whole(groups, lambda w: np.zeros(len(w), bool), seed=3, resamples=50)
    assert none == 0 and (same == draw(groups, 3, 50)).all()
    hopeless, count = draw_whole(groups, lambda w: np.ones(len(w), bool), seed=3, resamples=5)
    assert hopeless.shape == (5, 8) and count == 500
