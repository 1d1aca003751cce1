"""Patient bootstrap: whole patients, the right statistics, intervals that cover."""

import numpy as np
import pytest
from sklearn import metrics as sk

from echolung.evaluation.bootstrap import intervals, resample, weighted_auroc


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


@pytest.mark.parametrize("classes", [2, 3])
def test_intervals_are_quantiles_of_scikit_learns_metrics(classes: int):
    truth, p, folds, groups = made_up(40, classes, 1)
    values = {"accuracy": [], "balanced_accuracy": [], "auroc": []}
    for row in resample(groups, 7, 2000)[:300]:
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
    few = pytest.MonkeyPatch()
    with few.context() as patch:
        patch.setattr("echolung.evaluation.bootstrap.resample", lambda g, s: resample(g, s, 2000)[:300])
        found = intervals(truth, p, folds, groups, seed=7)
    for name, value in values.items():
        np.testing.assert_allclose(found[name], np.nanquantile(value, [0.025, 0.975]), atol=1e-12, err_msg=name)


def test_intervals_of_numbers():
    random = np.random.default_rng(0)
    truth, groups = random.normal(size=60), np.arange(60) // 2
    scores = truth[:, None] + random.normal(size=(60, 1))
    found = intervals(truth, scores, np.zeros(60, int), groups)
    for name, score in (("mae", sk.mean_absolute_error), ("rmse", sk.root_mean_squared_error)):
        values = [score(truth, scores[:, 0], sample_weight=row) for row in resample(groups, 0, 2000)]
        np.testing.assert_allclose(found[name], np.quantile(values, [0.025, 0.975]), atol=1e-12)


def test_nobody_invents_an_auroc():
    truth, p, _, groups = made_up(12, 3, 2)
    found = intervals(truth, p, truth.copy(), groups)  # each fold holds one class
    assert "auroc" not in found and set(found) == {"accuracy", "balanced_accuracy"}


def test_intervals_cover_the_truth_about_as_often_as_they_say(monkeypatch):
    """A probe that is right for 70 % of patients (a patient's videos alike): 95 % intervals, 80 patients, 200 studies."""
    monkeypatch.setattr("echolung.evaluation.bootstrap.resample", lambda g, s: resample(g, s, 300))
    random, covered = np.random.default_rng(0), 0
    for study in range(200):
        groups = np.repeat(np.arange(80), random.integers(1, 5, 80))
        right = (random.random(80) < 0.7)[groups]
        truth = random.integers(2, size=80)[groups]
        p = np.eye(2)[np.where(right, truth, 1 - truth)]
        low, high = intervals(truth, p, groups % 5, groups, seed=study)["accuracy"]
        covered += low <= 0.7 <= high
    assert 0.89 <= covered / 200 <= 0.99
