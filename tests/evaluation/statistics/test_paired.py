"""Two runs: the bootstrap against a loop with scikit-learn, swaps against scipy's exact permutation test."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from echolung.evaluation.statistics.paired import paired_bootstrap, sign_flip
from echolung.evaluation.statistics.resampling import draw


def two_runs(seed: int = 0, patients: int = 40, classes: int = 3, gain: float = 1.0):
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), random.integers(1, 4, patients))
    truth = (groups % classes).astype(np.int64)
    shared = random.normal(size=(patients, classes))[groups]
    runs = []
    for strength in (1.0 + gain, 1.0):
        logits = strength * np.eye(classes)[truth] + shared + random.normal(size=shared.shape)
        runs.append(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
    return truth, *runs, groups // 3 % 4, groups.astype(str)


def auroc(truth: np.ndarray, p: np.ndarray, folds: np.ndarray) -> float:
    parts = [folds == fold for fold in np.unique(folds)]
    whole = [own for own in parts if len(np.unique(truth[own])) == p.shape[1]]
    return float(np.mean([sk.roc_auc_score(truth[own], p[own], multi_class="ovr") for own in whole]))


SLOW = {
    "accuracy": lambda t, p, f: sk.accuracy_score(t, p.argmax(1)),
    "balanced_accuracy": lambda t, p, f: sk.balanced_accuracy_score(t, p.argmax(1)),
    "auroc": auroc,
}


@pytest.mark.parametrize("measure", list(SLOW))
def test_both_runs_get_the_same_draw(measure: str):
    truth, a, b, folds, patients = two_runs()
    found = paired_bootstrap(truth, a, b, folds, patients, measure, seed=5, resamples=25)
    assert found.redrawn == 0
    rows = [np.repeat(np.arange(len(truth)), row) for row in draw(patients, 5, 25)]
    expected = [SLOW[measure](truth[i], a[i], folds[i]) - SLOW[measure](truth[i], b[i], folds[i]) for i in rows]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])))
    assert found.se == pytest.approx(np.std(expected, ddof=1))
    assert found.a == pytest.approx(SLOW[measure](truth, a, folds))
    assert found.difference == pytest.approx(found.a - SLOW[measure](truth, b, folds))


def test_a_run_against_itself_differs_by_nothing():
    truth, a, _, folds, patients = two_runs()
    assert paired_bootstrap(truth, a, a, folds, patients, "auroc")[2:6] == (0, 0, 0, 0)
    assert sign_flip(truth, a, a, folds, patients, "auroc", swaps=100).p == 1


def test_seeds_of_the_encoder_are_resampled_too():
    """Errors that are the same for all patients: only seeds vary, and the interval is that of a mean of so many seeds."""
    truth, offsets = np.arange(30.0), np.array([1.0, 2.0, 4.0])
    one, several = truth[:, None] + 1.0, [truth[:, None] + offset for offset in offsets]
    folds = np.zeros(30, int)
    found = paired_bootstrap(truth, several, one, folds, np.arange(30), "mae", resamples=20000)
    assert found.difference == pytest.approx(offsets.mean() - 1)
    assert found.se == pytest.approx(offsets.std(ddof=1) / np.sqrt(3), rel=0.02)
    truth, a, b, folds, patients = two_runs()
    alone = paired_bootstrap(truth, a, b, folds, patients)
    assert paired_bootstrap(truth, [a], [b, b], [folds], patients, folds_b=[folds, folds]) == pytest.approx(alone)


def test_resamples_that_lose_a_class_in_either_runs_folds_are_redrawn():
    random = np.random.default_rng(0)
    truth = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    a, b = random.dirichlet([1, 1], 10), random.dirichlet([1, 1], 10)
    folds_a, folds_b = np.zeros(10, int), np.array([0, 1, 0, 0, 0, 0, 1, 1, 1, 1])
    found = paired_bootstrap(truth, a, b, folds_a, np.arange(10), "auroc", folds_b, resamples=500)
    fewer = paired_bootstrap(truth, a, b, folds_a, np.arange(10), "auroc", resamples=500)
    assert found.redrawn >= fewer.redrawn > 20 and np.isfinite(found).all()


def test_swaps_are_scipys_where_all_can_be_tried():
    random = np.random.default_rng(1)
    truth, folds = random.normal(size=9), np.zeros(9, int)
    a, b = (truth[:, None] + random.normal(0.3 * i, 1, (9, 1)) for i in (1, 3))
    found = sign_flip(truth, a, b, folds, np.arange(9), "mae")
    errors = [np.abs(run[:, 0] - truth) for run in (a, b)]
    expected = stats.permutation_test(
        errors, lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert found.exact and found.swaps == 512
    assert found.difference == pytest.approx(expected.statistic) and found.p == pytest.approx(expected.pvalue)


def test_swaps_of_accuracy_are_mcnemars_exact_test():
    random = np.random.default_rng(2)
    truth = random.integers(2, size=60)
    right = random.random((2, 60)) < np.array([[0.85], [0.6]])
    a, b = (np.eye(2)[np.where(r, truth, 1 - truth)] for r in right)
    found = sign_flip(truth, a, b, np.zeros(60, int), np.arange(60), "accuracy", swaps=20000)
    only = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
    assert not found.exact
    assert found.p == pytest.approx(stats.binomtest(int(only[0]), int(sum(only))).pvalue, abs=0.01)


def test_swaps_keep_a_patient_whole():
    """Ten videos a patient that fare alike: were videos swapped one by one, three patients would look like thirty."""
    patients, truth = np.repeat(np.arange(3), 10), np.tile([0, 1], 15)
    a, b = np.eye(2)[truth] * 0.8 + 0.1, np.full((30, 2), [0.9, 0.1])
    found = sign_flip(truth, a, b, np.zeros(30, int), patients, "balanced_accuracy")
    assert found.exact and found.swaps == 8 and found.p == 0.25
    assert sign_flip(truth, a, b, np.zeros(30, int), np.arange(30), "balanced_accuracy").p < 0.001


def test_swaps_do_not_care_for_the_scale_of_scores():
    """Equally good runs, one of which is far surer of itself: AUROC differs by chance alone."""
    random, p = np.random.default_rng(3), []
    for _ in range(150):
        truth = np.arange(30) % 2
        a, b = (1 / (1 + np.exp(-sure * (truth + random.normal(size=30)))) for sure in (0.1, 5))
        runs = [np.stack([1 - score, score], 1) for score in (a, b)]
        p.append(sign_flip(truth, *runs, np.zeros(30, int), np.arange(30), "auroc", swaps=99, seed=len(p)).p)
    assert 0.01 <= (np.array(p) <= 0.05).mean() <= 0.10
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_several_seeds_are_compared_each_with_each():
    truth, a, b, folds, patients = two_runs(gain=0.5)
    c = b[:, ::-1].copy()
    found = sign_flip(truth, [a], [b, c], folds, patients, "accuracy", swaps=50)
    each = [sign_flip(truth, a, x, folds, patients, "accuracy", swaps=50).difference for x in (b, c)]
    assert found.difference == pytest.approx(np.mean(each))
