"""Pooled losses and how ties are broken."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from echolung.evaluation.data import TaskData
from echolung.evaluation.selection import Choice, Collector, choose, losses
from echolung.probes import PROBES
from echolung.probes.saved import softmax

SETTINGS = PROBES["linear"].settings


def test_losses_are_log_loss_and_squared_error():
    random = np.random.default_rng(0)
    logits, truth = 5 * random.normal(size=(40, 3)).astype(np.float32), random.integers(3, size=40)
    assert losses(logits, truth).mean() == pytest.approx(log_loss(truth, softmax(logits), labels=[0, 1, 2]), rel=1e-5)
    assert losses(np.array([[1000.0, 0.0]], np.float32), np.array([1])) == pytest.approx([1000.0])
    numbers = np.array([1.0, 2.0], np.float32)
    assert losses(np.array([[3.0], [2.5]], np.float32), numbers).tolist() == [4.0, 0.25]


def test_ties_go_to_the_smaller_rate_the_larger_decay_the_earlier_epoch():
    loss = np.ones((9, 4))
    assert choose(loss, SETTINGS) == Choice({"lr": 3e-4, "weight_decay": 0.04}, 1)
    loss[[2, 4, 7], 2:] = 0.5
    assert choose(loss, SETTINGS) == Choice({"lr": 3e-4, "weight_decay": 0.0004}, 3)
    loss[4, 3] = 0.4
    assert choose(loss, SETTINGS) == Choice({"lr": 1e-3, "weight_decay": 0.004}, 4)


def test_a_setting_that_diverged_is_never_the_best():
    loss = np.ones((9, 4))
    loss[0, 1:], loss[3] = np.nan, np.inf
    loss[5, 2] = 0.9
    assert choose(loss, SETTINGS) == Choice(SETTINGS[5], 3)


def test_losses_are_pooled_over_inner_folds_not_averaged():
    """Inner folds of 1 and 5 videos: each video weighs the same."""
    truth = np.array([0, 0, 0, 1, 1, 1])
    data = TaskData.__new__(TaskData)
    object.__setattr__(data, "targets", truth)
    held = [np.arange(6) == 0, np.arange(6) > 0]
    collector = Collector(data, [(0, held[0]), (0, held[0]), (0, held[1]), (0, held[1])], settings=2, epochs=1, parts=1)
    outputs = np.random.default_rng(0).normal(size=(4, 6, 2)).astype(np.float32)
    collector.on_epoch(1, [3, 0], outputs[[3, 0]])
    collector.on_epoch(1, [1, 2], outputs[[1, 2]])
    for setting in range(2):
        logits = np.where(held[0][:, None], outputs[setting], outputs[2 + setting])
        assert collector.losses[0, setting, 0] == pytest.approx(log_loss(truth, softmax(logits)), rel=1e-5)
