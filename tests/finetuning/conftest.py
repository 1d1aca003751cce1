"""What tests of fine-tuning share: a store of small lung phantoms with its videos, and a network of two stages."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from echolung.cache import TokenStore
from echolung.clips import ClipPlan
from echolung.datasets import Task, load_manifest, phantom_lung
from echolung.datasets.manifest import Manifest
from echolung.encoders import identify
from echolung.encoders.stages import Stage
from echolung.evaluation.data import TaskData
from echolung.extraction import make_plan
from echolung.extraction.run import extract
from echolung.finetuning.cut import cut_encoder
from echolung.finetuning.inputs import Inputs
from echolung.finetuning.tuner import Problem
from echolung.finetuning.tuning import Tuning

CLIPS = ClipPlan(segments=2, frames=4, size=32, views=1)


@dataclass
class Lungs:
    """Videos on disk, and the store that was made of them by a random vit_tiny."""

    videos: Path
    store: TokenStore

    def numbers(self) -> Manifest:
        """Return the store's table with a task of numbers."""
        videos = self.store.snapshot.videos
        videos = videos.assign(depth=np.linspace(40, 70, len(videos)))
        return Manifest("phantom-lung", Path(), videos, {"depth": Task("regression", "depth")})


@pytest.fixture(scope="session")
def lungs(tmp_path_factory) -> Lungs:
    folder = tmp_path_factory.mktemp("lungs")
    phantom_lung.write(folder / "videos", videos=18, patients=18, frames=8, size=48)
    manifest = load_manifest("phantom-lung", folder / "videos")
    plan = make_plan(
        manifest, identify("random:vit_tiny"), CLIPS, path=folder / "lungs.zarr", precision="float32", tokens="none"
    )
    return Lungs(manifest.root, extract(plan, device="cpu", workers=1, preview=False))


class Small(nn.Module):
    """Two convolutions with BatchNorm and dropout, a stage each."""

    dim = 6

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.low = nn.Sequential(nn.Conv3d(3, 4, 3, stride=2), nn.BatchNorm3d(4), nn.ReLU())
            self.high = nn.Sequential(nn.Conv3d(4, 6, 1), nn.BatchNorm3d(6), nn.ReLU(), nn.Dropout(0.2))

    def stages(self) -> tuple[Stage, ...]:
        return (
            Stage("low", (self.low,), self.low),
            Stage("high", (self.high,), lambda x: self.high(x).flatten(2).mT),
        )


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    """Return a maker of problems for `Small`: random videos whose class shows in their brightness, or a number."""

    def make(videos: int = 24, regression: bool = False, views: int = 1, segments: int = 2, **tuning: Any) -> Problem:
        import pandas as pd

        random = np.random.default_rng(1)
        label = np.arange(videos) % 2
        clips = random.integers(0, 160, (videos, views, segments, 3, 8, 8, 3), dtype=np.uint8)
        clips += (60 * label[:, None, None, None, None, None, None]).astype(np.uint8)
        names = [f"v{i:02d}" for i in range(videos)]
        table = pd.DataFrame({"video_id": names, "path": names, "patient": names, "source": "s"})
        if regression:
            task, targets = Task("regression", "n"), (50 + 10 * label + random.normal(size=videos)).astype(np.float32)
        else:
            task, targets = Task("classification", "c", ("dark", "light")), label.astype(np.int64)
        data = TaskData("c", task, table, np.arange(videos), targets, np.array(names), "patient", ())
        how = Tuning(**{"unfreeze": "last:1", "epochs": 3, "batch": 5, **tuning}).resolved()
        return Problem(data, Inputs(cut_encoder(Small(), how.unfreeze), clips), how)

    return make
