"""The whole procedure with permuted labels: a signal is told from chance, chance is not taken for one."""

import numpy as np
import pytest

from echolung.errors import InputError
from echolung.evaluation import cross_validate
from echolung.evaluation import permutations as module
from echolung.evaluation.permutations import permutation_test
from echolung.evaluation.summary import summarise


def test_the_observed_score_is_that_of_nested_cross_validation(write_classes):
    store = write_classes(signal=0.6)
    found = permutation_test(store, permutations=3, cv=3, epochs=3)
    assert found.metric == "balanced_accuracy" and len(found.null) == 3
    whole = summarise(cross_validate(store, cv=3, epochs=3, diagnose=False))
    assert found.observed == pytest.approx(whole.mean["balanced_accuracy"], abs=1e-6)


def test_a_signal_beats_every_permutation_and_noise_does_not(write_classes):
    signal = permutation_test(write_classes(signal=2.0), permutations=19, cv=3, epochs=5, hyper={"lr": 1e-2})
    assert signal.p == pytest.approx(1 / 20) and signal.observed > signal.null.max()
    noise = permutation_test(write_classes(signal=0.0, identity=1.0), permutations=19, cv=3, epochs=5)
    assert noise.p > 0.05
    assert noise.null.mean() == pytest.approx(1 / 3, abs=0.1)


def test_of_numbers_the_lesser_error_is_the_better(write_classes):
    found = permutation_test(
        write_classes(signal=2.0), task="number", permutations=9, cv=3, epochs=20, hyper={"lr": 3e-2}
    )
    assert found.metric == "mae" and found.observed < found.null.min() and found.p == pytest.approx(0.1)


def test_how_many_share_a_bank_changes_nothing(write_classes, monkeypatch):
    store = write_classes(signal=0.5)
    together = permutation_test(store, permutations=4, cv=3, epochs=3)
    monkeypatch.setattr(module, "AT_ONCE", 1)
    told = []
    alone = permutation_test(store, permutations=4, cv=3, epochs=3, progress=told.append)
    np.testing.assert_allclose(together.null, alone.null, atol=1e-6)
    assert told == [1] * 4


def test_none_is_refused(write_classes):
    with pytest.raises(InputError, match="1 at least"):
        permutation_test(write_classes(), permutations=0)
