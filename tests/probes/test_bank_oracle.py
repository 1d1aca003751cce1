"""ProbeBank against separate textbook trainings on the same batches."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from echolung.probes import Features, optimiser
from echolung.probes.bank import ProbeBank, draw_batches
from echolung.probes.heads import ATTENTIVE, LINEAR, Head, attention_heads, attentive_deep, attentive_lite, mlp
from echolung.probes.recipe import Recipe


def strong(head: Head) -> Head:
    """Return a head that starts with matrices ten times as large: at 0.02 a small MLP's gradients are half rounding."""

    def init(*arguments) -> dict[str, torch.Tensor]:
        return {k: 10 * v if v.dim() == 2 else v for k, v in head.init(*arguments).items()}

    return replace(head, init=init)


V, N, D, CLASSES = 24, 6, 32, 3
BATCH, SEED = 4, 11
HEADS: dict[str, Head] = {
    "linear": LINEAR,
    "mlp": strong(mlp((12, 8), False)),
    "mlp-bn": strong(mlp((12, 8), True)),
    "regressor": strong(mlp((12,), True, "batch")),
    "last": strong(mlp((), False, "none")),
    "lite": attentive_lite(4),
    "attentive": ATTENTIVE,
    "deep": attentive_deep(4),
}
PENALISED = ("linear", "mlp", "mlp-bn", "regressor", "last")
MIXED = [
    Recipe(3e-3, 0.04, epochs=6),
    Recipe(1e-3, 0.4, epochs=6, dropout=0.3, label_smoothing=0.1, l1=1e-3),
    Recipe(1e-2, 0.0, epochs=4, balanced=True, seed=5, l2=1e-2),
    Recipe(3e-4, 4.0, epochs=6, dropout=0.5, label_smoothing=0.2, balanced=True, warmup=0.3, seed=5),
    Recipe(3e-3, 0.04, epochs=6, stop=3, warmup=0.5, seed=9, l1=1e-4, l2=1e-3),
    Recipe(1e-3, 0.4, epochs=5, dropout=0.1),
]
"""Six ways to learn; the last probe has two videos only. The penalties are those of heads on the mean token."""


def recipes(kind: str, task: str) -> list[Recipe]:
    plain = [recipe if kind in PENALISED else replace(recipe, l1=0.0, l2=0.0) for recipe in MIXED]
    if task == "numbers":
        names = ["smooth-l1", "l1", "mse", "mse", "auto", "l1"]
        return [replace(r, label_smoothing=0.0, balanced=False, loss=n) for r, n in zip(plain, names, strict=True)]
    return [replace(r, label_smoothing=0.0, loss="coral") for r in plain] if task == "coral" else plain


def features(views: int = 1, segments: int = 1, seed: int = 0) -> Features:
    values = np.random.default_rng(seed).normal(size=(V, views, N, D)).astype(np.float16)
    return Features(tuple(f"v{i}" for i in range(V)), values, segments)


def members() -> np.ndarray:
    """Return six memberships; the last probe has two videos, so that most batches hold none of them."""
    member = np.random.default_rng(2).random((6, V)) < 0.6
    member[5] = False
    member[5, [3, 17]] = True
    return member


def targets(task: str) -> np.ndarray:
    random = np.random.default_rng(3)
    if task == "numbers":
        return (55 + 12 * random.normal(size=V)).astype(np.float32)
    return random.choice(CLASSES, size=V, p=[0.5, 0.3, 0.2])


# ---- the textbook ----------------------------------------------------------------------------------------------------


@dataclass
class Alone:
    """One textbook training."""

    module: nn.Module
    thresholds: nn.Parameter
    skipped: int

    def outputs(self, data: Features, truth: np.ndarray, member: np.ndarray, task: str) -> np.ndarray:
        self.module.eval()
        with torch.no_grad():
            raw = through(self.module, torch.from_numpy(data.values[:, 0]).float(), data.segments)
            if task == "coral":
                above = (raw + self.thresholds).sigmoid()
                raw = torch.stack([1 - above[:, 0], above[:, 0] - above[:, 1], above[:, 1]], 1).log()
        scale = (truth[member].std(), truth[member].mean()) if task == "numbers" else (1, 0)
        return raw.numpy() * scale[0] + scale[1]


def through(module: nn.Module, tokens: torch.Tensor, segments: int, *drop: Callable) -> torch.Tensor:
    """Return the mean of the outputs of a video's segments, each by itself."""
    b, n, d = tokens.shape
    return module(tokens.reshape(b * segments, n // segments, d), *drop).reshape(b, segments, -1).mean(1)


def loss_of(recipe: Recipe, raw: torch.Tensor, goal: torch.Tensor, weight: torch.Tensor, thresholds: torch.Tensor):
    if recipe.loss == "coral":  # Cao et al. 2020, equation 4: -Σ_k y_k log σ(s + b_k) + (1 - y_k) log(1 - σ(s + b_k))
        p = (raw + thresholds).sigmoid()
        y = torch.stack([goal > 0, goal > 1], 1).float()
        each = -(y * p.log() + (1 - y) * (1 - p).log()).sum(1)
        return (each * weight[goal]).sum() / weight[goal].sum()
    if goal.dtype == torch.int64:
        return nn.CrossEntropyLoss(weight, label_smoothing=recipe.label_smoothing)(raw, goal)
    return {"l1": nn.L1Loss, "mse": nn.MSELoss}.get(recipe.loss, nn.SmoothL1Loss)()(raw[:, 0], goal)


def train_alone(textbook, named, kind: str, data: Features, member: np.ndarray, truth: np.ndarray, recipe: Recipe):
    """Train one probe alone with torch.optim.AdamW, passing over batches that hold too few of its videos."""
    outputs = CLASSES if truth.dtype.kind == "i" and recipe.loss != "coral" else 1
    module = textbook(kind, D, outputs, attention_heads(D))
    drawn = HEADS[kind].init(D, outputs, torch.Generator().manual_seed(recipe.seed))
    for name, value in named(module.state_dict()).items():
        value.copy_(drawn[name])
    thresholds = nn.Parameter(torch.tensor([1.0, -1.0]))
    extra = [thresholds] if recipe.loss == "coral" else []
    adam = torch.optim.AdamW([*module.parameters(), *extra], lr=1.0, weight_decay=recipe.weight_decay)
    weight = torch.ones(CLASSES)
    if truth.dtype.kind == "f":
        truth = (truth - truth[member].mean()) / truth[member].std()
    elif recipe.balanced:
        weight = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(CLASSES), y=truth[member])).float()
    penalised = [
        value for name, value in module.named_parameters() if name.split(".")[0] in ("hidden0", "hidden1", "linear")
    ]
    penalised = [value for value in penalised if value.dim() == 2]
    rows, alone, done = np.flatnonzero(members().any(0)), Alone(module, thresholds, 0), 0
    steps = math.ceil(len(rows) / BATCH)
    total, least = recipe.epochs * steps, 2 if kind in DEAD else 1
    rising = round(recipe.warmup * total)
    module.train()
    for epoch in range(1, (recipe.stop or recipe.epochs) + 1):
        for videos, views in draw_batches(rows, data.views, BATCH, SEED, epoch):
            own = member[videos]
            if own.sum() * data.segments >= least:
                shown = np.zeros(len(videos), int) if views is None else views
                tokens = torch.from_numpy(data.values[videos, shown][own]).float()
                noise = torch.Generator().manual_seed(SEED * 1_000_003 + done)
                mine = torch.from_numpy(np.repeat(own, data.segments))

                def drop(x: torch.Tensor, noise: torch.Generator = noise, mine: torch.Tensor = mine) -> torch.Tensor:
                    kept = torch.rand((len(mine), x.shape[1]), generator=noise)[mine] >= recipe.dropout
                    return x * kept / (1 - recipe.dropout)

                raw = through(module, tokens, data.segments, drop)
                loss = loss_of(recipe, raw, torch.from_numpy(truth[videos[own]]), weight, thresholds)
                loss = loss + recipe.l1 * sum(w.abs().sum() for w in penalised)
                loss = loss + recipe.l2 * sum(w.square().sum() for w in penalised)
                share = (
                    (done + 1) / rising
                    if done < rising
                    else ((1 + math.cos(math.pi * (done - rising) / (total - rising))) / 2)
                )
                adam.param_groups[0]["lr"] = recipe.lr * share
                adam.zero_grad()
                loss.backward()
                adam.step()
            else:
                alone.skipped += 1
            done += 1
    return alone


# ---- the bank --------------------------------------------------------------------------------------------------------


def fitted(
    head: Head, data: Features, truth: np.ndarray, chosen: list[Recipe]
) -> tuple[dict[int, dict[str, np.ndarray]], dict[int, np.ndarray]]:
    """Return arrays and outputs of each probe of a bank after its own last epoch."""
    outputs = CLASSES if truth.dtype.kind == "i" else 1
    bank = ProbeBank(head, chosen, members(), truth, dim=D, outputs=outputs)
    arrays, seen = {}, {}

    def look(epoch: int, probes: list[int], values: np.ndarray) -> None:
        for place, i in enumerate(probes):
            if chosen[i].last == epoch:
                arrays[i], seen[i] = bank.slice(i), values[place]

    bank.fit(data, batch=BATCH, seed=SEED, on_epoch=look)
    return arrays, seen


def without_effect(kind: str, name: str) -> bool:
    """Whether a parameter has no effect in training, so that Adam follows rounding noise.

    A key's bias, and what BatchNorm takes away again; its running means move with that.
    """
    return name == "k.bias" or name in DEAD.get(kind, ())


DEAD = {
    "mlp-bn": ("norm.bias", "hidden0.bias", "hidden1.bias", "hidden0.bn.mean", "hidden1.bn.mean"),
    "regressor": ("norm.bias", "hidden0.bias", "hidden0.bn.mean"),
}
"""Of heads with BatchNorm."""


def difference(name: str, found: np.ndarray, expected: np.ndarray, lr: float) -> float:
    """Return the norm of the difference, relative to the tensor's, or to one step of Adam's where that is more."""
    if name.endswith("qkv.bias"):
        found, expected = (np.delete(value, np.s_[D : 2 * D]) for value in (found, expected))
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), lr * math.sqrt(expected.size)))


def check(textbook, named, kind: str, task: str, data: Features) -> None:
    truth, chosen = targets(task), recipes(kind, task)
    found, outputs = fitted(HEADS[kind], data, truth, chosen)
    for i, recipe in enumerate(chosen):
        alone = train_alone(textbook, named, kind, data, members()[i], truth, recipe)
        assert (alone.skipped > 10) == (i == 5), "the probe with two videos, and it alone, must be left out often"
        arrays = named(alone.module.state_dict())
        if task == "coral":
            arrays["coral.bias"] = alone.thresholds.detach()
        assert {name for name in found[i] if not name.startswith("target.")} == arrays.keys()
        for name, expected in arrays.items():
            if not without_effect(kind, name):
                assert difference(name, found[i][name], expected.numpy(), recipe.lr) <= 1e-4, (i, name)
            elif kind in DEAD:
                expected.copy_(torch.from_numpy(found[i][name]))
        expected = alone.outputs(data, truth, members()[i], task)
        np.testing.assert_allclose(outputs[i], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "task"),
    [(k, t) for k in HEADS if k != "deep" for t in ("classes", "numbers", "coral")] + [("deep", "classes")],
)
def test_six_mixed_probes_together_are_six_probes_alone(textbook, named, kind: str, task: str):
    check(textbook, named, kind, task, features(views=2))


@pytest.mark.parametrize("kind", ["linear", "mlp-bn", "attentive"])
def test_so_they_are_where_segments_are_fused_late(textbook, named, kind: str):
    check(textbook, named, kind, "classes", features(segments=2))


def test_so_they_are_with_the_optimiser_for_large_probes(textbook, named, monkeypatch):
    monkeypatch.setattr(optimiser, "FUSED", 0)
    for kind in ("linear", "lite", "attentive"):
        check(textbook, named, kind, "classes", features())


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("kind", DEAD)
def test_running_statistics_are_those_of_own_clips_alone(textbook, named, kind: str, segments: int):
    """Nothing is learnt here, so that they can be compared to the last digits."""
    data, truth, chosen = features(segments=segments), targets("classes"), [replace(r, lr=0.0) for r in MIXED]
    found, _ = fitted(HEADS[kind], data, truth, chosen)
    for i, recipe in enumerate(chosen):
        alone = train_alone(textbook, named, kind, data, members()[i], truth, recipe)
        for name, expected in named(alone.module.state_dict()).items():
            np.testing.assert_allclose(found[i][name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
