"""Schedules against values worked out by hand."""

import math
from dataclasses import replace

import pytest

from echolung.pretraining.plans import OptimiserPlan
from echolung.pretraining.recipe import read_recipe
from echolung.pretraining.schedules import learning_rate, momentum, weight_decay

PLAN = OptimiserPlan(
    steps=11, start_lr=1.0, lr=5.0, final_lr=3.0, warmup=0.37, cooldown=0.2, cooldown_lr=0.5,
    weight_decay=0.1, final_weight_decay=0.5, ema=0.9, final_ema=1.0,
)  # fmt: skip


def rates(plan):
    return [learning_rate(step, plan) for step in range(plan.steps)]


def test_learning_rate_spelt_out():
    # ⌊.37 · 11⌋ = 4 steps of warm-up, ⌊.2 · 11⌋ = 2 of cooldown, 5 between them from 5 to 3.
    half = math.sqrt(0.5)
    between = [5.0, 4 + half, 4.0, 4 - half, 3.0]
    assert rates(PLAN) == pytest.approx([1.0, 2.0, 3.0, 4.0, *between, 1.75, 0.5])


def test_published_run_warms_up_and_stays():
    plan = read_recipe("echojepa-vitl-224").optimiser
    assert learning_rate(0, plan) == plan.start_lr == 3e-6
    assert learning_rate(6000, plan) == pytest.approx((3e-6 + 3e-5) / 2)
    assert learning_rate(11_999, plan) < 3e-5
    assert {learning_rate(step, plan) for step in range(12_000, 30_000)} == {3e-5}
    assert {weight_decay(step, plan) for step in (0, 777, 29_999)} == {0.04}
    assert {momentum(step, plan) for step in (0, 777, 29_999)} == {0.99925}


@pytest.mark.parametrize("cooldown", [0.1, 0.25, 0.6, 1.0])
def test_cooldown_ends_where_it_should_in_equal_strides(cooldown):
    plan = replace(PLAN, steps=40, warmup=0.0, final_lr=5.0, cooldown=cooldown)
    falling = rates(plan)[-int(cooldown * 40) :]
    assert falling[-1] == plan.cooldown_lr
    assert [one - other for one, other in zip([5.0, *falling], falling, strict=False)] == pytest.approx(
        [4.5 / len(falling)] * len(falling)
    )


def test_without_a_cooldown_the_cosine_ends_at_the_last_step():
    plan = replace(PLAN, cooldown=0.0)
    assert learning_rate(10, plan) == 3.0
    assert learning_rate(4, plan) == 5.0


def test_weight_decay_and_momentum_spelt_out():
    assert [weight_decay(step, PLAN) for step in (0, 5, 10)] == pytest.approx([0.1, 0.3, 0.5])
    assert weight_decay(2, PLAN) == pytest.approx(0.5 - 0.4 * (1 + math.cos(math.pi / 5)) / 2)
    assert [momentum(step, PLAN) for step in (0, 1, 5, 10)] == pytest.approx([0.9, 0.91, 0.95, 1.0])
    assert momentum(10, PLAN) == 1.0


@pytest.mark.parametrize("changes", [{"steps": 1}, {"steps": 2, "warmup": 1.0, "cooldown": 0.0}, {"warmup": 0.8}])
def test_short_runs_have_finite_values_within_their_ends(changes):
    plan = replace(PLAN, **changes)
    for step in range(plan.steps):
        assert 0.5 <= learning_rate(step, plan) <= 5.0
        assert 0.1 <= weight_decay(step, plan) <= 0.5
        assert 0.9 <= momentum(step, plan) <= 1.0
