"""Learning rates against torch's own schedulers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from echolung.probes.recipe import Recipe, cosine


def torchs_rates(recipe: Recipe, steps: int) -> list[float]:
    """Return what torch's linear warm-up and cosine annealing, one after the other, give at every step and the next."""
    total = recipe.epochs * steps
    rising = round(recipe.warmup * total)
    value = torch.nn.Parameter(torch.zeros(1))
    adam = torch.optim.AdamW([value], lr=recipe.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, total - rising)
    if rising:
        # Step `rising` − 1 is at the peak already, and so is the cosine's first.
        up = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: (step + 1) / rising)
        schedule = torch.optim.lr_scheduler.SequentialLR(adam, [up, schedule], [rising])
    rates = []
    for _ in range(total + 1):
        rates.append(adam.param_groups[0]["lr"])
        adam.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (3, 7), (50, 4)])
@pytest.mark.filterwarnings("ignore:The epoch parameter")  # torch's SequentialLR warns of itself
def test_rates_are_those_of_torchs_schedulers(warmup: float, epochs: int, steps: int):
    recipe = Recipe(3e-3, epochs=epochs, warmup=warmup)
    rates = [recipe.rate(step, steps) for step in range(epochs * steps + 1)]
    if round(warmup * epochs * steps) < epochs * steps:
        assert rates == pytest.approx(torchs_rates(recipe, steps), rel=1e-6, abs=1e-12)
    assert rates[-1] == 0


@given(
    epochs=st.integers(1, 60),
    steps=st.integers(1, 40),
    warmup=st.floats(0, 0.9),
    lr=st.floats(1e-7, 1.0),
)
def test_the_rate_rises_to_its_peak_and_falls_to_nothing(epochs: int, steps: int, warmup: float, lr: float):
    recipe = Recipe(lr, epochs=epochs, warmup=warmup)
    total = epochs * steps
    rising = round(warmup * total)
    rates = [recipe.rate(step, steps) for step in range(total)]
    assert max(rates) == pytest.approx(lr) and min(rates) > 0
    assert rates[:rising] == sorted(rates[:rising]) and rates[rising:] == sorted(rates[rising:], reverse=True)
    if rising:
        assert rates[rising - 1] == pytest.approx(lr) and rates[0] == pytest.approx(lr / rising)
    assert recipe.rate(total, steps) == 0 or rising == total
    assert [recipe.rate(step, steps) for step in (total + 1, 2 * total)] == [0, 0] or rising == total


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_a_constant_rate_stays_at_its_peak(warmup: float):
    recipe, rising = Recipe(1e-4, epochs=4, warmup=warmup, schedule="constant"), round(warmup * 12)
    rates = [recipe.rate(step, 3) for step in range(12)]
    assert rates[rising:] == [1e-4] * (12 - rising) and rates[:rising] == sorted(rates[:rising])


def test_stopping_early_leaves_the_schedule_as_it_is():
    whole, stopped = Recipe(1e-3, epochs=10, warmup=0.2), Recipe(1e-3, epochs=10, warmup=0.2, stop=4)
    assert (whole.last, stopped.last, Recipe(1e-3, epochs=10, stop=40).last) == (10, 4, 10)
    assert [whole.rate(i, 5) for i in range(50)] == [stopped.rate(i, 5) for i in range(50)]


def test_a_setting_says_how_to_learn_and_the_rest_is_passed_over():
    setting = {"lr": 0.1, "dropout": 0.2, "class_weights": "balanced", "depth": 4, "loss": "coral", "warmup": 0.1}
    assert Recipe.of(setting, 30, 7, 3) == Recipe(
        0.1, dropout=0.2, balanced=True, loss="coral", warmup=0.1, epochs=30, seed=7, stop=3
    )
    assert Recipe.of({"lr": 0.1, "epochs": 5, "class_weights": "none"}, 30, 0) == Recipe(0.1, epochs=5)


def test_cosine():
    assert [cosine(step, 4) for step in range(6)] == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0, 0])
    assert cosine(0, 0) == 0
