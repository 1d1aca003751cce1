"""Where the clips of each video begin, stored in a file: a CSV, a JSON, or the pickle that CoReEcho published."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from echolung.clips.pickled import read_arrays
from echolung.errors import InputError
from echolung.text import listed

COLUMN = "clip_starts"
"""Column of a manifest that holds them, as "3 17 40"; "" where a video has none."""


@dataclass(frozen=True)
class Starts:
    """The frame that each clip of a video begins with, counted from the video's first.

    Attributes:
        of: video -> starts, in the order of the segments.
        digest: SHA-256 of all of them, whatever file they came from.
    """

    of: Mapping[str, tuple[int, ...]]
    digest: str

    @property
    def segments(self) -> int:
        """Starts of each video."""
        return len(next(iter(self.of.values())))


def read_starts(path: Path) -> Starts:
    """Read a file of clip starts.

    A CSV has the columns video_id and starts (numbers apart by spaces), a JSON is {video: [start, …]}, and a pickle is
    CoReEcho's test_start_indexes.pkl: {"ID.avi": array of starts}, which is read without being run.

    Raises:
        InputError: no such file, another content, or videos with different numbers of starts.
    """
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"There is no file of clip starts {path}.")
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise InputError(f"{path.name} is no file of clip starts: their names end in {', '.join(READERS)}.")
    found = READERS[suffix](path)
    if not found:
        raise InputError(f"{path.name} holds no clip start.")
    for video, starts in found.items():
        if not starts or min(starts) < 0:
            raise InputError(f"The clip starts of {video} in {path.name} are {list(starts)}; frames count from 0.")
    if len(counts := {len(starts) for starts in found.values()}) > 1:
        of = {count: next(v for v, s in found.items() if len(s) == count) for count in sorted(counts)}
        raise InputError(
            f"The videos of {path.name} have different numbers of clip starts ("
            + ", ".join(f"{video} has {count}" for count, video in of.items())
            + "); each must have one for each segment."
        )
    text = json.dumps({video: list(found[video]) for video in sorted(found)}, separators=(",", ":"))
    return Starts(found, hashlib.sha256(text.encode()).hexdigest())


def write_starts(path: Path, of: Mapping[str, Sequence[int]]) -> None:
    """Write starts as the CSV that `read_starts` reads."""
    table = {"video_id": list(of), "starts": [" ".join(map(str, starts)) for starts in of.values()]}
    pd.DataFrame(table).to_csv(path, index=False, lineterminator="\n")


def starts_column(starts: Starts, videos: pd.DataFrame) -> list[str]:
    """Return the column `COLUMN` for a manifest's videos.

    A video goes by its video_id, else by its file's name, with the suffix or without.

    Raises:
        InputError: two videos go by the same entry, or none of them is in the file.
    """
    column: list[str] = []
    taken: dict[str, str] = {}
    for video, path in zip(videos["video_id"].astype(str), videos["path"].astype(str), strict=True):
        names = (video, Path(path).name, Path(path).stem)
        name = next((name for name in names if name in starts.of), None)
        if name is not None and taken.setdefault(name, video) != video:
            raise InputError(
                f"The clip starts of {name} would be those of two videos, {taken[name]} and {video}: name them by video_id."
            )
        column.append("" if name is None else " ".join(map(str, starts.of[name])))
    if not taken:
        raise InputError(
            f"None of the {len(videos):,} videos is in the file of clip starts, which has {listed(list(starts.of), 3)}."
        )
    return column


def starts_of(videos: pd.DataFrame) -> list[tuple[int, ...] | None]:
    """Return the clip starts of each video of a table that has them, None where it has none."""
    if COLUMN not in videos.columns:
        return [None] * len(videos)
    return [tuple(int(start) for start in str(text).split()) or None for text in videos[COLUMN].fillna("")]


def _csv(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if not {"video_id", "starts"} <= set(table.columns):
            raise InputError(f"{path.name} must have the columns video_id and starts; it has {list(table.columns)}.")
        if (twice := table["video_id"].duplicated()).any():
            raise InputError(f"{path.name} has {table['video_id'][twice].iloc[0]} twice.")
        rows = zip(table["video_id"], table["starts"], strict=True)
        return {video: tuple(int(start) for start in starts.split()) for video, starts in rows}
    except ValueError as error:
        raise InputError(f"{path.name} is no table of clip starts ({error}).") from error


def _json(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is no JSON ({error}).") from error
    lists = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(starts, list) and all(type(start) is int for start in starts) for starts in lists):
        raise InputError(f"{path.name} must be {{video: [start, …]}} with whole numbers.")
    return {video: tuple(starts) for video, starts in content.items()}


def _pickle(path: Path) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.ravel().tolist()) for name, array in read_arrays(path).items()}


READERS = {".csv": _csv, ".json": _json, ".pkl": _pickle, ".pickle": _pickle}
