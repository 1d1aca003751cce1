"""Losses and outputs against torch's, scikit-learn's, and formulas as the papers print them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from echolung.errors import InputError
from echolung.probes.objectives import make_objective, outputs_of
from echolung.probes.recipe import Recipe

CPU = torch.device("cpu")


def draw(shape: tuple[int, ...], seed: int, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def every(count: int, videos: int) -> np.ndarray:
    return np.ones((count, videos), bool)


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=8, max_size=20).filter(lambda y: len(set(y)) == 4),
    smoothing=st.floats(0, 0.9),
    balanced=st.booleans(),
    seed=st.integers(0, 99),
)
def test_cross_entropy_is_torchs_with_weights_and_smoothing(labels, smoothing: float, balanced: bool, seed: int):
    """A probe's loss is Σ l / Σ w; beside it is another, with other ways."""
    targets = np.array(labels)
    recipes = [Recipe(1e-3, label_smoothing=smoothing, balanced=balanced), Recipe(1e-3, label_smoothing=0.3)]
    objective = make_objective(targets, 4, every(2, len(targets)), recipes, CPU)
    raw = draw((2, len(targets), 4), seed)
    losses, weights = objective.losses({}, raw, torch.arange(len(targets)))
    weight = None
    if balanced:
        weight = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(4), y=targets)).float()
    expected = nn.CrossEntropyLoss(weight, label_smoothing=smoothing)(raw[0], torch.from_numpy(targets))
    torch.testing.assert_close(losses[0].sum() / weights[0].sum(), expected, rtol=1e-5, atol=1e-6)
    second = nn.CrossEntropyLoss(label_smoothing=0.3)(raw[1], torch.from_numpy(targets))
    torch.testing.assert_close(losses[1].sum() / weights[1].sum(), second, rtol=1e-5, atol=1e-6)
    assert objective.outputs({}, raw) is raw and objective.state(0) == {}


@pytest.mark.parametrize("loss", ["auto", "coral"])
def test_balanced_weights_are_scikit_learns_of_each_probes_own_videos(loss: str):
    random = np.random.default_rng(0)
    targets = random.choice(3, size=40, p=[0.6, 0.3, 0.1])
    members = random.random((3, 40)) < 0.7
    recipes = [Recipe(1e-3, balanced=i != 1, loss=loss) for i in range(3)]
    weights = make_objective(targets, 3, members, recipes, CPU).weights.numpy()
    for i in (0, 2):
        own = targets[members[i]]
        np.testing.assert_allclose(weights[i], compute_class_weight("balanced", classes=np.arange(3), y=own), rtol=1e-6)
    np.testing.assert_array_equal(weights[1], 1)


def test_a_class_without_videos_has_a_finite_weight():
    weights = make_objective(np.array([0, 0, 2]), 3, every(1, 3), [Recipe(1e-3, balanced=True)], CPU).weights
    assert weights.isfinite().all()


@settings(max_examples=40, deadline=None)
@given(classes=st.integers(2, 6), seed=st.integers(0, 99), spread=st.floats(0.1, 5))
def test_coral_is_what_the_paper_says(classes: int, seed: int, spread: float):
    """Cao et al. 2020: K − 1 binary tasks "is y above rank k?", one score, one bias each (equations 3 and 4)."""
    random = np.random.default_rng(seed)
    targets = random.integers(classes, size=9)
    objective = make_objective(targets, classes, every(2, 9), [Recipe(1e-3, loss="coral")] * 2, CPU)
    assert objective.width == 1
    bias = torch.from_numpy(
        np.sort(random.normal(size=(2, classes - 1)) * spread, 1)[:, ::-1].astype(np.float32).copy()
    )
    raw = draw((2, 9, 1), seed)
    losses, weights = objective.losses({"coral.bias": bias}, raw, torch.arange(9))
    chances = objective.outputs({"coral.bias": bias}, raw).exp().numpy()
    for probe in range(2):
        for i, y in enumerate(targets):
            above = [1 / (1 + np.exp(-(float(raw[probe, i, 0]) + float(b)))) for b in bias[probe]]
            expected = -sum(np.log(p) if y > k else np.log(1 - p) for k, p in enumerate(above))
            assert float(losses[probe, i]) == pytest.approx(expected, rel=1e-3, abs=1e-4)
            differences = [a - b for a, b in zip([1, *above], [*above, 0], strict=True)]
            np.testing.assert_allclose(chances[probe, i], differences, atol=1e-5)
    np.testing.assert_allclose(chances.sum(2), 1, atol=1e-5)
    np.testing.assert_array_equal(weights, 1)


def test_corals_thresholds_out_of_order_still_give_chances():
    """P(class > k) must fall with k; where thresholds have not learnt that, what is between them has next to no chance."""
    objective = make_objective(np.array([0, 1, 2]), 3, every(1, 3), [Recipe(1e-3, loss="coral")], CPU)
    bias, raw = torch.tensor([[-1.0, 1.0]]), draw((1, 5, 1), 0)
    outputs = objective.outputs({"coral.bias": bias}, raw)
    torch.testing.assert_close(outputs.exp().sum(2), torch.ones(1, 5))
    assert outputs.isfinite().all()
    torch.testing.assert_close(outputs, objective.outputs({"coral.bias": bias.flip(1)}, raw))
    extreme = objective.outputs({"coral.bias": bias}, 1e4 * raw)
    assert extreme.isfinite().all()


def test_corals_thresholds_start_in_order():
    for classes in (2, 3, 6):
        recipe = Recipe(1e-3, loss="coral")
        bias = make_objective(np.arange(classes), classes, every(1, classes), [recipe], CPU).extra()["coral.bias"]
        assert bias.shape == (classes - 1,) and (bias.diff() < 0).all()


def test_numbers_have_each_its_own_loss_on_standardised_targets():
    random = np.random.default_rng(0)
    targets = (60 + 9 * random.normal(size=30)).astype(np.float32)
    members = random.random((5, 30)) < 0.6
    names = ["smooth-l1", "l1", "mse", "auto", "l1"]
    objective = make_objective(targets, 1, members, [Recipe(1e-3, loss=name) for name in names], CPU)
    raw, videos = draw((5, 12, 1), 1), torch.arange(5, 17)
    losses, weights = objective.losses({}, raw, videos)
    functions = {"l1": nn.L1Loss, "mse": nn.MSELoss}
    for i, name in enumerate(names):
        own = targets[members[i]].astype(np.float64)
        scaled = torch.from_numpy((targets[5:17] - own.mean()) / own.std()).float()
        expected = functions.get(name, nn.SmoothL1Loss)(reduction="none")(raw[i, :, 0], scaled)
        torch.testing.assert_close(losses[i], expected, rtol=1e-4, atol=1e-5)
        outputs = objective.outputs({}, raw)[i].numpy()
        np.testing.assert_allclose(outputs, raw[i].numpy() * own.std() + own.mean(), rtol=1e-5)
        np.testing.assert_allclose(outputs_of(objective.state(i), raw[i : i + 1]), outputs, rtol=1e-6)
    np.testing.assert_array_equal(weights, 1)
    objective.keep(torch.tensor([4, 2]))
    kept, _ = objective.losses({}, raw[[4, 2]], videos)
    torch.testing.assert_close(kept, losses[[4, 2]])


def test_targets_that_are_all_alike_do_not_divide_by_nothing():
    objective = make_objective(np.full(4, 7, np.float32), 1, every(1, 4), [Recipe(1e-3)], CPU)
    losses, _ = objective.losses({}, torch.zeros(1, 4, 1), torch.arange(4))
    assert not losses.any()


@pytest.mark.parametrize(
    ("targets", "recipe", "message"),
    [
        (
            np.zeros(3, np.float32),
            Recipe(1e-3, loss="coral"),
            "loss coral is not for a task of numbers, .* smooth-l1, l1",
        ),
        (
            np.zeros(3, np.int64),
            Recipe(1e-3, loss="mse"),
            "loss mse is not for a task of classes, .* cross-entropy, coral",
        ),
        (
            np.zeros(3, np.int64),
            Recipe(1e-3, loss="coral", label_smoothing=0.1),
            "label_smoothing goes with cross-entropy",
        ),
    ],
)
def test_losses_that_do_not_fit_the_task_are_refused(targets: np.ndarray, recipe: Recipe, message: str):
    with pytest.raises(InputError, match=message):
        make_objective(targets, 2, every(1, 3), [recipe], CPU)
