"""A store and a task -> the labelled videos: targets, and the groups that must not be split."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echolung.cache import Snapshot, TokenStore
from echolung.datasets.manifest import Manifest, Task
from echolung.errors import InputError

GROUPS = ("patient", "source", "video")


@dataclass(frozen=True)
class TaskData:
    """The labelled videos of a task, in the order of the features they go with.

    Attributes:
        name: of the task.
        task: what is asked.
        videos: one row a video: video_id, patient, source and all other columns of the dataset's table.
        rows: place of each video among all videos of the store that could be read.
        targets: class index (int64), or the number (float32).
        groups: what a video must share a fold with: its patient, source, or itself.
        level: which of these `groups` is.
        notes: what was left out, for the user to read.
    """

    name: str
    task: Task
    videos: pd.DataFrame
    rows: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    level: str
    notes: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """Number of classes, or 1."""
        return len(self.task.classes) or 1


def manifest_of(snapshot: Snapshot) -> Manifest:
    """Return the manifest that a store keeps of its dataset."""
    tasks = {name: Task.from_json(fields) for name, fields in snapshot.tasks.items()}
    return Manifest(snapshot.dataset, Path(), snapshot.videos, tasks)


def task_data(
    store: TokenStore, video_ids: tuple[str, ...], task: str | None, manifest: Manifest | None, group: str | None
) -> TaskData:
    """Return the labelled videos among `video_ids`.

    Args:
        store: whose snapshot of the dataset is used where no `manifest` is given.
        video_ids: the videos that have features.
        task: name of the task; None: the first.
        manifest: another table for the same videos.
        group: "patient", "source" or "video"; None: patients where all are known, else sources, else videos.

    Raises:
        InputError: no such task, unlabelled videos only, or groups that are not known.
    """
    manifest = manifest or manifest_of(store.snapshot)
    name, what = manifest.task(task)
    table = manifest.videos.set_index("video_id", drop=False)
    known = np.array([video in table.index for video in video_ids])
    videos = table.loc[[video for video in video_ids if video in table.index]]
    labels = videos[what.column]
    if what.kind == "regression":
        labels = pd.to_numeric(labels, errors="coerce").replace([np.inf, -np.inf], np.nan)
    labelled = (labels.notna() & (labels.astype(str) != "")).to_numpy()
    notes = []
    if missing := int(len(video_ids) - labelled.sum()):
        notes.append(f"{missing} of {len(video_ids)} videos have no label for {name} and are left out.")
    if failures := store.failures:
        notes.append(f"{len(failures)} videos could not be read at extraction: {', '.join(list(failures)[:5])}.")
    videos, labels = videos[labelled].reset_index(drop=True), labels[labelled]
    if videos.empty:
        raise InputError(f"No video of {store.path.name} has a label in the column {what.column!r} of task {name!r}.")
    what, absent = _present(what, labels, name)
    if absent:
        notes.append(f"No video here is {' or '.join(absent)}; {name} is judged on the other classes.")
    if what.kind == "classification" and len(what.classes) < 2:
        raise InputError(
            f"Every labelled video of {store.path.name} is {what.classes[0]!r}: {name} has nothing to tell apart."
        )
    level, groups = _groups(videos, group)
    if group is None and level != "patient":
        notes.append(f"Patients are not known for every video; folds keep each {level} together.")
    return TaskData(
        name, what, videos, np.flatnonzero(known)[labelled], _targets(labels, what), groups, level, tuple(notes)
    )


def _targets(labels: "pd.Series[Any]", task: Task) -> np.ndarray:
    if task.kind == "regression":
        return np.array(labels, np.float32)
    index = {label: i for i, label in enumerate(task.classes)}
    return np.array([index[str(label)] for label in labels], np.int64)


def _present(task: Task, labels: "pd.Series[Any]", name: str) -> tuple[Task, list[str]]:
    """Return the task without the classes that no video has, and those."""
    if task.kind == "regression":
        return task, []
    found = set(labels.astype(str))
    if unknown := sorted(found - set(task.classes)):
        raise InputError(
            f"The task {name!r} has the classes {', '.join(task.classes)}, but labels say {', '.join(unknown[:5])}."
        )
    kept = tuple(name for name in task.classes if name in found)
    return replace(task, classes=kept), [name for name in task.classes if name not in found]


def _groups(videos: pd.DataFrame, group: str | None) -> tuple[str, np.ndarray]:
    if group not in (None, *GROUPS):
        raise InputError(f"--group {group} is unknown; it is one of {', '.join(GROUPS)}.")
    known = {"patient": _filled(videos["patient"]), "source": _filled(videos["source"]), "video": True}
    level = group or next(level for level in GROUPS if known[level])
    if not known[level]:
        empty = videos["video_id"][videos[level].fillna("").astype(str) == ""]
        raise InputError(
            f"--group {level}: the {level} is not known for {len(empty)} of {len(videos)} videos (first: {empty.iloc[0]}). "
            f"Add the column {level} with --labels CSV, or group by something else."
        )
    return level, videos["video_id" if level == "video" else level].astype(str).to_numpy()


def _filled(column: "pd.Series[Any]") -> bool:
    return bool((column.fillna("").astype(str) != "").all())
