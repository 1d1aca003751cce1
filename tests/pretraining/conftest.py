from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from echolung.datasets import Manifest
from echolung.pretraining.recipe import Recipe, read_recipe


@pytest.fixture(scope="session")
def few_videos(
    tmp_path_factory: pytest.TempPathFactory, grey_frames: Callable[..., Any], write_video: Callable[..., Path]
) -> Path:
    """Return a folder of six small videos."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        write_video(
            folder / f"v{number}.avi", grey_frames(30, 64, 80, seed=number), fps=25, codec="mjpeg", pixels="yuvj420p"
        )
    return folder


@pytest.fixture(scope="session")
def manifest_of() -> Callable[..., Manifest]:
    """Return what makes the manifest of the videos in a folder."""

    def make(folder: Path, name: str = "few") -> Manifest:
        files = sorted(folder.glob("*.avi"))
        names = [file.stem for file in files]
        videos = pd.DataFrame(
            {"video_id": names, "path": [file.name for file in files], "patient": names, "source": ""}
        )
        return Manifest(name, folder, videos, {})

    return make


@pytest.fixture(scope="session")
def few(few_videos: Path, manifest_of: Callable[..., Manifest]) -> Manifest:
    """Return the manifest of six small videos."""
    return manifest_of(few_videos)


@pytest.fixture(scope="session")
def smallest() -> Recipe:
    """Return a recipe whose steps take a moment: 16 tokens a clip."""
    return read_recipe("tiny-cpu").with_changes(
        [
            "clips.size=32", "predictor.depth=1", "predictor.dim=24", "predictor.heads=2",
            "optimiser.batch=4", "optimiser.steps=8", "run.save_every=3", "run.gauge_every=4", "run.judge_every=4",
        ]
    )  # fmt: skip
