"""Rank-N-Contrast against its formula written out, what must not change it, and where a naive form breaks down."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echolung.pretraining.labelled.rank_n_contrast import rank_n_contrast


def formula(z: torch.Tensor, y: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the loss in float64, one pair after the other."""
    z, y, n = z.double(), y.double(), len(y)
    total = z.new_zeros(())
    for i in range(n):
        s = {k: -(z[i] - z[k]).square().sum().sqrt() / temperature for k in range(n) if k != i}
        for j in s:
            rivals = [s[k] for k in s if abs(y[i] - y[k]) >= abs(y[i] - y[j])]
            total = total + torch.stack(rivals).logsumexp(0) - s[j]
    return total / (n * (n - 1))


def drawn(seed: int, n: int = 9, d: int = 4, levels: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Return embeddings and labels of which many are the same."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=random), torch.randint(levels, (n,), generator=random).float()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 10),
    levels=st.integers(1, 6),
    temperature=st.sampled_from([0.05, 1, 2.0, 30.0]),
)
def test_against_the_formula(seed, n, levels, temperature):
    z, y = drawn(seed, n, levels=levels)
    one, other = (z.clone().requires_grad_() for _ in range(2))
    found, expected = rank_n_contrast(one, y, temperature), formula(other, y, temperature)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    found.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_more_rows_than_cdist_takes_by_differences_of_its_own_accord():
    z, y = drawn(0, 60)
    z[1::2] = z[::2] + 1e-3 * z[1::2]  # pairs that all but coincide, far from the origin
    z, y = 100 + z, y.repeat_interleave(2)[:60]
    one, other = (z.clone().requires_grad_() for _ in range(2))
    found, expected = rank_n_contrast(one, y, 0.01), formula(other, y, 0.01)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    found.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-3)


def test_embeddings_that_coincide_leave_the_sizes_of_the_sets_of_rivals():
    z, y = torch.ones(6, 3, requires_grad=True), torch.tensor([1.0, 1, 2, 4, 4, 7])
    sizes = [
        sum(abs(y[i] - y[k]) >= abs(y[i] - y[j]) for k in range(6) if k != i)
        for i in range(6)
        for j in range(6)
        if j != i
    ]
    loss = rank_n_contrast(z, y, 1.0)
    assert loss.item() == pytest.approx(sum(math.log(size) for size in sizes) / 30, rel=1e-6)
    loss.backward()
    assert torch.equal(z.grad, torch.zeros(6, 3))


def test_labels_that_are_all_the_same_leave_a_softmax_over_all_others():
    z, _ = drawn(3)
    s = -torch.cdist(z, z).fill_diagonal_(torch.inf)
    expected = -s.log_softmax(1)[~torch.eye(9, dtype=torch.bool)].mean()
    torch.testing.assert_close(rank_n_contrast(z, torch.full((9,), 55.6), 1.0), expected)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_up_to_two_clips_there_is_nothing_to_rank(n):
    z = torch.randn(n, 3, requires_grad=True)
    loss = rank_n_contrast(z, torch.arange(n).float(), 1.0)
    loss.backward()
    assert loss.shape == ()
    assert loss == 0
    assert torch.equal(z.grad, torch.zeros(n, 3))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.25, 3.0, -1.0, -2.0]), shift=st.integers(-40, 40))
def test_what_must_not_change_it(seed, scale, shift):
    z, y = (values.double() for values in drawn(seed))
    plain = rank_n_contrast(z, y, 2.0)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    torch.testing.assert_close(rank_n_contrast(z @ rotation + shift, y, 2.0), plain)
    torch.testing.assert_close(rank_n_contrast(z, scale * y + shift, 2.0), plain)
    order = torch.randperm(9)
    torch.testing.assert_close(rank_n_contrast(z[order], y[order], 2.0), plain)
    torch.testing.assert_close(rank_n_contrast(7 * z, y, 14), plain)


def test_clips_that_are_not_valid_are_as_if_absent():
    z, y = drawn(5)
    valid = torch.tensor([True, False, True, True, False, True, True, True, False])
    z[~valid], y[~valid] = math.nan, math.inf
    z.requires_grad_()
    loss = rank_n_contrast(z, y, 1.0, valid)
    assert loss == rank_n_contrast(z[valid], y[valid], 1.0)
    loss.backward()
    assert z.grad.isfinite().all()
    assert not z.grad[~valid].any()
    assert rank_n_contrast(z, y, 1.0, torch.arange(9) == 3) == 0


def test_gradient_by_differences():
    z, y = drawn(7, n=6)
    z = torch.cat([z, z[:1] + 1.0]).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: rank_n_contrast(z, torch.cat([y, y[:1]]).double(), 1.3), [z])


def test_similarities_that_exp_takes_to_zero():
    # exp(−104) is 0 in float32: written with exp and log, the loss would be infinite.
    z, y = drawn(11)
    one, other = ((1e4 * z).requires_grad_() for _ in range(2))
    found, expected = rank_n_contrast(one, y, 1.0), formula(other, y, 1.0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    found.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-2, atol=1e-3)  # float32 has distances of 1e4 to 1e-3


def test_bfloat16_embeddings_are_computed_with_in_float32():
    z, y = drawn(13, n=40)
    half = z.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = rank_n_contrast(half, y, 0.1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, rank_n_contrast(half.float(), y, 0.1))
