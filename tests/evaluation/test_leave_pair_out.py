"""Leave-pair-out over a store: chance on noise where leave-one-out is not, and nothing seen of the pair."""

import numpy as np
import pytest

from echolung.errors import InputError
from echolung.evaluation import leave_pair_out as module
from echolung.evaluation.leave_pair_out import leave_pair_out_auroc


def test_noise_is_a_half_and_a_signal_is_found(write_classes):
    noise = write_classes(patients=14, classes=2, signal=0.0, each=1, dim=8, seed=3)
    found = leave_pair_out_auroc(noise, most=30, epochs=5)
    assert 0.2 < found.value < 0.8 and len(found.pairs) == 30
    signal = write_classes(patients=14, classes=2, signal=3.0, each=1, dim=8)
    assert leave_pair_out_auroc(signal, most=12, epochs=10, hyper={"lr": 3e-2}).value > 0.9


def test_neither_of_a_pair_is_learnt_from(write_classes, monkeypatch):
    parts = []
    make = module._part

    def remember(setup, pair):
        part = make(setup, pair)
        parts.append((setup, pair, part))
        return part

    monkeypatch.setattr(module, "_part", remember)
    leave_pair_out_auroc(write_classes(patients=12, classes=2), most=5, epochs=2)
    for setup, pair, part in parts:
        assert not set(setup.data.groups[part.train]) & set(pair)
        assert set(setup.data.groups[part.test]) == set(pair) and (part.train | part.test).all()


def test_how_many_share_a_bank_changes_nothing(write_classes, monkeypatch):
    store, told = write_classes(patients=12, classes=2), []
    together = leave_pair_out_auroc(store, most=6, epochs=3)
    monkeypatch.setattr(module, "AT_ONCE", 2)
    alone = leave_pair_out_auroc(store, most=6, epochs=3, progress=told.append)
    np.testing.assert_array_equal(together.in_order, alone.in_order)
    assert told == [2, 2, 2]


def test_three_classes_and_too_few_patients(write_classes):
    with pytest.raises(InputError, match="two classes"):
        leave_pair_out_auroc(write_classes())
    with pytest.raises(InputError, match="too few patients"):
        leave_pair_out_auroc(write_classes(patients=5, classes=2))
