"""What a labelled objective is told about each video."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from echolung.datasets import Manifest
from echolung.errors import InputError
from echolung.text import listed


@dataclass(frozen=True)
class Labels:
    """The targets of one task: of the videos that are learnt from, and no others.

    Attributes:
        task: its name.
        values: "dataset/video_id" -> the number, or the place of its class in `classes`.
        classes: class names in their order; () where numbers are learnt.
    """

    task: str
    values: dict[str, float]
    classes: tuple[str, ...] = ()

    def of(self, names: Sequence[str]) -> "Labels":
        """Return the labels of these videos alone."""
        return replace(self, values={name: self.values[name] for name in names if name in self.values})


def read_labels(manifest: Manifest, task: str | None = None) -> Labels:
    """Return the labels of a dataset's task (default its first); videos without one are not in it.

    Raises:
        InputError: no such task, no label at all, or only one class or number, from which nothing can be learnt.
    """
    name, what = manifest.task(task)
    column = manifest.videos[what.column]
    if what.classes:
        places = {word: place for place, word in enumerate(what.classes)}
        numbers = column.map(places)
    else:
        numbers = pd.to_numeric(column, errors="coerce")
        if wrong := [str(v) for v, n in zip(column, numbers, strict=True) if str(v) not in ("", "nan") and np.isnan(n)]:
            raise InputError(f"{name} of {manifest.name} is a number, and some videos have a text: {listed(wrong, 5)}.")
    known = numbers.notna().to_numpy() & np.isfinite(numbers.fillna(0.0).to_numpy(np.float64))
    if not known.any():
        raise InputError(f"No video of {manifest.name} has a label in {what.column!r}, which the task {name} asks for.")
    values = {
        f"{manifest.name}/{video}": float(number)
        for video, number in zip(manifest.videos["video_id"][known], numbers[known], strict=True)
    }
    if len(set(values.values())) == 1:
        only = what.classes[int(next(iter(values.values())))] if what.classes else f"{next(iter(values.values())):g}"
        raise InputError(f"Every labelled video of {manifest.name} has the same {name}, {only}: nothing can be learnt.")
    return Labels(name, values, what.classes)
