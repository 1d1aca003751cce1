"""Patient bootstrap: whole patients, the right statistics, intervals that cover."""

import numpy as np
import pytest
from sklearn import metrics as sk

from echolung.evaluation.bootstrap import intervals, percentiles, resample


def made_up(patients: int, classes: int, seed: int):
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), random.integers(1, 4, patients))
    truth = (groups % classes).astype(np.int64)
    logits = (
        random.normal(size=(len(truth), classes))
        + random.normal(size=(patients, classes))[groups]
        + np.eye(classes)[truth]
    )
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return truth, p, groups % 5, groups.astype(str)


def test_patients_stay_whole_and_as_many_are_drawn_as_there_are():
    groups = np.array(list("abbbccad"))
    weights = resample(groups, seed=1, resamples=500)
    assert weights.shape == (500, 8)
    for name in "abcd":
        of_one = weights[:, groups == name]
        assert (of_one == of_one[:, :1]).all()
    one_each = weights[:, [0, 1, 4, 7]]
    assert (one_each.sum(1) == 4).all() and one_each.max() > 1 and one_each.min() == 0
    np.testing.assert_allclose(one_each.mean(0), 1, atol=0.15)


def test_the_same_seed_gives_the_same_interval():
    data = made_up(30, 3, 0)
    assert intervals(*data, seed=3) == intervals(*data, seed=3) != intervals(*data, seed=4)


@pytest.mark.parametrize("classes", [2, 3])
def test_intervals_are_quantiles_of_scikit_learns_metrics(classes: int):
    truth, p, folds, groups = made_up(40, classes, 1)
    values = {"accuracy": [], "balanced_accuracy": [], "auroc": []}
    for row in resample(groups, 7, 100):
        again = np.repeat(np.arange(len(truth)), row)
        t, q, f = truth[again], p[again], folds[again]
        values["accuracy"].append(sk.accuracy_score(t, q.argmax(1)))
        values["balanced_accuracy"].append(sk.balanced_accuracy_score(t, q.argmax(1)))
        by_fold = []
        for fold in range(5):
            a, b = t[f == fold], q[f == fold]
            if len(np.unique(a)) == classes:
                by_fold.append(
                    sk.roc_auc_score(a, b[:, 1]) if classes == 2 else sk.roc_auc_score(a, b, multi_class="ovr")
                )
        values["auroc"].append(np.mean(by_fold) if by_fold else np.nan)
    found, redrawn = intervals(truth, p, folds, groups, seed=7, resamples=100)
    assert redrawn == 0
    for name, value in values.items():
        np.testing.assert_allclose(found[name], np.nanquantile(value, [0.025, 0.975]), atol=1e-12, err_msg=name)


def test_intervals_of_numbers():
    random = np.random.default_rng(0)
    truth, groups = random.normal(size=60), np.arange(60) // 2
    scores = truth[:, None] + random.normal(size=(60, 1))
    found, redrawn = intervals(truth, scores, np.zeros(60, int), groups, resamples=500)
    assert redrawn == 0 and set(found) == {"mae", "rmse", "r2", "r_squared", "pearson"}
    for name, score in (
        ("mae", sk.mean_absolute_error),
        ("rmse", sk.root_mean_squared_error),
        ("r2", sk.r2_score),
        ("pearson", weighted_pearson),
    ):
        values = [score(truth, scores[:, 0], sample_weight=row) for row in resample(groups, 0, 500)]
        np.testing.assert_allclose(found[name], np.quantile(values, [0.025, 0.975]), atol=1e-12)


def weighted_pearson(truth, predicted, sample_weight):
    again = np.repeat(np.arange(len(truth)), sample_weight)
    return np.corrcoef(truth[again], predicted[again])[0, 1]


def test_nobody_invents_an_auroc():
    truth, p, _, groups = made_up(12, 3, 2)
    found, _ = intervals(truth, p, truth.copy(), groups)  # each fold holds one class
    assert set(found) == {"accuracy", "balanced_accuracy", "brier"}


def test_steps_of_a_score_have_weighted_kappa():
    truth, p, folds, groups = made_up(40, 4, 3)
    found, _ = intervals(truth, p, np.zeros_like(folds), groups, ordinal=True, resamples=200)
    values = [
        sk.cohen_kappa_score(truth, p.argmax(1), weights="quadratic", sample_weight=row)
        for row in resample(groups, 0, 200)
    ]
    np.testing.assert_allclose(found["qwk"], np.quantile(values, [0.025, 0.975]), atol=1e-12)


def test_resamples_that_lost_a_class_are_redrawn_and_counted():
    """Two of ten patients have the disease, in two folds: many resamples have none, and more have no whole fold."""
    random = np.random.default_rng(0)
    truth, groups = np.array([1, 1, *[0] * 8]), np.arange(10)
    p = random.dirichlet([1, 1], 10)
    one_fold, redrawn = intervals(truth, p, np.zeros(10, int), groups)
    assert redrawn / (2000 + redrawn) == pytest.approx(0.8**10, abs=0.02)
    two_folds, more = intervals(truth, p, np.array([0, 1, *[0] * 4, *[1] * 4]), groups)
    assert more > redrawn and "auroc" in two_folds
    alone, never = intervals(truth, p, groups, groups)  # no fold is whole, so none can be lost
    assert never == redrawn and alone["balanced_accuracy"] == one_fold["balanced_accuracy"]


def test_undefined_values_have_no_percentiles():
    assert np.isnan(percentiles(np.full(5, np.nan))).all()
    assert percentiles(np.array([1.0, np.nan, 1.0])) == (1, 1)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """A probe that is right for 70 % of patients (a patient's videos alike): 95 % intervals, 80 patients, 200 studies."""
    random, covered = np.random.default_rng(0), 0
    for study in range(200):
        groups = np.repeat(np.arange(80), random.integers(1, 5, 80))
        right = (random.random(80) < 0.7)[groups]
        truth = random.integers(2, size=80)[groups]
        p = np.eye(2)[np.where(right, truth, 1 - truth)]
        found, _ = intervals(truth, p, groups % 5, groups, seed=study, resamples=300)
        low, high = found["accuracy"]
        covered += low <= 0.7 <= high
    assert 0.89 <= covered / 200 <= 0.99
