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


def find_task(tasks: Mapping[str, Task], name: str | None, where: str) -> tuple[str, Task]:
    """Return (name, task) from `tasks`: the one asked for, or the first; InputError where it is not there."""
    if not tasks:
        raise InputError(f"{where} has no label column, so there is nothing to ask of it. Add one with --labels CSV.")
    if name is None:
        name = next(iter(tasks))
    if name not in tasks:
        raise InputError(f"{where} has no task {name!r}; it has {', '.join(tasks)}.{suggest(name, list(tasks))}")
    return name, tasks[name]
