"""An encoder cut in two is the same encoder; what is below it need be computed once."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from echolung.encoders import normalise
from echolung.encoders.encoder import load_model
from echolung.finetuning.cut import cut_encoder, map_tensors
from echolung.finetuning.inputs import Inputs

CLIPS = np.random.default_rng(0).integers(0, 255, (3, 2, 2, 4, 32, 32, 3), dtype=np.uint8)
VIDEOS, SHOWN = np.array([2, 0]), np.array([1, 0])


@pytest.mark.parametrize(
    ("name", "unfreeze"),
    [("vit_tiny", "last:1"), ("vit_tiny", "none"), ("uniformer_tiny", "last:2"), ("uniformer_tiny", "all")],
)
def test_kept_and_computed_are_the_encoder_itself(name, unfreeze):
    model, _ = load_model(f"random:{name}")
    cut = cut_encoder(model, unfreeze)
    cut.set_modes(False, "fixed")
    computed, kept = Inputs(cut, CLIPS), Inputs(cut, CLIPS)
    assert kept.keep(1e9) == (unfreeze != "all")
    with torch.no_grad():
        whole = model(normalise(torch.from_numpy(CLIPS[VIDEOS, SHOWN].reshape(-1, 4, 32, 32, 3))))
        whole = whole.mean(1, keepdim=True) if unfreeze == "none" else whole
        for inputs in (computed, kept):
            torch.testing.assert_close(cut.above(inputs.of(VIDEOS, SHOWN)), whole, rtol=1e-4, atol=1e-5)


def test_too_little_memory_keeps_nothing():
    cut = cut_encoder(load_model("random:vit_tiny")[0], "last:1")
    inputs = Inputs(cut, CLIPS)
    needed = inputs.bytes_a_clip() * 12
    assert not inputs.keep(needed - 1)
    assert inputs.kept is None
    assert inputs.keep(needed)


def test_only_the_last_stages_learn(make_problem):
    cut = make_problem().cut
    learns = {name for name, p in cut.model.named_parameters() if p.requires_grad}
    assert learns == {"high.0.weight", "high.0.bias", "high.1.weight", "high.1.bias"}


def test_restart_brings_everything_back(make_problem):
    cut = make_problem().cut
    before = {name: value.clone() for name, value in cut.model.state_dict().items()}
    cut.set_modes(True, "learnt")
    cut.above(cut.below(torch.ones(2, 3, 3, 8, 8)))
    with torch.no_grad():
        cut.model.high[0].weight += 1
    cut.restart()
    for name, value in cut.model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize(("batch_norm", "moves"), [("fixed", False), ("learnt", True)])
def test_batch_norm_keeps_its_statistics_unless_asked(make_problem, batch_norm, moves):
    cut = make_problem().cut
    cut.set_modes(True, batch_norm)
    assert cut.model.high[3].training  # dropout
    assert not cut.model.low.training
    cut.above(cut.below(torch.ones(2, 3, 3, 8, 8)))
    assert bool(cut.model.high[1].running_mean.any()) == moves
    assert not cut.model.low[1].running_mean.any()


def test_what_is_between_stages_learns_with_the_whole():
    model, _ = load_model("random:uniformer_tiny")
    between = model.pos_drop
    for unfreeze, learns in (("all", True), ("last:1", False)):
        cut_encoder(model, unfreeze).set_modes(True, "fixed")
        assert between.training == learns
    assert isinstance(between, nn.Dropout)


class Pair(NamedTuple):
    a: Tensor
    b: int


@dataclass(frozen=True)
class Box:
    values: Tensor
    grid: tuple[int, int, int]


def test_tensors_within_anything_that_stages_hand_on():
    one = torch.ones(2)
    value = (Pair(one, 3), [one], Box(one, (1, 2, 3)))
    found = map_tensors(value, lambda tensor: tensor + 1)
    assert isinstance(found[0], Pair)
    assert found[0].b == 3
    assert found[2].grid == (1, 2, 3)
    assert [t.tolist() for t in (found[0].a, found[1][0], found[2].values)] == [[2, 2]] * 3
