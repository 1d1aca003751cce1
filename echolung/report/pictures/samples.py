"""What the dataset looks like: a few clips of each class."""

from pathlib import Path

import numpy as np
import pandas as pd

from echolung.cache import TokenStore
from echolung.report.pictures.clips import clip_rows, has_previews, spread, strip_frames, whereabouts
from echolung.report.pictures.strips import Strip, draw_strips
from echolung.report.run import Run

MOST = 9
"""Clips shown, at most (one a class, where there are more classes)."""


def caption(run: Run, store: TokenStore) -> str:
    """Return what the picture shows."""
    what = "of each class" if run.result.task.classes else "from the lowest number to the highest"
    return (
        f"Clips {what}, drawn by chance, of different patients where there are enough; frames evenly over all segments."
    )


def draw_samples(run: Run, store: TokenStore, folder: Path) -> list[Path]:
    """Draw samples.png: a few clips of each class (of numbers: evenly over their range), the same ones each time."""
    if not has_previews(store):
        return []
    videos = run.result.predictions.drop_duplicates("video_id")
    chosen = _of_classes(videos, run.result.task.classes) if run.result.task.classes else _over_range(videos)
    rows = clip_rows(store, chosen["video_id"].tolist())
    strips = [
        Strip(
            strip_frames(store, rows[video["video_id"]]),
            _label(video["truth"]),
            whereabouts(video, ("patient", "source")),
        )
        for _, video in chosen.iterrows()
        if video["video_id"] in rows
    ]
    if not strips:
        return []
    settings = run.result.settings
    return [draw_strips(strips, f"{settings['dataset']} · {settings['task']}").save(folder / "samples.png")]


def _of_classes(videos: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Return as many videos of each class, in the order of classes, patients in turn."""
    each = max(1, MOST // len(classes))
    shuffled = videos.sort_values("video_id").sample(frac=1, random_state=0)
    patient = shuffled["patient"].astype(str).where(shuffled["patient"].astype(str) != "", shuffled["video_id"])
    turn = shuffled.groupby([shuffled["truth"], patient]).cumcount()
    shuffled = shuffled.assign(turn=turn).sort_values("turn", kind="stable")
    return pd.concat([shuffled[shuffled["truth"] == name].head(each) for name in classes])


def _over_range(videos: pd.DataFrame) -> pd.DataFrame:
    ordered = videos.sort_values(["truth", "video_id"])
    return ordered.iloc[np.unique(spread(len(ordered), MOST))]


def _label(truth: object) -> str:
    return truth if isinstance(truth, str) else f"{truth:.4g}"
