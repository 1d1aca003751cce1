"""What the two EchoNet datasets share: FileList.csv read forgivingly, its rows matched with the videos on disk, counts."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from echolung.datasets import looking
from echolung.datasets.labels import BLANK
from echolung.datasets.manifest import Task
from echolung.errors import InputError
from echolung.text import listed

FILE_LIST, TRACINGS, VIDEOS = "FileList.csv", "VolumeTracings.csv", "Videos"
REDUCED = ("EF >= 50", "EF < 50")
"""Classes of the task `ef-reduced`: the second is the finding. An EF of exactly 50 is not reduced."""
TASK_EF = Task("regression", "ef")
TASK_REDUCED = Task("classification", "ef_reduced", REDUCED)
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
PARTS = {"train": "train", "val": "validation", "test": "test"}
NESTING = 4
"""How many folders deep the tables are looked for."""


@dataclass(frozen=True)
class Source:
    """What an adapter looks for, and what it tells whom it finds nothing for.

    Attributes:
        name: of the dataset.
        needs: columns of its FileList.csv, as `plain` writes them.
        layout: how the folder should look.
        get: where to get it.
    """

    name: str
    needs: tuple[str, ...]
    layout: str
    get: str

    @property
    def dataset(self) -> str:
        """The name that commands take."""
        return self.name.lower()


# ---- where it lies -----------------------------------------------------------------------------------------------------


def existing(root: Path, source: Source) -> Path:
    """Return `root` without links; InputError where it is no folder."""
    return looking.existing_folder(root, source.dataset, source.get)


def nowhere(root: Path, source: Source) -> InputError:
    """Return the error that `root` does not hold the dataset."""
    videos = sum(1 for entry in entries(root) if is_video(entry))
    holds = [entry.name for entry in entries(root)]
    found = f"it holds {videos} videos and no table" if videos else f"it holds {listed(holds, 5) or 'nothing'}"
    return InputError(
        f"{root} is not {source.name}: looked for {source.layout}, here and up to {NESTING} folders down, and {found}. "
        + looking.advice(root, source.dataset, f"Give the folder that holds the tables with --data. {source.get}")
    )


def levels(root: Path) -> Iterable[list[Path]]:
    """Yield the folders at each depth from `root` down, without those of videos."""
    here = [root]
    for _ in range(NESTING + 1):
        yield here
        here = [e for folder in here for e in entries(folder) if e.is_dir() and e.name.lower() != VIDEOS.lower()]


def entries(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted, hidden files left out; nothing where it cannot be read."""
    return looking.entries(folder)


def child(folder: Path, name: str) -> Path | None:
    """Return the entry of that name in any case, or None."""
    return next((entry for entry in entries(folder) if entry.name.lower() == name.lower()), None)


def is_video(path: Path) -> bool:
    """Return whether the name is that of a video."""
    return path.suffix.lower() == ".avi"


def stem(name: str) -> str:
    """Return a video's name without folders and without `.avi`, with which some tables write it and some do not."""
    name = name.strip().replace("\\", "/").rpartition("/")[2]
    return name[:-4] if name.lower().endswith(".avi") else name


# ---- the tables --------------------------------------------------------------------------------------------------------


def plain(column: str) -> str:
    """Return a column's name as tables agree on it: "File Name " and "filename" are one."""
    return re.sub(r"[\s_-]+", "", str(column)).lower()


def read_list(file: Path, source: Source) -> tuple[pd.DataFrame, list[str]]:
    """Return (text cells of FileList.csv, indexed by the videos' stems, one row each; notes).

    Raises:
        InputError: it cannot be read, or lacks a column.
    """
    table = _read(file)
    if absent := [column for column in source.needs if column not in table]:
        has = listed(table.columns, 12)
        raise InputError(
            f"{file} is not the table of {source.name}: it has no column {' or '.join(absent)} (in any case). Its columns: "
            f"{has}. {source.get}"
        )
    table.index = pd.Index([stem(name) for name in table["filename"]], name="stem")
    notes = []
    if blank := int((table.index == "").sum()):
        notes.append(f"Left out: {blank} rows of {file.name} that name no video.")
        table = table[table.index != ""]
    if (twice := table.index.duplicated()).any():
        notes.append(
            f"{file.name} names {counted(set(table.index[twice]), 'video')} more than once, the first row counts: "
            f"{listed(dict.fromkeys(table.index[twice]))}."
        )
        table = table[~twice]
    return table, notes


def _lines(file: Path) -> Iterator[list[str]]:
    """Yield the lines of a CSV that are not blank; InputError where it is none."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield from (line for line in csv.reader(text) if any(line))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{file} is not a readable CSV ({error}). Copy it from the download again.") from error


def _read(file: Path) -> pd.DataFrame:
    """Return a CSV as stripped text, its columns named as `plain` says; short lines are filled up, long ones cut."""
    header, *lines = [*_lines(file)] or [[]]
    width = len(header)
    cells = [[cell.strip() for cell in line[:width]] + [""] * (width - len(line)) for line in lines]
    table = pd.DataFrame(cells, columns=[plain(column) for column in header], dtype=str)
    return table.loc[:, ~table.columns.duplicated() & (table.columns != "")]


def traced_frames(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Return (stem -> number of traced frames, notes), of VolumeTracings.csv in `folder`; nothing here needs it."""
    file = child(folder, TRACINGS)
    if file is None:
        return {}, [f"There is no {TRACINGS} in {folder}; no task here needs it."]
    lines = _lines(file)  # of EchoNet-Dynamic there are 400,000
    header = [plain(column) for column in next(lines, [])]
    if not {"filename", "frame"} <= set(header):
        return {}, [f"{file} has no columns FileName and Frame, so which videos have tracings is not known."]
    name, frame = header.index("filename"), header.index("frame")
    pairs = {(line[name], line[frame]) for line in lines if len(line) > max(name, frame)}
    frames: defaultdict[str, set[int]] = defaultdict(set)
    for video, number in pairs:
        if number.strip().removesuffix(".0").isdecimal():  # not "No Systolic"
            frames[stem(video)].add(int(number.strip().removesuffix(".0")))
    return {video: len(numbers) for video, numbers in frames.items()}, []


def numbers(cells: pd.Series, low: int | float = -np.inf, high: int | float = np.inf) -> Float[np.ndarray, " v"]:
    """Return the cells as numbers; NaN where they are none or lie outside `low` to `high`."""
    values = pd.to_numeric(cells.str.removesuffix("%"), errors="coerce").to_numpy(np.float64)
    return np.where((values >= low) & (values <= high), values, np.nan)


# ---- videos and rows -----------------------------------------------------------------------------------------------------


def match(folder: Path, table: pd.DataFrame, prefix: str, source: Source) -> tuple[pd.DataFrame, list[str]]:
    """Return (one row a video on disk: video_id, path, listed, then the table's cells; notes on what is missing or extra).

    Args:
        folder: it holds `Videos`, or the videos themselves.
        table: of `read_list`.
        prefix: what `path` begins with: where `folder` lies within the manifest's root, "" or with a slash at its end.
        source: for errors.
    """
    inside = child(folder, VIDEOS) or folder
    files = {stem(file.name): file.name for file in entries(inside) if is_video(file)}
    where = prefix + (f"{inside.name}/" if inside != folder else "")
    if not files:
        raise InputError(
            f"{inside} holds no video (.avi), and {FILE_LIST} beside it lists {len(table):,}. "
            + looking.unpacked(folder, f"Is all of the download there, unpacked? {source.get}")
        )
    ids = [*(name for name in table.index if name in files), *sorted(set(files) - set(table.index))]
    videos = table.reindex(ids).fillna("")
    videos.insert(0, "listed", [name in table.index for name in ids])
    videos.insert(0, "path", [where + files[name] for name in ids])
    videos.insert(0, "video_id", ids)
    notes = []
    if absent := [name for name in table.index if name not in files]:
        notes.append(
            f"{len(absent):,} of the {len(table):,} videos of {prefix}{FILE_LIST} are not on disk and are left out: "
            f"{listed(absent)}."
        )
    if extra := videos["video_id"][~videos["listed"]].tolist():
        notes.append(
            f"{counted(extra, 'video')} on disk that {prefix}{FILE_LIST} does not list: without labels, and in no split, so "
            f"neither probes nor pretraining take them: {listed(extra)}."
        )
    return videos.reset_index(drop=True), notes


def ejection_fractions(videos: pd.DataFrame, file: Path) -> tuple[np.ndarray, list[str]]:
    """Return (EF in percent, NaN where the cell is blank; notes).

    Raises:
        InputError: a cell is text or lies outside 0 to 100, or all look like fractions of one.
    """
    cells = dict(zip(videos["video_id"], videos["ef"], strict=True))
    values = np.array(
        [np.nan if is_blank(cell) else checked_ef(name, cell, file) for name, cell in cells.items()], float
    )
    known = values[~np.isnan(values)]
    if len(known) > 1 and known.max() <= 1:
        raise InputError(
            f"The EF in {file} are at most {known.max():g}; they must be percent. Restore the table as distributed."
        )
    notes = []
    if bare := videos["video_id"][np.isnan(values) & videos["listed"]].tolist():
        notes.append(f"{counted(bare, 'video')} without an EF, so without labels: {listed(bare)}.")
    return values, notes


def is_blank(cell: str) -> bool:
    """Return whether a cell says nothing."""
    return cell.strip().lower() in BLANK


def checked_ef(name: str, cell: str, file: Path) -> float:
    """Return an ejection fraction in percent; InputError where the cell is text, or outside 0 to 100."""
    try:
        value = float(cell.strip().removesuffix("%"))
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 100:
        raise InputError(
            f"The EF of {name} in {file} is {cell!r}, and must be a number from 0 to 100 (percent). Correct it, or restore the "
            "table as distributed."
        )
    return value


def reduced_words(values: np.ndarray) -> list[str]:
    """Return the class of each EF: below 50 is reduced; "" where it is not known."""
    return ["" if np.isnan(value) else REDUCED[int(value < 50)] for value in values]


def counts(videos: pd.DataFrame) -> str:
    """Return "10,030 videos: 7,465 train, 1,288 validation, 1,277 test."."""
    parts = [f"{(videos['split'] == part).sum():,} {word}" for part, word in PARTS.items()]
    none = int((videos["split"] == "").sum())
    return f"{len(videos):,} videos: {', '.join(parts)}{f', {none:,} in no split' if none else ''}."


def counted(items: Iterable[object], noun: str) -> str:
    """Return "1 video" or "10,030 videos"."""
    number = len(list(items))
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
