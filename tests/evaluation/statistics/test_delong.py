"""Clustered DeLong against textbook placements, Obuchowski's formula, the jackknife, and simulated studies."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from echolung.evaluation.statistics.delong import clustered_auroc, compare_aurocs


def two(score: np.ndarray) -> np.ndarray:
    return np.stack([1 - score, score], axis=1)


def study(random: np.random.Generator, patients: int = 40, gap: float = 1.2):
    """Patients with 1 to 6 videos of one class; scores alike within a patient, and a second score that shares patients."""
    group = np.repeat(np.arange(patients), random.integers(1, 7, patients))
    truth = (group % 2).astype(np.int64)
    patient, noise = random.normal(size=(2, patients)), random.normal(0, 0.5, (2, len(group)))
    scores = patient[0][group] + gap * truth + noise[0], 0.7 * patient[0][group] + 0.7 * patient[1][group] + gap * truth
    return truth, group, *(two(s) for s in scores)


def slow_placements(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positive, negative = score[truth == 1], score[truth == 0]

    def kernel(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    return (
        np.array([np.mean([kernel(x, y) for y in negative]) for x in positive]),
        np.array([np.mean([kernel(x, y) for x in positive]) for y in negative]),
    )


def obuchowski(truth: np.ndarray, score: np.ndarray, groups: np.ndarray) -> float:
    """Return the variance of Obuchowski (1997), term by term."""
    v10, v01 = slow_placements(truth, score)
    area, m, n = v10.mean(), len(v10), len(v01)
    of_positive, of_negative = groups[truth == 1], groups[truth == 0]
    i10, i01, names = len(set(of_positive)), len(set(of_negative)), sorted(set(groups))
    a = {g: (v10[of_positive == g] - area).sum() for g in names}
    b = {g: (v01[of_negative == g] - area).sum() for g in names}
    s10 = i10 / ((i10 - 1) * m) * sum(a[g] ** 2 for g in names)
    s01 = i01 / ((i01 - 1) * n) * sum(b[g] ** 2 for g in names)
    s11 = len(names) / (len(names) - 1) * sum(a[g] * b[g] for g in names)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


@pytest.mark.parametrize("decimals", [1, 6])
def test_with_one_video_a_patient_it_is_delongs(decimals: int):
    random = np.random.default_rng(0)
    truth = random.permutation(np.arange(50) % 3 == 0).astype(np.int64)
    a, b = ((random.normal(size=50) + truth).round(decimals) for _ in range(2))
    (a10, a01), (b10, b01) = slow_placements(truth, a), slow_placements(truth, b)
    found = clustered_auroc(truth, two(a), None, np.arange(50))
    assert found.value == pytest.approx(roc_auc_score(truth, a)) == pytest.approx(a10.mean())
    assert found.se**2 == pytest.approx(a10.var(ddof=1) / len(a10) + a01.var(ddof=1) / len(a01))
    both = np.cov(a10, b10) / len(a10) + np.cov(a01, b01) / len(a01)
    gap = compare_aurocs(truth, two(a), two(b), None, np.arange(50))
    assert gap.difference == pytest.approx(a10.mean() - b10.mean())
    assert gap.se**2 == pytest.approx(both[0, 0] + both[1, 1] - 2 * both[0, 1])
    assert gap.p == pytest.approx(2 * stats.norm.sf(abs(gap.difference) / gap.se))
    assert gap.low == pytest.approx(gap.difference - 1.959964 * gap.se)


def test_clusters_are_obuchowskis():
    truth, groups, a, _ = study(np.random.default_rng(1))
    found = clustered_auroc(truth, a, None, groups.astype(str))
    assert found.se**2 == pytest.approx(obuchowski(truth, a[:, 1], groups))
    assert found.se > 1.3 * clustered_auroc(truth, a, None, np.arange(len(truth))).se
    mixed = groups.copy()
    mixed[groups % 3 == 0] = groups[groups % 3 == 0] // 6  # patients with videos of both classes
    found = clustered_auroc(truth, a, None, mixed)
    assert found.se**2 == pytest.approx(obuchowski(truth, a[:, 1], mixed), rel=0.02)


def test_folds_are_averaged_and_one_that_lacks_a_class_is_left_out():
    truth, groups, a, b = study(np.random.default_rng(2), 60)
    folds = groups // 2 % 4
    folds[groups == 1] = 9  # one class only
    parts = [folds == fold for fold in range(4)]
    found = clustered_auroc(truth, a, folds, groups)
    assert found.value == pytest.approx(np.mean([roc_auc_score(truth[own], a[own, 1]) for own in parts]))
    assert found.se**2 == pytest.approx(sum(obuchowski(truth[o], a[o, 1], groups[o]) for o in parts) / 16)
    gap, back = compare_aurocs(truth, a, b, folds, groups), compare_aurocs(truth, b, a, folds, groups)
    assert (gap.difference, gap.low, gap.p) == pytest.approx((-back.difference, -back.high, back.p))
    assert gap.difference == pytest.approx(found.value - clustered_auroc(truth, b, folds, groups).value)


def test_three_classes_have_the_variance_of_the_jackknife():
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(90), random.integers(1, 4, 90))
    truth = (groups % 3).astype(np.int64)
    logits = 1.5 * np.eye(3)[truth] + random.normal(size=(90, 3))[groups] + random.normal(size=(len(groups), 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    folds = groups // 3 % 2

    def area(kept: np.ndarray) -> float:
        own = [kept & (folds == fold) for fold in (0, 1)]
        return float(np.mean([roc_auc_score(truth[o], p[o], multi_class="ovr") for o in own]))

    found = clustered_auroc(truth, p, folds, groups)
    without = np.array([area(groups != g) for g in range(90)])
    assert found.value == pytest.approx(area(groups >= 0))
    assert found.se == pytest.approx(np.sqrt(89 / 90 * ((without - without.mean()) ** 2).sum()), rel=0.06)


def test_repeats_are_no_new_patients():
    truth, groups, a, b = study(np.random.default_rng(4))
    folds = groups // 2 % 3
    once = clustered_auroc(truth, a, folds, groups)
    again = [np.concatenate([x, x]) for x in (truth, a, b, groups)]
    twice = clustered_auroc(again[0], again[1], np.concatenate([folds, folds + 3]), again[3])
    assert tuple(twice) == pytest.approx(tuple(once))
    other = np.concatenate([folds, 3 + groups // 4 % 3])
    assert 0.8 < clustered_auroc(again[0], again[1], other, again[3]).se / once.se < 1.1
    single = np.where(folds == 0, np.where(truth == 1, groups == 1, True), True)  # fold 0: one positive patient
    cut = clustered_auroc(truth[single], a[single], folds[single], groups[single])
    rows = np.concatenate([single, single])
    doubled = clustered_auroc(again[0][rows], again[1][rows], np.concatenate([folds, folds + 3])[rows], again[3][rows])
    assert tuple(doubled) == pytest.approx(tuple(cut)) and cut.se > once.se


def test_what_cannot_be_known_is_nan():
    truth, groups = np.array([0, 0, 0, 1, 1, 1]), np.array(list("abcdef"))
    perfect = clustered_auroc(truth, two(np.arange(6) / 6), None, groups)
    assert perfect.value == 1 and np.isnan(perfect[1:]).all()
    assert np.isnan(clustered_auroc(np.zeros(6, int), two(np.arange(6) / 6), None, groups)).all()
    one_positive = clustered_auroc(np.array([0, 0, 1, 0, 0, 0]), two(np.arange(6) / 6), None, groups)
    assert one_positive.value == 0.4 and np.isnan(one_positive[1:]).all()
    same = compare_aurocs(
        truth, two(np.array([1, 2, 4, 3, 5, 6]) / 6), two(np.array([1, 2, 4, 3, 5, 6]) / 6), None, groups
    )
    assert (same.difference, same.p) == (0, 1)


def test_intervals_cover_with_clusters_and_do_not_without():
    """True AUROC Φ(1.2 / √2.5); 300 studies of 40 patients."""
    random, true, covered = np.random.default_rng(5), stats.norm.cdf(1.2 / np.sqrt(2.5)), np.zeros(2)
    rejected = 0
    for _ in range(300):
        truth, groups, a, _ = study(random)
        for i, patients in enumerate((groups, np.arange(len(truth)))):
            found = clustered_auroc(truth, a, None, patients)
            covered[i] += found.low <= true <= found.high
        truth, groups, a, b = study(random, gap=0)
        rejected += compare_aurocs(truth, a, b, None, groups).p < 0.05
    clustered, naive = covered / 300
    assert 0.91 <= clustered <= 0.98 and naive < 0.85
    assert 0.02 <= rejected / 300 <= 0.09
