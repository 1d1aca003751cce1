"""Pooled losses and how ties are broken."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from echolung.evaluation.selection import Choice, Collector, HeldOut, choose, losses
from echolung.probes import PROBES, Job
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
    held = [np.arange(6) == 0, np.arange(6) > 0]
    jobs = [Job(setting, ~watch, watch=watch) for watch in held for setting in SETTINGS[:2]]
    collector = Collector(truth, jobs, [(0, 0), (0, 1)] * 2, epochs=1)
    outputs = np.random.default_rng(0).normal(size=(4, 6, 2)).astype(np.float32)
    collector.on_epoch(1, [3, 0], outputs[[3, 0]])
    assert np.isnan(collector.losses).all(), "a fold is not in yet"
    collector.on_epoch(1, [1, 2], outputs[[1, 2]])
    for setting in range(2):
        logits = np.where(held[0][:, None], outputs[setting], outputs[2 + setting])
        assert collector.losses[0, setting, 0] == pytest.approx(log_loss(truth, softmax(logits)), rel=1e-5)


def output(loss, targets):
    """Return one number a video, off by the root of a loss."""
    return (targets + np.sqrt(np.float32(loss)))[:, None].astype(np.float32)


def test_only_epochs_that_all_folds_have_reached_count():
    targets, held = np.zeros(4, np.float32), np.arange(4) < 1
    jobs = [Job({}, ~held, watch=held), Job({}, held, watch=~held)]
    known = HeldOut(targets, jobs, epochs=3)
    assert known.best() == (np.inf, 1)
    said = [known.add(1, jobs[0], output(5, targets)), known.add(1, jobs[1], output(1, targets))]
    assert said == [False, True] and known.best() == (pytest.approx(2.0), 1)
    assert not known.add(2, jobs[0], output(0, targets)) and known.best()[1] == 1
    assert known.add(2, jobs[1], output(np.nan, targets)) and known.best()[1] == 1, "diverged"


def test_what_has_not_fallen_for_so_long_has_stalled():
    targets = np.zeros(4, np.float32)
    job = Job({}, np.ones(4, bool))  # watches all
    known = HeldOut(targets, [job], epochs=6)
    stalled = []
    for epoch, loss in enumerate((3, 2, 2, 4, 1, 5), 1):
        known.add(epoch, job, output(loss, targets))
        stalled.append(known.has_stalled(epoch, patience=2))
    assert stalled == [False, False, False, True, False, False]
    diverged = HeldOut(targets, [job], epochs=6)
    for epoch in range(1, 7):
        diverged.add(epoch, job, output(np.nan, targets))
    assert not diverged.has_stalled(6, patience=2)
