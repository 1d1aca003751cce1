"""A dataset of a few tiny videos, and what to do with it."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from echolung.cache import TokenStore
from echolung.clips import ClipPlan
from echolung.datasets import load_manifest
from echolung.encoders import identify
from echolung.errors import DecodeError
from echolung.extraction import ExtractionPlan, make_plan

CLIPS = ClipPlan(segments=2, frames=4, size=32)


class Dataset:
    """Five videos v0 … v4 in `folder` with the table `videos.csv`; a plan for them."""

    def __init__(self, folder: Path, frames: Callable[..., np.ndarray], write: Callable[..., Path]) -> None:
        self.folder, self._frames, self._write = folder, frames, write
        self.labels = {f"v{i}": "ab"[i % 2] for i in range(5)}
        for i in range(5):
            self.write_video(f"v{i}", seed=i)
        self.write_table()

    def write_video(self, name: str, seed: int) -> Path:
        return self._write(self.folder / f"{name}.mp4", self._frames(10 + seed, 48, 64, seed=seed))

    def write_table(self) -> None:
        lines = [f"{name}.mp4,p_{name},{label}" for name, label in self.labels.items()]
        (self.folder / "videos.csv").write_text("path,patient,kind\n" + "\n".join(lines) + "\n")

    def plan(self, path: Path | None = None, clips: ClipPlan = CLIPS, encoder: str = "random:vit_tiny", **options: Any):
        manifest = load_manifest("table", self.folder / "videos.csv")
        return make_plan(manifest, identify(encoder), clips, path=path, **{"precision": "float32", **options})


@pytest.fixture
def dataset(tmp_path, grey_frames, write_video) -> Dataset:
    """Return a dataset of its own for the test."""
    folder = tmp_path / "data"
    folder.mkdir()
    return Dataset(folder, grey_frames, write_video)


def _in_process(function: Callable[..., Any], jobs: Iterable[Any], arguments: Callable[..., Any], *_: Any):
    """Do what `run_in_workers` does without its processes, which take a second to start."""
    for job in jobs:
        try:
            yield job, function(*arguments(job))
        except DecodeError as error:
            yield job, error


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """These matrices are small: more threads than one only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def extract(monkeypatch) -> Callable[..., TokenStore]:
    """Return `extract` on the CPU, three clips a batch; in worker processes only where `workers` is given."""
    from echolung.extraction import run

    def call(plan: ExtractionPlan, said: list[str] | None = None, **options: Any) -> TokenStore:
        progress = run.Progress(log=said.append if said is not None else lambda text: None)
        with monkeypatch.context() as patch:
            if "workers" not in options:
                patch.setattr(run, "run_in_workers", _in_process)
            return run.extract(plan, **{"device": "cpu", "batch": 3, "progress": progress, **options})

    return call


@pytest.fixture(scope="session")
def arrays() -> Callable[[Path], dict[str, np.ndarray]]:
    """Return a reader of every array of a store, tables included."""

    def read(path: Path) -> dict[str, np.ndarray]:
        group = zarr.open_group(path, mode="r")
        return {name: node[...] for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}

    return read
