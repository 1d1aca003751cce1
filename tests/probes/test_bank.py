"""What a bank's probes may see, when they leave, and what is shown of them meanwhile."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from echolung.probes import Features
from echolung.probes import optimiser as optimisers
from echolung.probes.bank import ProbeBank, draw_batches
from echolung.probes.heads import ATTENTIVE, LINEAR, Head, attentive_deep, attentive_lite, mlp
from echolung.probes.recipe import Recipe

V, N, D, CLASSES = 24, 6, 32, 3
BATCH, SEED = 4, 11
HEADS: dict[str, Head] = {
    "linear": LINEAR,
    "mlp": mlp((12, 8), False),
    "mlp-bn": mlp((12, 8), True),
    "lite": attentive_lite(4),
    "attentive": ATTENTIVE,
    "deep": attentive_deep(2),
}
every_kind = pytest.mark.parametrize("kind", HEADS)
RECIPES = [
    Recipe(3e-3, 0.04, epochs=6),
    Recipe(1e-3, 0.4, epochs=6, dropout=0.3, label_smoothing=0.1),
    Recipe(1e-2, 0.0, epochs=4, balanced=True, seed=5),
    Recipe(3e-3, 0.04, epochs=6, stop=3, warmup=0.5, seed=9, balanced=True, label_smoothing=0.1),
]


def features(views: int = 1, segments: int = 1, seed: int = 0) -> Features:
    values = np.random.default_rng(seed).normal(size=(V, views, N, D)).astype(np.float16)
    return Features(tuple(f"v{i}" for i in range(V)), values, segments)


def members(count: int = 4) -> np.ndarray:
    return np.random.default_rng(2).random((count, V)) < 0.6


def recipes(task: str, kind: str = "") -> list[Recipe]:
    """Return what suits a task; depth is slow, two epochs must do."""
    if task == "classes":
        return [replace(recipe, epochs=2) for recipe in RECIPES] if kind == "deep" else RECIPES
    plain = [replace(recipe, label_smoothing=0.0) for recipe in RECIPES]
    return [replace(r, loss="coral") for r in plain] if task == "coral" else plain


def targets(task: str) -> np.ndarray:
    random = np.random.default_rng(3)
    if task == "numbers":
        return (55 + 12 * random.normal(size=V)).astype(np.float32)
    return random.choice(CLASSES, size=V, p=[0.5, 0.3, 0.2])


@dataclass
class Fitted:
    """What a bank showed: each probe's arrays after its last epoch, everyone's outputs after every epoch."""

    bank: ProbeBank
    arrays: dict[int, dict[str, np.ndarray]]
    looks: dict[tuple[int, int], np.ndarray]


def fitted(
    head: Head,
    data: Features,
    truth: np.ndarray,
    chosen: list[Recipe],
    member: np.ndarray,
    leave: dict[int, list[int]] | None = None,
    precision: str = "float32",
    **options,
) -> Fitted:
    """Fit a bank; `leave`: epoch -> probes that are sent away after it."""
    outputs = CLASSES if truth.dtype.kind == "i" else 1
    bank = ProbeBank(head, chosen, member, truth, dim=D, outputs=outputs, precision=precision)
    result = Fitted(bank, {}, {})

    def look(epoch: int, probes: list[int], values: np.ndarray) -> list[int]:
        for place, i in enumerate(probes):
            result.looks[i, epoch] = values[place]
            result.arrays[i] = bank.slice(i)
        return (leave or {}).get(epoch, [])

    bank.fit(data, batch=BATCH, seed=SEED, **{"videos": np.ones(V, bool), "on_epoch": look, **options})
    return result


@pytest.mark.parametrize(
    ("kind", "task"),
    [(k, t) for k in HEADS if k != "deep" for t in ("classes", "numbers", "coral")] + [("deep", "classes")],
)
def test_what_a_probe_may_not_see_changes_nothing(kind: str, task: str):
    """Neither tokens nor targets: not by statistics of BatchNorm, class weights, or the scale of numbers."""
    truth, member, chosen = targets(task), members(), recipes(task, kind)
    before = fitted(HEADS[kind], features(), truth, chosen, member)
    for probe in (1, 3):
        others = ~member[probe]
        changed = truth.copy()
        changed[others] = changed[others] * 7 - 1e4 if task == "numbers" else (changed[others] + 1) % CLASSES
        noisy = features()
        noisy.values[others] = np.random.default_rng(9).normal(size=noisy.values[others].shape) * 50
        after = fitted(HEADS[kind], noisy, changed, chosen, member)
        assert before.arrays[probe].keys() == after.arrays[probe].keys()
        for name, value in before.arrays[probe].items():
            np.testing.assert_allclose(after.arrays[probe][name], value, rtol=2e-4, atol=2e-6, err_msg=name)
        last = chosen[probe].last
        np.testing.assert_allclose(
            after.looks[probe, last][~others], before.looks[probe, last][~others], rtol=2e-3, atol=2e-5
        )


def test_numbers_are_scaled_by_the_training_videos_alone():
    truth, member = targets("numbers"), members()
    bank = ProbeBank(LINEAR, recipes("numbers"), member, truth, dim=D, outputs=1)
    for i in range(4):
        arrays = bank.slice(i)
        assert arrays["target.shift"] == pytest.approx(truth[member[i]].mean(), rel=1e-6)
        assert arrays["target.scale"] == pytest.approx(truth[member[i]].std(), rel=1e-5)


@pytest.mark.parametrize("kind", ["linear", "mlp-bn", "attentive"])
@pytest.mark.parametrize("large", [0, 10**12], ids=["fused", "spelt out"])
def test_a_batch_with_too_few_of_its_clips_leaves_a_probe_as_it_is(kind: str, large: int, monkeypatch):
    """No step, no decay, no momentum, no running statistics: the one with two videos that never meet has one step each."""
    monkeypatch.setattr(optimisers, "FUSED", large)
    order = [videos for videos, _ in draw_batches(np.arange(V), 1, BATCH, SEED, 1)]
    member = np.zeros((2, V), bool)
    member[0] = True
    member[1, [order[1][0], order[4][0]]] = True
    hot = [Recipe(0.1, 0.5, epochs=3), Recipe(0.1, 0.5, epochs=3)]
    bank = ProbeBank(HEADS[kind], hot, member, targets("classes"), dim=D, outputs=CLASSES)
    moved = []
    step = bank._step

    def watched(*arguments) -> None:
        before = bank.slice(1)
        step(*arguments)
        after = bank.slice(1)
        moved.append(any((after[name] != before[name]).any() for name in before))

    monkeypatch.setattr(bank, "_step", watched)
    bank.fit(features(), batch=BATCH, seed=SEED, on_epoch=lambda *_: [0, 1])
    assert moved == [kind != "mlp-bn" and i in (1, 4) for i in range(6)]


@pytest.mark.parametrize("kind", ["linear", "mlp-bn", "lite", "attentive"])
@pytest.mark.parametrize("large", [0, 10**12], ids=["fused", "spelt out"])
def test_who_leaves_changes_nothing_for_those_who_stay(kind: str, large: int, monkeypatch):
    monkeypatch.setattr(optimisers, "FUSED", large)
    plain = [Recipe(3e-3, 0.04, epochs=6, seed=i) for i in range(4)]
    data, truth, member = features(), targets("classes"), members()
    everyone = fitted(HEADS[kind], data, truth, plain, member)
    assert set(everyone.looks) == {(i, e) for i in range(4) for e in range(1, 7)}
    fewer = fitted(HEADS[kind], data, truth, plain, member, leave={2: [0], 4: [1, 3]})
    ends = [replace(recipe, stop=stop) for recipe, stop in zip(plain, (2, 4, None, 4), strict=True)]
    finished = fitted(HEADS[kind], data, truth, ends, member)
    for some in (fewer, finished):
        assert set(some.looks) == {(i, e) for i, last in enumerate((2, 4, 6, 4)) for e in range(1, last + 1)}
        for key, outputs in some.looks.items():
            np.testing.assert_allclose(outputs, everyone.looks[key], rtol=1e-4, atol=1e-6)
    assert (fewer.bank.present, fewer.bank.recipes) == ([], plain)


def test_who_has_left_cannot_be_sliced():
    result = fitted(LINEAR, features(), targets("classes"), RECIPES, members(), leave={1: [2]})
    assert result.bank.present == []
    for probe in range(4):
        with pytest.raises(KeyError, match=f"probe {probe} has left"):
            result.bank.slice(probe)


@every_kind
def test_both_ways_of_stepping_train_the_same_probes(kind: str, monkeypatch):
    found = []
    for large in (0, 10**12):
        monkeypatch.setattr(optimisers, "FUSED", large)
        found.append(fitted(HEADS[kind], features(), targets("classes"), recipes("classes", kind), members()))
    for key, outputs in found[0].looks.items():
        np.testing.assert_allclose(outputs, found[1].looks[key], rtol=1e-3, atol=1e-4)


def test_random_views_are_for_training_only():
    data, other = features(views=3), features(views=3)
    other.values[:, 1:] *= -1
    truth, member = targets("classes"), members()
    seen, turned = (fitted(LINEAR, d, truth, RECIPES, member).looks for d in (data, other))
    assert np.abs(seen[0, 6] - turned[0, 6]).max() > 0.01  # learnt from the others
    fresh = ProbeBank(LINEAR, RECIPES, member, truth, dim=D, outputs=CLASSES)
    np.testing.assert_array_equal(fresh.predict(data), fresh.predict(other))  # predicts from view 0


@every_kind
def test_watched_outputs_are_the_same_and_the_rest_is_not_a_number(kind: str):
    """Each probe has its own; videos 0 and 1 nobody watches, 2 one does, 3 both."""
    watch = np.stack([np.arange(V) % 4 > 2, np.arange(V) % 4 > 1])
    chosen = recipes("classes", kind)[:2]
    whole = fitted(HEADS[kind], features(), targets("classes"), chosen, members(2))
    part = fitted(HEADS[kind], features(), targets("classes"), chosen, members(2), watch=watch)
    assert part.looks.keys() == whole.looks.keys()
    for (i, epoch), outputs in part.looks.items():
        assert np.isnan(outputs[~watch[i]]).all()
        np.testing.assert_allclose(outputs[watch[i]], whole.looks[i, epoch][watch[i]], rtol=1e-4, atol=1e-5)
    for name in whole.arrays[0]:
        np.testing.assert_array_equal(part.arrays[0][name], whole.arrays[0][name])


def test_videos_say_what_batches_are_drawn_from():
    """Probes see the same batches in two banks, though the banks' own videos differ."""
    truth, member, chosen = targets("classes"), members(), [replace(r, epochs=3, stop=None) for r in RECIPES]
    together = fitted(LINEAR, features(), truth, chosen, member)
    for i in range(4):
        alone = fitted(LINEAR, features(), truth, chosen[i : i + 1], member[i : i + 1])
        np.testing.assert_allclose(alone.looks[0, 3], together.looks[i, 3], rtol=1e-4, atol=1e-5)
    own = fitted(LINEAR, features(), truth, chosen[:1], member[:1], videos=None)
    assert np.abs(own.looks[0, 3] - together.looks[0, 3]).max() > 1e-4


@pytest.mark.parametrize("views", [1, 3])
def test_batches_are_each_epochs_own_order_of_the_rows(views: int):
    rows = np.array([3, 5, 6, 9, 11, 12, 20])
    epochs = [draw_batches(rows, views, 3, SEED, epoch) for epoch in (1, 2)]
    for draws in epochs:
        assert [len(videos) for videos, _ in draws] == [3, 3, 1]
        assert sorted(np.concatenate([videos for videos, _ in draws])) == rows.tolist()
        for videos, shown in draws:
            assert shown is None if views == 1 else (len(shown) == len(videos) and shown.max() < views)
    again = draw_batches(rows, views, 3, SEED, 1)
    assert all((a == b).all() for (a, _), (b, _) in zip(epochs[0], again, strict=True))
    assert any((a != b).any() for (a, _), (b, _) in zip(*epochs, strict=True))


@every_kind
@pytest.mark.parametrize("task", ["classes", "coral"])
def test_late_fusion_is_the_mean_over_segments_and_early_one_run_of_tokens(kind: str, task: str):
    head, truth, member = HEADS[kind], targets(task), members()
    chosen = [replace(recipe, seed=i) for i, recipe in enumerate(recipes(task))]
    bank = ProbeBank(head, chosen, member, truth, dim=D, outputs=CLASSES)
    early, late = features(), features(segments=3)
    parts = [Features(early.video_ids, early.held[:, :, 2 * s : 2 * s + 2]) for s in range(3)]
    segments = [
        head.forward(bank.parameters, head.normalise(torch.from_numpy(p.held[:, 0]).float()), None) for p in parts
    ]
    joined = head.forward(bank.parameters, head.normalise(torch.from_numpy(early.held[:, 0]).float()), None)
    expected = [bank.objective.outputs(bank.parameters, raw) for raw in (torch.stack(segments).mean(0), joined)]
    for data, outputs in zip((late, early), expected, strict=True):
        np.testing.assert_allclose(bank.predict(data), outputs.detach().numpy(), rtol=1e-5, atol=1e-6)
    if task == "classes":
        mean = np.mean([bank.predict(part) for part in parts], 0)
        np.testing.assert_allclose(bank.predict(late), mean, rtol=1e-5, atol=1e-6)


@every_kind
def test_bfloat16_tells_easy_classes_apart_as_float32_does(kind: str):
    """Its eight bits of mantissa are 0.4 %; after some epochs outputs agree within 5 % of their spread.

    BatchNorm divides by the small spreads of four clips: 15 %.
    """
    random = np.random.default_rng(1)
    truth = np.arange(V) % CLASSES
    tokens = random.normal(size=(V, 1, N, D)) + 2 * random.normal(size=(CLASSES, D))[truth][:, None, None]
    data = Features(tuple(f"v{i}" for i in range(V)), tokens.astype(np.float16))
    last = {"mlp": 25, "mlp-bn": 25, "deep": 4}.get(kind, 8)
    member, chosen = np.ones((2, V), bool), [Recipe(1e-2, epochs=last), Recipe(5e-3, epochs=last, dropout=0.2)]
    full, half = (fitted(HEADS[kind], data, truth, chosen, member, precision=p) for p in ("float32", "bfloat16"))
    for i in range(2):
        expected, found = full.looks[i, last], half.looks[i, last]
        assert (expected.argmax(1) == truth).mean() > 0.9
        np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
        assert np.abs(found - expected).mean() < (0.15 if kind == "mlp-bn" else 0.05) * expected.std()
        assert all(value.dtype == np.float32 for value in half.arrays[i].values())
