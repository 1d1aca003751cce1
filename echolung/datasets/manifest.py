"""The table of a dataset: one row a video, and the questions (tasks) that its label columns answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from echolung.errors import InputError
from echolung.text import suggest

REQUIRED = ("video_id", "path", "patient", "source")
"""Columns of every manifest. `patient` and `source` are "" where unknown."""

SPAN = ("first_frame", "last_frame")
"""Columns, where a manifest has them, that say which frames of its file a video is."""


@dataclass(frozen=True)
class Task:
    """A question that one label column answers.

    Attributes:
        kind: what the column holds: class names, or numbers to regress.
        column: the label column. Class names are str, numbers float; "" and NaN mean "no label".
        classes: the class names in their order (classification only; ascending where ordinal).
        level: whether the label belongs to a video or to its patient.
        ordinal: the classes are steps of a score, so that being off by one is less wrong than by two.
    """

    kind: Literal["classification", "regression"]
    column: str
    classes: tuple[str, ...] = ()
    level: Literal["video", "patient"] = "video"
    ordinal: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the task as plain JSON values."""
        return {**self.__dict__, "classes": list(self.classes)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Task":
        """Rebuild a task from `to_json`."""
        return cls(**{**fields, "classes": tuple(fields["classes"])})


@dataclass(frozen=True)
class Manifest:
    """A dataset as found on disk.

    Attributes:
        name: the dataset's name ("pocus", …).
        root: the folder that `path` is relative to.
        videos: one row a video: video_id, path (relative to `root`), patient, source, then labels and what else is known.
        tasks: task name -> Task; the first is the default.
        notes: what was left out, repaired, guessed or is missing, a sentence each, for the user to read.
    """

    name: str
    root: Path
    videos: pd.DataFrame
    tasks: dict[str, Task]
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        columns = list(self.videos.columns)
        if absent := [c for c in REQUIRED if c not in columns]:
            raise InputError(f"The manifest of {self.name} has no column {' or '.join(absent)}; it has {columns}.")
        if self.videos.empty:
            raise InputError(f"The manifest of {self.name} holds no video (looked under {self.root}).")
        ids = self.videos["video_id"]
        if not ids.is_unique:
            raise InputError(f"Two videos of {self.name} share a video_id: {ids[ids.duplicated()].iloc[0]!r}.")
        for name, task in self.tasks.items():
            if task.column not in columns:
                raise InputError(f"Task {name!r} of {self.name} needs the column {task.column!r}, which is not there.")

    def task(self, name: str | None = None) -> tuple[str, Task]:
        """Return (name, task): the task asked for, or the dataset's first.

        Raises:
            InputError: there is no such task, or no task at all.
        """
        return find_task(self.tasks, name, self.name)

    def file(self, row: int) -> Path:
        """Return the absolute path of the video in row `row`."""
        return self.root / str(self.videos["path"].iloc[row])

    def span(self, row: int) -> tuple[int, int] | None:
        """Return (first, last) frame of the file that are the video in row `row`, see `spans`; None: all of them."""
        return spans(self.videos.iloc[[row]])[0]


def spans(videos: pd.DataFrame) -> list[tuple[int, int] | None]:
    """Return which frames of its file each video of a table is, from the columns first_frame and last_frame.

    Frames count from 0, and the last belongs to the video; where it is before the first, the video is read backwards.
    None (NaN in both columns, or no such columns): all frames.

    Raises:
        InputError: there is only one of the two, or a value that is no frame number.
    """
    if not (columns := [name for name in SPAN if name in videos.columns]):
        return [None] * len(videos)
    if len(columns) == 1:
        raise InputError(f"The table has a column {columns[0]} alone; {' and '.join(SPAN)} go together.")
    table = zip(videos["video_id"], *(videos[name].tolist() for name in SPAN), strict=True)
    return [_span(str(video), first, last) for video, first, last in table]


def _span(video: str, first: Any, last: Any) -> tuple[int, int] | None:
    if all(pd.isna(value) or value == "" for value in (first, last)):
        return None
    try:
        if all(float(value) >= 0 and float(value).is_integer() for value in (first, last)):
            return int(float(first)), int(float(last))
    except (TypeError, ValueError):
        pass
    raise InputError(
        f"first_frame and last_frame of {video} are {first!r} and {last!r}; they must be two frame numbers from 0 on, or both "
        "empty for the whole file."
    )


def find_task(tasks: Mapping[str, Task], name: str | None, where: str) -> tuple[str, Task]:
    """Return (name, task) from `tasks`: the one asked for, or the first; InputError where it is not there."""
    if not tasks:
        raise InputError(f"{where} has no label column, so there is nothing to ask of it. Add one with --labels CSV.")
    if name is None:
        name = next(iter(tasks))
    if name not in tasks:
        raise InputError(f"{where} has no task {name!r}; it has {', '.join(tasks)}.{suggest(name, list(tasks))}")
    return name, tasks[name]
