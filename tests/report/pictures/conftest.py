"""Small runs whose stores keep previews: a bright square that moves, another place and pace in each clip."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from echolung.cache import Snapshot, TokenStore
from echolung.cache.layout import Block
from echolung.datasets.manifest import Task
from echolung.evaluation import Result
from echolung.evaluation.summary import summarise
from echolung.probes import Probe
from echolung.probes.heads import ATTENTIVE, attentive_lite
from echolung.report.run import Run

VIDEOS, DIM = 12, 16
CLASSES = ("healthy", "ill", "very ill")
TASKS = {"label": Task("classification", "label", CLASSES), "number": Task("regression", "number")}


def previews(clips: int) -> np.ndarray:
    frames = np.full((clips, 8, 112, 112), 20, np.uint8)
    for clip, k in np.ndindex(clips, 8):
        frames[clip, k, 10 * k : 10 * k + 30, 5 * (clip % 10) : 5 * (clip % 10) + 30] = 200
    return frames


def table() -> pd.DataFrame:
    place = np.arange(VIDEOS)
    return pd.DataFrame(
        {
            "video_id": [f"a video with quite a long name, number {i:02d}" for i in place],
            "patient": [f"p{i // 2}" for i in place],
            "source": [f"s{i % 3}" for i in place],
            "label": [CLASSES[i // 2 % 3] for i in place],
            "number": 10.0 + place,
        }
    )


def write(path: Path, grid: tuple[int, int, int], segments: int, preview: bool, tokens: bool) -> TokenStore:
    videos, clips, count = table(), VIDEOS * segments, int(np.prod(grid)) * tokens
    rows = videos.loc[np.repeat(np.arange(VIDEOS), segments), ["video_id", "patient", "source"]].reset_index(drop=True)
    rows["segment"], rows["view"] = np.tile(np.arange(segments), VIDEOS), 0
    snapshot = Snapshot("squares", videos.assign(path="x.mp4"), {name: task.to_json() for name, task in TASKS.items()})
    sizes: dict[str, Any] = {"tokens": count, "dim": DIM, "frames": 16, "block": clips, "preview": preview}
    store = TokenStore.create(path, {"made": "up"}, rows, snapshot, grid=grid if tokens else (0, 0, 0), **sizes)
    random = np.random.default_rng(0)
    values = random.normal(size=(clips, max(count, 1), DIM)) + random.normal(size=(clips, 1, DIM))
    nothing, zeros = [""] * clips, [0] * clips
    frames = np.tile(np.arange(16, dtype=np.int32), (clips, 1))
    store.write(Block(0, values.astype(np.float32), frames, previews(clips), nothing, zeros, zeros, nothing))
    store.finish()
    return TokenStore.open(path)


def judge(task: str, repeats: int) -> pd.DataFrame:
    """Return predictions: every third video is wrong, the later the worse."""
    videos = table().drop(columns=["label", "number"])
    place = np.arange(VIDEOS)
    parts = []
    for repeat in range(repeats):
        part = videos.assign(fold=place // 2 % 2 + 2 * repeat)
        if task == "number":
            parts.append(part.assign(truth=10.0 + place, prediction=10.0 + place + 0.1 * place * (-1) ** repeat))
            continue
        truth = place // 2 % 3
        p = np.full((VIDEOS, 3), 0.1)
        p[place, np.where(place % 3 == 2, (truth + 1) % 3, truth)] = 0.5 + place / 30
        p /= p.sum(1, keepdims=True)
        columns = {f"p_{name}": p[:, c] for c, name in enumerate(CLASSES)}
        parts.append(part.assign(truth=np.array(CLASSES)[truth], **columns))
    return pd.concat(parts, ignore_index=True)


def make_probe(kind: str, outputs: int) -> Probe:
    head = ATTENTIVE if kind == "attentive" else attentive_lite(4)
    drawn = head.init(DIM, outputs, torch.Generator().manual_seed(0))
    arrays = {name: (40 * value if name == "query" else value).numpy() for name, value in drawn.items()}
    return Probe(kind, CLASSES if outputs > 1 else (), arrays, {"setting": {}})


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Run, TokenStore]]:
    """Return a maker of runs and their stores."""

    def make(
        task: str = "label",
        probe: str | None = "attentive-lite",
        *,
        grid: tuple[int, int, int] = (8, 2, 2),
        segments: int = 2,
        fusion: str = "early",
        repeats: int = 1,
        preview: bool = True,
        tokens: bool = True,
    ) -> tuple[Run, TokenStore]:
        folder = tmp_path_factory.mktemp("run")
        predictions, classes = judge(task, repeats), TASKS[task].classes
        guess = [1 / 3] * 3 if classes else [15.0]
        folds = pd.DataFrame([{"fold": fold, "guess": guess} for fold in sorted(set(predictions["fold"]))])
        settings = {"dataset": "squares", "task": task, "probe": str(probe), "fusion": fusion, "folds": 2}
        settings |= {"protocol": "nested", "group": "patient", "repeats": repeats}
        fitted = None if probe is None else make_probe(probe, len(classes) or 1)
        result = Result(predictions, folds, [], fitted, TASKS[task], settings)
        once = replace(result, predictions=predictions[predictions["fold"] < 2], folds=folds[:2])
        store = write(folder / "store.zarr", grid, segments, preview, tokens)
        return Run(folder, {}, result, summarise(once), (), ()), store

    return make
