"""Leave-pair-out: on noise it is one half, where pooled leave-one-out is not."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from echolung.evaluation.statistics.pair_out import auroc_of_pairs, leave_pair_out, pairs


def nearest_means(x: np.ndarray, truth: np.ndarray):
    """Linear discriminant with unit covariance, and the classes' shares among the training videos."""

    def fit_predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        own, label = x[train], truth[train]
        scores = [
            -0.5 * ((x[test] - own[label == c].mean(0)) ** 2).sum(1) + np.log((label == c).mean()) for c in (0, 1)
        ]
        return scores[1] - scores[0]

    return fit_predict


def test_noise_is_half_where_pooled_leave_one_out_is_far_below():
    random, values = np.random.default_rng(0), []
    for seed in range(60):
        truth, x = np.arange(20) % 2, random.normal(size=(20, 1))
        fit_predict, everyone = nearest_means(x, truth), np.arange(20)
        pooled = np.array([fit_predict(np.delete(everyone, i), everyone[i : i + 1])[0] for i in everyone])
        found = leave_pair_out(fit_predict, truth, everyone.astype(str), most=40, seed=seed)
        values.append((roc_auc_score(truth, pooled), found.value))
    one_out, pair_out = np.mean(values, axis=0)
    assert one_out < 0.35
    assert pair_out == pytest.approx(0.5, abs=0.06)


def test_fixed_scores_have_the_ordinary_auroc():
    random = np.random.default_rng(0)
    truth, score = np.arange(15) % 3 == 0, random.normal(size=15).round(1)
    names = np.arange(15).astype(str)
    left_out = pairs(truth, names)
    found = auroc_of_pairs(truth, names, left_out, np.tile(score, (len(left_out), 1)))
    assert len(left_out) == 50 and found.value == pytest.approx(roc_auc_score(truth, score))


def test_both_patients_are_left_out_whole_and_only_they_are_asked():
    truth = np.array([1, 1, 0, 0, 0, 1, 0])
    groups = np.array(list("aabbcca"))  # c and a have videos of both classes
    asked = []

    def fit_predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        assert set(groups[train]).isdisjoint(groups[test]) and len(train) + len(test) == 7
        asked.append("".join(sorted(set(groups[test]))))
        return test.astype(float)

    found = leave_pair_out(fit_predict, truth, groups)
    assert sorted(found.pairs) == [("a", "b"), ("a", "c"), ("c", "a"), ("c", "b")]
    assert sorted(asked) == ["ab", "ac", "ac", "bc"]
    by_pair = dict(zip(found.pairs, found.in_order, strict=True))
    # places: a's positives 0 1, its negative 6; b's negatives 2 3; c's negative 4, its positive 5
    assert by_pair == {("a", "b"): 0, ("a", "c"): 0, ("c", "a"): 0, ("c", "b"): 1}
    assert found.value == 0.25


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 90), st.integers(0, 20))
def test_pairs_are_different_and_patients_equally_often_among_them(p: int, n: int, most: int, seed: int):
    truth, names = np.arange(p + n) < p, np.arange(p + n).astype(str)
    found = pairs(truth, names, most, seed)
    assert len(found) == len(set(found)) == min(most, p * n)
    for side, count in ((0, p), (1, n)):
        often = Counter(pair[side] for pair in found)
        assert max(often.values()) - min([often[name] for name in often] if len(often) == count else [0]) <= 1
    assert all(truth[int(one)] and not truth[int(other)] for one, other in found)
    assert found == pairs(truth, names, most, seed)


def test_one_class_has_no_pairs():
    found = leave_pair_out(lambda train, test: np.zeros(len(test)), np.ones(4), np.arange(4))
    assert found.pairs == [] and np.isnan(found.value)


def test_seven_against_twenty_seven_are_189_pairs_each_once():
    truth = (np.arange(34) < 7).astype(int)
    found = pairs(truth, np.array([f"p{i}" for i in range(34)]), 200)
    assert len(found) == len(set(found)) == 189
