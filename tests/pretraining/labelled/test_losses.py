"""Class weights against scikit-learn's, and the loss that "auto" comes to."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from echolung.pretraining.labelled.labels import Labels
from echolung.pretraining.labelled.losses import balanced, head_loss
from echolung.pretraining.labelled.plans import ObjectivePlan

CPU = torch.device("cpu")


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), max_size=40))
def test_balanced_weights_are_those_of_scikit_learn(more):
    places = [0, 1, 2, *more]
    labels = Labels("severity", {f"d/{i}": float(place) for i, place in enumerate(places)}, ("a", "b", "c"))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=places)
    np.testing.assert_allclose(balanced(labels), expected, rtol=1e-6)


def test_the_published_weights():
    """scikit-learn's of 5,780 videos with EF >= 50 and 1,662 below, as dannilin2601/cardiac_classification has them."""
    values = {f"d/{i}": float(i < 1662) for i in range(7442)}
    np.testing.assert_allclose(balanced(Labels("ef-reduced", values, ("high", "low"))), [0.64377, 2.23887], atol=1e-5)


def test_a_class_without_videos_spoils_nothing():
    assert np.isfinite(balanced(Labels("t", {"d/a": 0.0, "d/b": 1.0}, ("a", "b", "c")))).all()


@pytest.mark.parametrize(("name", "expected"), [("coreecho", 6.0), ("echocotr", 37.0), ("supervised", 5.5)])
def test_what_auto_is_of_numbers(name, expected):
    loss = head_loss(ObjectivePlan(name=name, loss="auto"), Labels("ef", {"d/a": 1.0}), CPU)
    assert loss(torch.tensor([[60.0], [45.0]]), torch.tensor([55.0, 52.0])) == expected
