"""Which videos are shown, and the outlines of their ventricles."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from echolung.datasets.manifest import Manifest, Task
from echolung.datasets.tracings import Outline, read_tracings
from echolung.errors import InputError
from echolung.text import listed, suggest


def named_rows(manifest: Manifest, names: Sequence[str]) -> list[int]:
    """Return the rows of some videos; InputError where one is not in the dataset."""
    place = {str(video): row for row, video in enumerate(manifest.videos["video_id"])}
    if unknown := [name for name in names if name not in place]:
        raise InputError(
            f"{manifest.name} has no video {listed(unknown, 5)}; it has {listed(place, 3)}.{suggest(unknown[0], place)}"
        )
    return [place[name] for name in dict.fromkeys(names)]


def spread_rows(manifest: Manifest, count: int, traced: Collection[str], task: Task | None) -> list[int]:
    """Return the rows of `count` videos, evenly over the order of their labels.

    They are of the test part where the dataset has one, and have tracings where any such video has.
    """
    videos = manifest.videos.assign(row=np.arange(len(manifest.videos)))
    if "split" in videos and (videos["split"] == "test").any():
        videos = videos[videos["split"] == "test"]
    if (known := videos["video_id"].isin(traced)).any():
        videos = videos[known]
    if task is not None:
        videos = _ordered(videos, task)
    places = np.linspace(0, len(videos) - 1, min(count, len(videos))).round().astype(int)
    rows: list[int] = videos["row"].iloc[places].tolist()
    return rows


def _ordered(videos: pd.DataFrame, task: Task) -> pd.DataFrame:
    labels = videos[task.column]
    known = labels.notna() & (labels != "")
    if known.any():
        videos, labels = videos[known], labels[known]
    keys = labels.map({name: i for i, name in enumerate(task.classes)}) if task.classes else labels
    return videos.assign(_key=keys).sort_values(["_key", "video_id"], kind="stable")


def outlines_of(manifest: Manifest) -> tuple[Mapping[str, Mapping[int, Outline]], str]:
    """Return video -> frame -> outline, and why there are none ("" where there are)."""
    try:
        return read_tracings(manifest), ""
    except InputError as error:
        return {}, str(error)
