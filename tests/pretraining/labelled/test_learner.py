"""One update by one batch: what learns from what, what has no part, and that a run goes on exactly."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from echolung.encoders.encoder import load_encoder
from echolung.encoders.preprocess import normalise
from echolung.errors import InputError
from echolung.pretraining.distributed import Group
from echolung.pretraining.labelled.augment import augment
from echolung.pretraining.labelled.labels import Labels
from echolung.pretraining.labelled.learner import LabelledLearner
from echolung.pretraining.labelled.rank_n_contrast import rank_n_contrast
from echolung.pretraining.labelled.recipe import LabelledRecipe
from echolung.pretraining.loader import Batch
from echolung.probes import Features
from echolung.probes.saved import load_probe

ALONE = Group(0, 1, torch.device("cpu"))
EF = Labels("ef", {f"d/v{i}": 30.0 + 7 * i for i in range(8)})
REDUCED = Labels("reduced", {f"d/v{i}": float(i < 2) for i in range(8)}, ("normal", "reduced"))

SMALL = [
    "clips.frames=4",
    "clips.size=32",
    "clips.shift=2",
    "optimiser.batch=4",
    "optimiser.lr=1e-3",
    "run.gauge_every=1",
]
VIT = ["encoder.start=random:vit_tiny@0", "encoder.dropout=0"]
UNIFORMER = ["encoder.start=random:uniformer_tiny@0"]
NO_NOISE = ["objective.head_dropout=0", "encoder.dropout=0"]
LINEAR = ["objective.hidden=none", "objective.norm=none", "objective.head_dropout=0"]


def recipe(*changes: str) -> LabelledRecipe:
    return LabelledRecipe().with_changes([*SMALL, *VIT, *changes])


def learner(*changes: str, labels: Labels = EF) -> LabelledLearner:
    return LabelledLearner(recipe(*changes), labels, ALONE)


def batch(step: int, valid: Sequence[bool] = (True,) * 8, views: int = 2) -> Batch:
    count = len(valid)
    random = torch.Generator().manual_seed(step)
    frames = torch.randint(0, 255, (count, 4, 32, 32), dtype=torch.uint8, generator=random)
    videos = tuple(f"d/v{(count * step + row) // views % 8}" for row in range(count))
    samples = np.arange(count * step, count * (step + 1))
    return Batch(step, frames, torch.full((count,), 32), torch.tensor(valid), videos, samples)


def numbers(module: nn.Module) -> list[torch.Tensor]:
    """Return parameters and statistics."""
    return [value.clone() for value in module.state_dict().values()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_coreecho_is_two_losses_and_two_optimisers_that_do_not_meet() -> None:
    plan = [*NO_NOISE, "objective.hidden=16", "optimiser.weight_decay=0.1"]
    found, written = learner(*plan), learner(*plan)
    optimisers = [
        torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.1) for module in (written.encoder, written.head)
    ]
    for step in range(
        4
    ):  # weights that have no say get gradients of rounding alone, so what is compared is what comes out
        now = batch(step)
        update = found.update(now, stop=False)
        clips = augment(now.frames, now.sides, now.samples, found.recipe.clips, 0)
        targets = torch.tensor([EF.values[name] for name in now.videos])
        embeddings = written.encoder(clips).mean(1)
        apart, errors = rank_n_contrast(embeddings, targets, 1.0), written.head(embeddings.detach())[:, 0] - targets
        for optimiser, loss in zip(optimisers, (apart, errors.abs().mean()), strict=True):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert update.gauges is not None
        expected = [apart.item(), errors.abs().mean().item()]
        parts = [update.gauges[name] for name in ("rank_n_contrast", "head_loss", "error")]
        assert parts == pytest.approx([*expected, expected[1]], rel=1e-3)
        assert update.sums.tolist() == pytest.approx([sum(expected), 0, 8], rel=1e-3)


@pytest.mark.parametrize("loss", ["auto", "l1", "smooth-l1"])
def test_echocotr_learns_end_to_end(loss: str) -> None:
    found = learner("objective.name=echocotr", f"objective.loss={loss}", *LINEAR, "objective.bias=55.6")
    assert found.head[-1].bias.tolist() == [pytest.approx(55.6)]
    now = batch(0, (True,) * 4, views=1)
    clips = augment(now.frames, now.sides, now.samples, found.recipe.clips, 0)
    with torch.no_grad():
        outputs = found.head(found.encoder(clips).mean(1))[:, 0]
    targets = torch.tensor([EF.values[name] for name in now.videos])
    function = {"auto": F.mse_loss, "l1": F.l1_loss, "smooth-l1": F.smooth_l1_loss}[loss]
    before = numbers(found.encoder)
    assert found.update(now, False).sums[0].item() == pytest.approx(function(outputs, targets).item(), rel=1e-5)
    assert not same(before, numbers(found.encoder))


@pytest.mark.parametrize(("weights", "expected"), [("none", [1.0, 1.0]), ("balanced", [8 / 12, 8 / 4])])
def test_classes_by_cross_entropy_rare_ones_the_more(weights: str, expected: list[float]) -> None:
    found = learner("objective.name=supervised", f"objective.class_weights={weights}", *LINEAR, labels=REDUCED)
    now = batch(0, (True,) * 4, views=1)
    clips = augment(now.frames, now.sides, now.samples, found.recipe.clips, 0)
    with torch.no_grad():
        outputs = found.head(found.encoder(clips).mean(1)).log_softmax(1)
    places = [int(REDUCED.values[name]) for name in now.videos]
    assert set(places) == {0, 1}
    total = sum(-expected[place] * outputs[row, place].item() for row, place in enumerate(places))
    update = found.update(now, False)
    assert update.sums[0].item() == pytest.approx(total / sum(expected[place] for place in places), rel=1e-5)
    assert update.gauges is not None
    assert update.gauges["accuracy"] == np.mean(outputs.argmax(1).numpy() == places)


def test_a_head_begins_at_the_mean_of_the_training_labels() -> None:
    assert learner().head[-1].bias.tolist() == [pytest.approx(54.5)]


@pytest.mark.parametrize("start", [VIT, UNIFORMER], ids=["vit", "uniformer"])
def test_clips_that_could_not_be_read_have_no_part(start: list[str]) -> None:
    valid = (True, True, False, False, True, True, True, False)
    one, other = learner(*start), learner(*start)
    spoilt = batch(0, valid)
    spoilt.frames[~spoilt.valid] = 255
    found = one.update(batch(0, valid), stop=True), other.update(spoilt, stop=True)
    assert torch.equal(found[0].sums, found[1].sums)
    assert found[0].sums[1:].tolist() == [1, 5]
    assert same(numbers(one.encoder) + numbers(one.head), numbers(other.encoder) + numbers(other.head))


def test_a_batch_that_nothing_can_be_learnt_from_changes_nothing() -> None:
    one = learner(*UNIFORMER)
    one.update(batch(0), stop=False)  # so that the optimiser has momentum
    before = numbers(one.encoder) + numbers(one.head)
    for count in (0, 1, 2):
        update = one.update(batch(1, (True,) * count + (False,) * (8 - count)), stop=False)
        assert update.sums.tolist() == [0, 0, count]
        assert update.gradient == 0
        assert same(before, numbers(one.encoder) + numbers(one.head))


def test_a_run_that_goes_on_ends_where_one_that_was_never_killed_does() -> None:
    through, killed = learner(*UNIFORMER, "encoder.dropout=0.3"), learner(*UNIFORMER, "encoder.dropout=0.3")
    for step in range(3):
        through.update(batch(step), False)
    killed.update(batch(0), False)
    content = killed.state()
    torch.rand(17)  # whatever else is drawn
    resumed = learner(*UNIFORMER, "encoder.dropout=0.3", "run.seed=0")
    resumed.load(content)
    for step in (1, 2):
        resumed.update(batch(step), False)
    assert same(numbers(through.encoder) + numbers(through.head), numbers(resumed.encoder) + numbers(resumed.head))


def test_dropout_differs_from_step_to_step_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found = learner(*UNIFORMER, "encoder.dropout=0.5", "optimiser.lr=0")
    losses = [found.update(batch(0), False).sums[0].item() for _ in range(2)]
    assert torch.equal(torch.rand(3), expected)
    assert losses[0] == losses[1]
    other = batch(0)
    assert (
        found.update(Batch(1, other.frames, other.sides, other.valid, other.videos, other.samples), False).sums[0]
        != losses[0]
    )


@pytest.mark.parametrize(
    ("objective", "falls"),
    [("coreecho", [0, 0, 1, 1, 1, 1]), ("echocotr", [0, 0, 1, 1, 2, 2]), ("supervised", [0, 0, 1, 1, 2, 2])],
)
def test_the_learning_rate_falls_with_the_epochs(objective: str, falls: list[int]) -> None:
    found = learner(f"objective.name={objective}", "optimiser.decay_epoch=2", "optimiser.decay_rate=0.5")
    rates = [found.update(batch(step, (False,) * 8), False).rates for step in range(12)]  # two steps an epoch
    assert [rate for rate, *_ in rates] == [pytest.approx(1e-3 * 0.5**fall) for fall in falls for _ in range(2)]


def test_the_rate_rises_in_the_first_epochs_where_it_is_asked_to() -> None:
    found = learner("optimiser.warmup=2", "optimiser.lr=0.1")
    epoch = found.recipe.epoch(len(found.labels.values))
    rates = [found._rates(step)[0] for step in range(3 * epoch)]
    assert rates[: 2 * epoch] == pytest.approx([0.1 * (step + 1) / (2 * epoch) for step in range(2 * epoch)])
    assert rates[2 * epoch :] == pytest.approx([0.1] * epoch)


@pytest.mark.parametrize("labels", [EF, REDUCED], ids=["numbers", "classes"])
def test_what_is_saved_says_the_same_of_the_same_clips(labels: Labels, tmp_path: Path) -> None:
    name = "supervised" if labels.classes else "coreecho"
    found = learner(*UNIFORMER, f"objective.name={name}", labels=labels)
    for step in range(2):
        found.update(batch(step), False)
    clips = np.random.default_rng(0).integers(0, 255, (3, 4, 32, 32, 3), np.uint8)
    said = found.predict(clips)
    for _ in range(2):  # again over what is there
        found.save(tmp_path / "best.safetensors")
    assert sorted(p.name for p in tmp_path.rglob("*")) == [
        "best.head",
        "best.safetensors",
        "probe.json",
        "probe.safetensors",
    ]
    tokens = load_encoder(tmp_path / "best.safetensors")(normalise(torch.from_numpy(clips)))
    features = Features(("a", "b", "c"), tokens.numpy()[:, None])
    probe = load_probe(tmp_path / "best.head")
    expected = torch.from_numpy(said).softmax(1).numpy() if labels.classes else said
    np.testing.assert_allclose(probe.predict(features), expected, rtol=1e-5, atol=1e-5)
    assert probe.classes == labels.classes
    assert probe.about["task"] == labels.task


def test_predicting_changes_nothing() -> None:
    found = learner(*UNIFORMER)
    before = numbers(found.encoder) + numbers(found.head)
    clips = np.zeros((2, 4, 32, 32, 3), np.uint8)
    assert np.array_equal(found.predict(clips), found.predict(clips))
    assert same(before, numbers(found.encoder) + numbers(found.head))
    assert found.encoder.training
    assert found.head.training


def test_it_learns() -> None:
    """Bright clips have large labels; an encoder that sees so brings embeddings into their order."""
    found = learner(*NO_NOISE, "objective.hidden=16", "optimiser.lr=3e-3")
    losses = []
    for step in range(25):
        now = batch(step)
        levels = torch.tensor([EF.values[name] for name in now.videos])
        now.frames[:] = (now.frames.float() / 10 + 2 * levels[:, None, None, None]).to(torch.uint8)
        losses.append(found.update(now, False).gauges["rank_n_contrast"])  # type: ignore[index]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])


@pytest.mark.parametrize(
    ("changes", "labels", "words"),
    [
        ([], REDUCED, "coreecho learns a number, and reduced has the classes normal, reduced"),
        (["objective.name=supervised", "objective.loss=l1"], REDUCED, "l1 is not for reduced, a task of classes"),
        (["objective.loss=cross-entropy"], EF, "cross-entropy is not for ef, a task of numbers, which has l1, mse"),
        (["objective.class_weights=balanced"], EF, "balanced, and ef is a number"),
        (["optimiser.batch=1"], EF, "takes 2 at least"),
        (["objective.name=supervised", "optimiser.batch=1", *UNIFORMER], REDUCED, "takes 2 at least"),
        (["encoder.statistics=echonet"], EF, "cannot be chosen"),
    ],
)
def test_what_cannot_be(changes: list[str], labels: Labels, words: str) -> None:
    with pytest.raises(InputError, match=words):
        learner(*changes, labels=labels)


def test_what_a_recipe_says_of_the_encoder_is_done_or_said() -> None:
    found = learner(*UNIFORMER, "encoder.dropout=0.2", "encoder.statistics=kinetics")
    assert {module.p for module in found.encoder.modules() if isinstance(module, nn.Dropout)} == {0.2}
    assert found.encoder.config.statistics == "kinetics"
    assert len(found.notes) == 1
    assert "no dropout layers" in learner("encoder.dropout=0.1").notes[1]


def test_bfloat16_products_and_float32_losses() -> None:
    found, plain = learner("run.precision=bfloat16", *NO_NOISE), learner(*NO_NOISE)
    update, expected = found.update(batch(0), False), plain.update(batch(0), False)
    assert update.sums.dtype == torch.float32
    assert update.sums[0].item() == pytest.approx(expected.sums[0].item(), rel=0.02)
    assert update.sums[0] != expected.sums[0]
    assert {parameter.dtype for parameter in found.encoder.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["r3d_18", "mc3_18", "r2plus1d_18", "resnet3d_18", "two_stream_resnet18", "timm:resnet10t"]
)
def test_every_network_learns(name: str, tmp_path: Path) -> None:
    spec = f"random:{name}@0"
    found = learner(f"encoder.start={spec}", "encoder.dropout=0", "objective.name=echocotr", *LINEAR)
    before = numbers(found.encoder)
    update = found.update(batch(0, (True, True, True, False), views=1), False)
    assert update.gradient > 0
    assert not same(before, numbers(found.encoder))
    found.save(tmp_path / "one.safetensors")
    clips = np.zeros((2, 4, 32, 32, 3), np.uint8)
    tokens = load_encoder(tmp_path / "one.safetensors")(normalise(torch.from_numpy(clips)))
    features = Features(("a", "b"), tokens.numpy()[:, None])
    expected = load_probe(tmp_path / "one.head").predict(features)
    np.testing.assert_allclose(expected, found.predict(clips), rtol=1e-4)
