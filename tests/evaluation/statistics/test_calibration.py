"""Reliability against scikit-learn, temperature against a known one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from echolung.evaluation.metrics import brier, calibration_error
from echolung.evaluation.statistics.calibration import apply_temperature, calibration, fit_temperature, reliability


def honest(classes: int = 3, v: int = 4000, seed: int = 0):
    """Logits whose softmax is how often a class comes true."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (v, classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (p.cumsum(1) < random.random((v, 1))).sum(1)
    return truth, logits, p


def test_curve_of_a_class_is_scikit_learns():
    truth, _, p = honest(2, 500)
    found = reliability(truth, p, np.arange(500), of_class=1)
    observed, confidence = calibration_curve(truth, p[:, 1], n_bins=10)
    np.testing.assert_allclose(found.observed, observed)
    np.testing.assert_allclose(found.confidence, confidence)
    assert found.count.sum() == 500
    assert (found.low <= found.confidence).all() and (found.confidence <= found.high).all()


def test_curve_of_the_top_class_is_what_ece_sums():
    truth, _, p = honest(3, 300)
    found = reliability(truth, p, np.arange(300) // 3)
    gap = (found.count * np.abs(found.observed - found.confidence)).sum() / 300
    assert gap == pytest.approx(calibration_error(truth, p))
    assert (found.observed_low <= found.observed).all() and (found.observed <= found.observed_high).all()


def test_band_covers_an_honest_curve_and_is_wider_for_fewer_patients():
    truth, _, p = honest(2, 2000)
    one_each = reliability(truth, p, np.arange(2000))
    inside = (one_each.observed_low <= one_each.confidence) & (one_each.confidence <= one_each.observed_high)
    assert inside.mean() >= 0.8
    again = np.tile(np.arange(200), 10)
    few = reliability(truth[again], p[again], again)
    many = reliability(truth[again], p[again], np.arange(2000))
    assert (few.observed_high - few.observed_low).mean() > 2 * (many.observed_high - many.observed_low).mean()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_temperature_that_spoilt_them_is_found(temperature: float):
    truth, logits, p = honest()
    spoilt = temperature * logits
    found = fit_temperature(spoilt, truth)
    assert found == pytest.approx(temperature, rel=0.05)
    said = apply_temperature(p, 1 / temperature)
    assert fit_temperature(np.log(said), truth) == pytest.approx(found, rel=1e-3)
    mended = apply_temperature(said, found)
    np.testing.assert_allclose(mended, p, atol=0.02)
    before, after = calibration(truth, said), calibration(truth, said, mended)
    assert set(before) == {"ece", "brier", "log_loss"} and before["brier"] == after["brier"] == brier(truth, said)
    if temperature != 1:
        assert all(after[f"{name}_after"] < after[name] for name in before)


def test_extreme_probabilities_have_a_temperature():
    sure = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    with np.errstate(divide="ignore"):
        log_p = np.log(sure)
    wrong = fit_temperature(log_p, np.array([0, 1, 1]))
    assert 1 < wrong <= 10 and np.isfinite(apply_temperature(sure, wrong)).all()
    assert fit_temperature(np.log(0.2 * sure + 0.4), np.array([0, 1, 0])) == pytest.approx(0.1, rel=0.01)


@given(st.integers(0, 100), st.floats(0.5, 10))
def test_no_temperature_changes_the_order_of_classes(seed: int, temperature: float):
    p = np.random.default_rng(seed).dirichlet(np.ones(4), 5)
    changed = apply_temperature(p, temperature)
    assert (changed.argmax(1) == p.argmax(1)).all()
    np.testing.assert_allclose(changed.sum(1), 1)
    np.testing.assert_allclose(apply_temperature(changed, 1 / temperature), p, atol=1e-9)
