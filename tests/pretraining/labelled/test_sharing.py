"""Two processes that share a batch learn what one learns from all of it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from echolung.pretraining.distributed import Group
from echolung.pretraining.labelled.sharing import gather, sum_gradients

WORKER = """
import sys
import numpy as np
import torch
from echolung.pretraining.distributed import join
from echolung.pretraining.labelled.labels import Labels
from echolung.pretraining.labelled.learner import LabelledLearner
from echolung.pretraining.labelled.recipe import LabelledRecipe
from echolung.pretraining.loader import Batch

where, name = sys.argv[1], sys.argv[2]
labels = Labels("ef", {f"d/v{i}": 30.0 + 7 * i for i in range(8)})
recipe = LabelledRecipe().with_changes([
    "clips.frames=4", "clips.size=32", "clips.shift=2", "optimiser.batch=4", "optimiser.lr=1e-2", "run.gauge_every=1",
    "encoder.start=random:vit_tiny@0", "encoder.dropout=0", "objective.hidden=16", f"objective.name={name}",
])
with join(torch.device("cpu")) as group:
    learner = LabelledLearner(recipe, labels, group)
    told = []
    for step in range(3):
        frames = torch.randint(0, 255, (8, 4, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(step))
        # Of the last step the second process could read nothing at all.
        valid = torch.tensor([True, True, True, False, *([step < 2] * 4)])
        rows = slice(group.rank * 8 // group.ranks, (group.rank + 1) * 8 // group.ranks)
        videos = tuple(f"d/v{(8 * step + row) // 2 % 8}" for row in range(8))[rows]
        samples = np.arange(8 * step, 8 * step + 8)[rows]
        sides = torch.full((len(videos),), 32)
        update = learner.update(Batch(step, frames[rows], sides, valid[rows], videos, samples), stop=group.rank == 1)
        told.append([*update.sums.tolist(), float(update.gradient), *update.gauges.values()])
    torch.save({"told": told, **learner.state()}, f"{where}/{name}-{group.ranks}-{group.rank}.pt")
"""


def run(folder: Path, objective: str, ranks: int) -> list[dict]:
    """Return what each of some processes came to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), objective],
            env={**shared, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    for process in processes:
        _, text = process.communicate(timeout=240)
        assert process.returncode == 0, text
    return [torch.load(folder / f"{objective}-{ranks}-{rank}.pt") for rank in range(ranks)]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["coreecho", "echocotr"])
def test_two_processes_learn_what_one_does(objective: str, tmp_path: Path) -> None:
    (alone,) = run(tmp_path, objective, 1)
    one, other = run(tmp_path, objective, 2)
    for step, (whole, shared) in enumerate(zip(alone["told"], one["told"], strict=True)):
        assert shared[1:3] == [1, 7 if step < 2 else 3]
        assert shared[:1] + shared[2:] == pytest.approx(whole[:1] + whole[2:], rel=2e-2)
    assert one["told"][0][0] == pytest.approx(alone["told"][0][0], rel=1e-5)
    assert one["told"][0][3] == pytest.approx(alone["told"][0][3], rel=1e-4)  # the gradient
    for part in ("encoder", "head"):
        for mine, theirs in zip(one[part].values(), other[part].values(), strict=True):
            assert torch.equal(mine, theirs)


def test_alone_nothing_is_told() -> None:
    group = Group(0, 1, torch.device("cpu"))
    embeddings, targets = torch.randn(3, 2, requires_grad=True), torch.arange(3.0)
    found = gather(group, embeddings, targets, 4)
    assert found[0] is embeddings
    assert found[1] is targets
    parameter = torch.nn.Parameter(torch.ones(2))
    sum_gradients(group, [parameter])
    assert parameter.grad is None


def test_embeddings_keep_their_gradient_where_they_are_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process, played: two clips before this one's three, and one of its places empty."""
    theirs = torch.tensor([[1.0, 2.0, 50.0, 1.0], [3.0, 4.0, 60.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])

    def play(tables: list[torch.Tensor], own: torch.Tensor) -> None:
        tables[0].copy_(theirs)
        tables[1].copy_(own)

    monkeypatch.setattr("torch.distributed.all_gather", play)
    own = torch.randn(3, 2, requires_grad=True)
    found, targets = gather(Group(1, 2, torch.device("cpu")), own, torch.tensor([70.0, 80.0, 90.0]), 4)
    assert torch.equal(found, torch.cat([theirs[:2, :2], own]))
    assert targets.tolist() == [50, 60, 70, 80, 90]
    (found * torch.arange(1.0, 6)[:, None]).sum().backward()
    assert np.array_equal(own.grad[:, 0].numpy(), [3, 4, 5])
