"""ProbeBank against separate textbook trainings on the same batches."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from echolung.probes import PROBES, Features, Job, Training
from echolung.probes.bank import ProbeBank, Recipe, cosine
from echolung.probes.heads import ATTENTIVE, LINEAR, Head

V, N, D, CLASSES = 20, 6, 32, 3
EPOCHS, BATCH, SEED = 6, 4, 11
RECIPES = [
    Recipe(3e-3, 0.04),
    Recipe(1e-3, 0.4),
    Recipe(1e-2, 0.0, 5),
    Recipe(3e-4, 4.0, 5),
    Recipe(3e-3, 0.04, 9),
    Recipe(1e-3, 0.0),
]
both = pytest.mark.parametrize("head", [LINEAR, ATTENTIVE], ids=["linear", "attentive"])


def features(views: int = 1, seed: int = 0, v: int = V) -> Features:
    values = np.random.default_rng(seed).normal(size=(v, views, N, D)).astype(np.float16)
    return Features(tuple(f"v{i}" for i in range(v)), values)


def members() -> np.ndarray:
    """Return six memberships; the last probe has two videos, so that most batches hold none of them."""
    member = np.random.default_rng(2).random((6, V)) < 0.6
    member[5] = False
    member[5, [3, 17]] = True
    return member


def targets(kind: str) -> np.ndarray:
    random = np.random.default_rng(3)
    return (
        random.integers(CLASSES, size=V) if kind == "classes" else (55 + 12 * random.normal(size=V)).astype(np.float32)
    )


def outputs_of(head: Head, parameters: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    return head.forward({name: value[None] for name, value in parameters.items()}, head.normalise(tokens))[0]


def textbook_training(head: Head, data: Features, member: np.ndarray, truth: np.ndarray, recipe: Recipe):
    """Train one probe alone with torch.optim.AdamW on the batches of the bank, skipping those that hold none of its videos."""
    outputs = CLASSES if truth.dtype.kind == "i" else 1
    parameters = head.init(D, outputs, torch.Generator().manual_seed(recipe.seed))
    parameters = {name: value.requires_grad_() for name, value in parameters.items()}
    optimiser = torch.optim.AdamW(parameters.values(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    if truth.dtype.kind == "f":
        mean, std = truth[member].mean(), truth[member].std()
        truth = (truth - mean) / std
    rows = np.flatnonzero(members().any(0))
    steps, done, skipped = -(-len(rows) // BATCH), 0, 0
    for epoch in range(1, EPOCHS + 1):
        random = np.random.default_rng((SEED, epoch))
        order = random.permutation(rows)
        views = random.integers(data.views, size=len(order)) if data.views > 1 else np.zeros(len(order), int)
        for start in range(0, len(order), BATCH):
            chosen = [
                (i, w)
                for i, w in zip(order[start : start + BATCH], views[start : start + BATCH], strict=True)
                if member[i]
            ]
            if chosen:
                tokens = torch.from_numpy(np.stack([data.values[i, w] for i, w in chosen])).float()
                goal = torch.from_numpy(truth[[i for i, _ in chosen]])
                predicted = outputs_of(head, parameters, tokens)
                loss = F.cross_entropy(predicted, goal) if outputs > 1 else F.smooth_l1_loss(predicted[:, 0], goal)
                optimiser.param_groups[0]["lr"] = recipe.lr * cosine(done, steps * EPOCHS)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            skipped += not chosen
            done += 1
    return {name: value.detach() for name, value in parameters.items()}, skipped


def fitted(head: Head, data: Features, truth: np.ndarray, **options) -> ProbeBank:
    outputs = CLASSES if truth.dtype.kind == "i" else 1
    bank = ProbeBank(head, RECIPES, members(), truth, dim=D, outputs=outputs)
    bank.fit(data, epochs=EPOCHS, batch=BATCH, seed=SEED, **options)
    return bank


@both
@pytest.mark.parametrize("kind", ["classes", "numbers"])
@pytest.mark.parametrize("views", [1, 3])
def test_six_probes_together_are_six_probes_alone(head: Head, kind: str, views: int):
    data, truth = features(views), targets(kind)
    bank = fitted(head, data, truth)
    for i, recipe in enumerate(RECIPES):
        alone, skipped = textbook_training(head, data, members()[i], truth, recipe)
        assert (skipped > 10) == (i == 5)
        for name, expected in alone.items():
            found = bank.parameters[name][i]
            if name == "kv.bias":  # Adam blows the key bias's rounding noise up; nothing depends on it
                found, expected = found[D:], expected[D:]
            assert (found - expected).norm() <= 1e-4 * expected.norm(), (i, name)
        predicted = outputs_of(head, alone, torch.from_numpy(data.values[:, 0]).float()).numpy()
        if kind == "numbers":
            mine = truth[members()[i]]
            predicted = predicted * mine.std() + mine.mean()
        np.testing.assert_allclose(bank.predict(data)[i], predicted, rtol=1e-3, atol=1e-3)


@both
@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_what_a_probe_may_not_see_changes_nothing(head: Head, kind: str):
    truth, member = targets(kind), members()
    for probe in (0, 5):
        others = ~member[probe]
        changed = truth.copy()
        changed[others] = (changed[others] + 1) % CLASSES if kind == "classes" else changed[others] * 7 - 1e4
        data, noisy = features(), features()
        noisy.values[others] = np.random.default_rng(9).normal(size=noisy.values[others].shape) * 50
        expected, found = fitted(head, data, truth).slice(probe), fitted(head, noisy, changed).slice(probe)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-6, err_msg=name)


def test_numbers_are_scaled_by_the_training_videos_alone():
    truth, member = targets("numbers"), members()
    bank = ProbeBank(LINEAR, RECIPES, member, truth, dim=D, outputs=1)
    for i in range(6):
        arrays = bank.slice(i)
        assert arrays["target.shift"] == pytest.approx(truth[member[i]].mean(), rel=1e-6)
        assert arrays["target.scale"] == pytest.approx(truth[member[i]].std(), rel=1e-5)


def test_random_views_are_for_training_only():
    data, other = features(views=3), features(views=3)
    other.values[:, 1:] *= -1
    bank, same = fitted(LINEAR, data, targets("classes")), fitted(LINEAR, data, targets("classes"))
    np.testing.assert_array_equal(bank.predict(data), same.predict(other))  # predicts from view 0
    changed = fitted(LINEAR, other, targets("classes"))
    assert np.abs(changed.predict(data) - bank.predict(data)).max() > 0.01  # and learnt from the others


def test_on_epoch_sees_each_epoch_and_stopping_early_is_a_prefix():
    seen = {}
    full = fitted(LINEAR, features(), targets("classes"), on_epoch=lambda epoch, outputs: seen.update({epoch: outputs}))
    assert list(seen) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(seen[6], full.predict(features()))
    bank = ProbeBank(LINEAR, RECIPES, members(), targets("classes"), dim=D, outputs=CLASSES)
    bank.fit(features(), epochs=4, batch=BATCH, seed=SEED, schedule_epochs=EPOCHS)
    np.testing.assert_array_equal(seen[4], bank.predict(features()))


@pytest.mark.parametrize("name", ["linear", "attentive"])
def test_little_memory_makes_more_passes_and_the_same_probes(name: str):
    data, truth, member = features(), targets("classes"), members()
    if name == "linear":
        data = Features(data.video_ids, data.values.astype(np.float32).mean(2, keepdims=True))
    kind = PROBES[name]
    jobs = [Job(kind.settings[i % len(kind.settings)], member[i], keep=[None, 2, 3, 1, 3, 3][i]) for i in range(6)]
    found = []
    for memory in (4e9, 1.0):
        looks: dict[tuple[int, int], np.ndarray] = {}

        def look(epoch, indices, outputs, looks=looks):
            looks.update({(i, epoch): output for i, output in zip(indices, outputs, strict=True)})

        kept = kind.fit(data, truth, CLASSES, jobs, Training(3, BATCH, 0, memory=memory), look)
        found.append((looks, kept))
    (looks, kept), (looks_again, kept_again) = found
    assert set(looks) >= {(i, job.keep or 3) for i, job in enumerate(jobs)} and set(looks_again) <= set(looks)
    for key, output in looks_again.items():
        np.testing.assert_allclose(output, looks[key], rtol=1e-3, atol=1e-5)
    for job, arrays, again in zip(jobs, kept, kept_again, strict=True):
        assert (arrays is None) == (again is None) == (job.keep is None)
        for key in arrays or {}:
            if key != "kv.bias":
                np.testing.assert_allclose(again[key], arrays[key], rtol=1e-3, atol=1e-5)


def test_the_estimate_is_of_the_right_size():
    data = Features(features().video_ids, features().values.astype(np.float32).mean(2, keepdims=True))
    kind, jobs = PROBES["linear"], [Job(PROBES["linear"].settings[0], member) for member in members()]
    short, long = (kind.estimate(data, targets("classes"), CLASSES, jobs, Training(epochs)) for epochs in (10, 1000))
    assert 0 < short < 5 and long > 10 * short
