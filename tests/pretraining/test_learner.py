"""One update by one batch."""

import numpy as np
import pytest
import torch

from echolung.pretraining.distributed import Group
from echolung.pretraining.learner import JepaLearner
from echolung.pretraining.loader import Batch
from echolung.pretraining.recipe import Recipe
from echolung.pretraining.start import start


@pytest.fixture
def learner(smallest: Recipe) -> JepaLearner:
    return JepaLearner(smallest, start(smallest), Group(0, 1, torch.device("cpu")))


def batch(step: int, valid: list[bool]) -> Batch:
    frames = torch.randint(0, 255, (4, 8, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(step))
    samples = np.arange(4 * step, 4 * step + 4)
    return Batch(step, frames, torch.full((4,), 32), torch.tensor(valid), ("a", "b", "c", "d"), samples)


def weights(learner: JepaLearner) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in learner.jepa.parameters()]


def changed(before: list[torch.Tensor], after: list[torch.Tensor]) -> int:
    return sum(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_batch_that_nobody_could_read_teaches_nothing(learner: JepaLearner) -> None:
    learner.update(batch(0, [True] * 4), stop=False)  # so that the optimiser has momentum
    before = weights(learner)
    update = learner.update(batch(1, [False] * 4), stop=False)
    assert update.sums.tolist() == [0, 0, 0]
    assert changed(before, weights(learner)) == 0
    learner.update(batch(2, [True] * 4), stop=False)
    assert changed(before, weights(learner)) > 50


def test_clips_that_could_not_be_read_have_no_part(learner: JepaLearner, smallest: Recipe) -> None:
    other = JepaLearner(smallest, start(smallest), Group(0, 1, torch.device("cpu")))
    some = batch(0, [True, False, True, False])
    spoilt = batch(0, [True, False, True, False])
    spoilt.frames[[1, 3]] = 255
    one, two = learner.update(some, stop=True), other.update(spoilt, stop=True)
    assert torch.equal(one.sums, two.sums)
    assert one.sums[1:].tolist() == [1, 2]
    assert changed(weights(learner), weights(other)) == 0
