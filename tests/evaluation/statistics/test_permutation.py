"""Shuffled patients, p-values that are never 0, and what the cheap test says of noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from echolung.evaluation.statistics.permutation import p_value, posthoc, shuffle_patients


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(0, 1000))
def test_each_patient_receives_the_labels_of_another(members: list[int], seed: int):
    patients = np.array([f"p{member}" for member in members])
    labels = np.arange(len(members)) * 10 + np.array(members)  # tell who they are of, and in which order
    shuffled = shuffle_patients(labels, patients, seed)
    givers = []
    for name in np.unique(patients):
        got = shuffled[patients == name]
        giver = f"p{got[0] % 10}"
        givers.append(giver)
        assert got.tolist() == np.resize(labels[patients == giver], len(got)).tolist()
    assert sorted(givers) == np.unique(patients).tolist()
    assert (shuffle_patients(labels, patients, seed) == shuffled).all()


def test_p_values():
    null = np.array([0.1, 0.2, 0.3, 0.4, np.nan])
    assert p_value(0.5, null) == 1 / 5
    assert p_value(0.3, null) == p_value(0.3 + 1e-15, null) == 3 / 5
    assert p_value(0.3, null, larger_is_better=False) == 4 / 5
    assert p_value(0.0, np.array([])) == 1


def test_predictions_of_noise_and_of_something():
    random, p = np.random.default_rng(0), []
    patients, folds = np.arange(60) // 2, np.arange(60) // 2 % 3
    truth = (patients % 2).astype(np.int64)
    for seed in range(40):
        scores = random.dirichlet([1, 1], 30)[patients]  # a patient's videos are alike
        p.append(posthoc(truth, scores, folds, patients, "accuracy", 39, seed).p)
    assert stats.kstest(p, "uniform").pvalue > 0.001 and np.mean(np.array(p) <= 0.05) < 0.15
    known = 0.5 * scores + 0.5 * np.eye(2)[truth]
    found = posthoc(truth, known, folds, patients, "auroc", 99)
    assert found.observed == 1 and found.p == 0.01 and found.null.mean() == pytest.approx(0.5, abs=0.05)
    numbers = posthoc(truth * 1.0, known[:, 1:], folds, patients, "mae", 99)
    assert numbers.observed < numbers.null.min() and numbers.p == 0.01


def test_a_video_keeps_one_label_in_all_repeats(monkeypatch):
    """Predictions of two repeats that disagree about every video are half right whatever the labels."""
    truth, patients, videos = np.tile([0, 1, 0], 8), np.tile(np.arange(12) // 3, 2), np.tile(np.arange(12), 2)
    said = np.eye(2)[np.concatenate([truth[:12], 1 - truth[:12]])]
    found = posthoc(truth, said, np.repeat([0, 1], 12), patients, "accuracy", 50, videos=videos)
    assert found.observed == 0.5 and (found.null == 0.5).all() and found.p == 1
