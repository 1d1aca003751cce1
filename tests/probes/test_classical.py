"""Logistic regression and nearest neighbours against scikit-learn's pipeline and brute force."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from echolung.probes import PROBES, Features, Job, Training
from echolung.probes.classical import knn_fit, knn_predict, logistic_fit, logistic_predict
from echolung.probes.saved import softmax


def data(classes: int, v: int = 60, d: int = 8):
    random = np.random.default_rng(classes)
    labels = np.arange(v) % classes
    scale = 10.0 ** np.arange(-3, d - 3)
    means = (random.normal(size=(classes, d))[labels] + random.normal(size=(v, d))) * scale + 5 * scale
    means[:, 2] = 4.0  # a constant column must not divide by zero
    return means.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("c", [0.01, 1.0])
def test_logistic_is_scikit_learns_pipeline(classes: int, c: float):
    means, labels = data(classes)
    arrays = logistic_fit(means[:40], labels[:40], classes, {"C": c})
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))
    pipeline.fit(means[:40].astype(np.float64), labels[:40])
    logits = logistic_predict(arrays, means)
    assert logits.shape == (60, classes)
    np.testing.assert_allclose(softmax(logits), pipeline.predict_proba(means.astype(np.float64)), atol=1e-5)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_l1_and_elastic_net_are_at_the_optimum_of_their_objective(share: float):
    """C Σ log-loss + ρ Σ|w| + (1 - ρ)/2 Σw²: where w is not 0 its derivative is, where w is 0 the loss pulls less than ρ."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [27, 7])
    means = (random.normal(size=(34, 30)) + labels[:, None] * (np.arange(30) < 3)).astype(np.float32)
    setting = {"C": 0.5, "l1_ratio": share}
    arrays = logistic_fit(means, labels, 2, setting)
    w = arrays["weight"][1]
    pull = (
        0.5 * (labels - softmax(logistic_predict(arrays, means))[:, 1]) @ ((means - arrays["mean"]) / arrays["scale"])
    )
    chosen = w != 0
    assert 2 <= chosen.sum() <= 25 and not arrays["weight"][0].any()
    np.testing.assert_allclose(pull[chosen], share * np.sign(w[chosen]) + (1 - share) * w[chosen], atol=5e-3)
    assert (np.abs(pull[~chosen]) <= share + 5e-3).all()
    np.testing.assert_array_equal(logistic_fit(means, labels, 2, setting)["weight"], arrays["weight"])


@pytest.mark.parametrize("classes", [2, 3])
def test_a_share_of_nothing_is_l2_alone(classes: int):
    means, labels = data(classes)
    plain, nothing = (logistic_fit(means, labels, classes, {"C": 0.1, **more}) for more in ({}, {"l1_ratio": 0.0}))
    np.testing.assert_array_equal(plain["weight"], nothing["weight"])
    little = logistic_fit(means, labels, classes, {"C": 0.1, "l1_ratio": 1e-6})
    first, second = (softmax(logistic_predict(arrays, means)) for arrays in (plain, little))
    np.testing.assert_allclose(first, second, atol=1e-2)


def brute_force(train, labels, test, k):
    std = train.std(0)
    std[std == 0] = 1
    distance = (((test[:, None] - train) / std) ** 2).sum(2)
    return labels[np.argsort(distance, axis=1)[:, :k]]


@pytest.mark.parametrize("k", [1, 5, 25, 1000])
def test_knn_is_brute_force_with_one_vote_more_a_class(k: int):
    means, labels = data(3)
    arrays = knn_fit(means[:40], labels[:40], 3, {"k": float(k)})
    near = brute_force(means[:40].astype(float), labels[:40], means[40:].astype(float), min(k, 40))
    votes = np.stack([(near == c).sum(1) + 1 for c in range(3)], 1)
    found = softmax(knn_predict(arrays, means[40:]))
    np.testing.assert_allclose(found, votes / votes.sum(1, keepdims=True), atol=1e-6)
    assert found.min() > 0


def test_knn_regression_is_the_neighbours_mean():
    means, _ = data(3)
    numbers = np.random.default_rng(0).normal(size=40).astype(np.float32)
    near = brute_force(means[:40].astype(float), numbers, means[40:].astype(float), 5)
    found = knn_predict(knn_fit(means[:40], numbers, 1, {"k": 5.0}), means[40:])
    np.testing.assert_allclose(found[:, 0], near.mean(1), atol=1e-6)


@pytest.mark.parametrize("name", ["logistic", "knn"])
def test_jobs_learn_from_their_own_videos_and_keep_what_is_asked(name: str):
    means, labels = data(3)
    features = Features(tuple(map(str, range(60))), means[:, None, None])
    kind = PROBES[name]
    jobs = [Job(kind.settings[2], np.arange(60) < 30), Job(kind.settings[1], np.arange(60) >= 30, keep=1)]
    looks = {}
    kept = kind.fit(features, labels, 3, jobs, Training(1), lambda e, i, outputs: looks.update({(e, *i): outputs[0]}))
    assert set(looks) == {(1, 0), (1, 1)} and kept[0] is None
    np.testing.assert_array_equal(kind.predict(kept[1], features, jobs[1].setting), looks[1, 1])
    alone = kind.fit(
        features.select(np.arange(30)),
        labels[:30],
        3,
        [Job(kind.settings[2], np.ones(30, bool), 1)],
        Training(1),
        lambda *_: None,
    )
    np.testing.assert_allclose(kind.predict(alone[0], features, jobs[0].setting), looks[1, 0], atol=1e-5)
    assert 0 < kind.estimate(features, labels, 3, jobs, Training(1)) < 5
