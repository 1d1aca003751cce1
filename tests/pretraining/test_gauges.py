"""Gauges against a plain singular value decomposition, and what they say of a collapsed representation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echolung.pretraining.gauges import ROWS, context_shares, effective_rank, gauges
from echolung.pretraining.masks import Masks


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def rank_by_svd(rows: np.ndarray) -> float:
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    share = values[values > 1e-7 * values.max()]
    share = share / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


@given(n=st.integers(2, 40), d=st.integers(1, 40), decay=st.floats(0.3, 1.0), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_effective_rank_is_that_of_the_singular_values(n, d, decay, seed):
    rows = normal(n, d, seed=seed) * torch.tensor(decay) ** torch.arange(d)
    found = effective_rank(rows)
    assert found == pytest.approx(rank_by_svd(rows.double().numpy()), rel=1e-4)
    assert 1 - 1e-9 <= found <= min(n - 1, d) + 1e-9


def test_equal_directions_give_the_dimension():
    rows = torch.cat([torch.eye(12), -torch.eye(12)])
    assert effective_rank(rows) == pytest.approx(12)
    assert effective_rank(rows * 1e-12) == pytest.approx(12)


def test_collapse_to_one_direction_shows_as_rank_one():
    # Rounding in each of the other 299 directions must not add up to a rank.
    line = normal(2000, 1) * normal(1, 300, seed=1)
    assert effective_rank(line) < 1.001
    assert effective_rank(line + 5) < 1.01
    assert effective_rank(normal(2000, 300)) > 280


@pytest.mark.parametrize("value", [0.0, 0.1, -1e30])
@pytest.mark.parametrize("n", [1, 3, 50])
def test_constant_rows_have_rank_one_and_no_spread(value, n):
    found = gauges(torch.full((1, n, 8), value), torch.full((1, n, 8), -value))
    assert found["effective_rank_wanted"] == found["effective_rank_predicted"] == 1
    assert found["std_wanted"] == found["std_predicted"] == 0


def test_gauges_tell_targets_from_predictions_and_look_at_a_part():
    wanted, predicted = normal(8, 1024, 6), normal(8, 1024, 1, seed=1) * torch.full((1, 1, 6), 0.5)
    found = gauges(predicted.requires_grad_(), wanted)
    assert found["effective_rank_wanted"] == pytest.approx(6, rel=0.01)
    assert found["effective_rank_predicted"] == pytest.approx(1, abs=1e-3)
    assert found["std_wanted"] == pytest.approx(1, rel=0.03)
    assert found["std_predicted"] == pytest.approx(0.5, rel=0.03)
    evenly = wanted.flatten(0, 1)[::2]
    assert len(evenly) == ROWS
    assert found["std_wanted"] == pytest.approx(float(evenly.std(0, correction=0).mean()), rel=1e-5)


def test_half_precision_tokens():
    wanted = normal(4, 64, 16).bfloat16()
    found = gauges(wanted, wanted)
    assert found["effective_rank_wanted"] == pytest.approx(rank_by_svd(wanted.flatten(0, 1).double().numpy()), rel=1e-6)


def test_a_value_that_is_not_finite_gives_nan_not_an_error():
    wanted = normal(2, 5, 4)
    wanted[1, 2, 3] = float("nan")
    found = gauges(normal(2, 5, 4), wanted)
    assert math.isnan(found["effective_rank_wanted"])
    assert math.isnan(found["std_wanted"])
    assert math.isfinite(found["effective_rank_predicted"])


def test_context_shares_by_hand():
    # A grid of 3 slots of 2 × 2: ids 0–3, 4–7, 8–11.
    everywhere = Masks(context=np.array([[0, 4, 8], [1, 2, 11]]), target=np.array([[3], [3]]))
    early = Masks(context=np.array([[0, 1, 2, 3], [0, 1, 2, 3]]), target=np.array([[11], [11]]))
    assert context_shares([everywhere, early], (3, 2, 2)) == {
        "context_share_0": 0.25,
        "context_slots_0": [1.5, 0.5, 1.0],
        "context_share_1": pytest.approx(1 / 3),
        "context_slots_1": [4.0, 0.0, 0.0],
    }
