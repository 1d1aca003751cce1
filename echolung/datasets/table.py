"""Anybody's own data: a CSV with `path` and label columns -> Manifest (docs/datasets/table.md)."""

import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterable
from pathlib import Path

import pandas as pd

from echolung.datasets import looking
from echolung.datasets.dicom import pseudonym
from echolung.datasets.formats import is_dicom
from echolung.datasets.labels import BLANK, DESCRIBE, check_kinds, label_column, lines_of, read_rows
from echolung.datasets.manifest import Manifest
from echolung.errors import DecodeError, InputError
from echolung.settings import home
from echolung.text import listed

SPLITS = ("train", "val", "test")
FRAMES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"})


def load(root: Path, kinds: dict[str, str] | None = None, missing_labels: str = "error") -> Manifest:
    """Return the videos that the CSV `root` names, with one task a label column, in the order of the columns.

    A column of numbers is a regression, save one that holds just 0 and 1; any other column is a classification.

    Args:
        root: the CSV (UTF-8, commas). Relative paths in it start at its folder; a row is a video file or a folder of
            frame images.
        kinds: label column -> "classification", "regression", "ordinal" (steps of a score) or "ignore" (no label).
        missing_labels: "error", or "drop": a video without a label is left out of that task, one without any of the
            manifest.

    Raises:
        InputError: `root` is no such CSV, or a row of it is wrong; the text names lines and values.
    """
    if missing_labels not in ("error", "drop"):
        raise InputError(f"missing_labels is 'error' or 'drop', not {missing_labels!r}.")
    root = root.absolute()
    rows, notes = read_rows(root, "path")
    labels = [column for column in rows.columns if column not in DESCRIBE]
    kinds = check_kinds(kinds or {}, labels, root)
    empty = [column for column in labels if column not in kinds and (rows[column] == "").all()]
    labels = [column for column in labels if column not in empty]
    notes += [f"The column {column} is empty: it is no label until somebody fills it in." for column in empty]
    files = _check_paths(rows, root)
    rows, more = _with_pseudonyms(rows, files)
    notes += more
    videos = pd.DataFrame(
        {"video_id": _video_ids(rows, files, root), "path": [_given(path, root.parent) for path in rows["path"]]}
    )
    for column in ("patient", "source"):
        videos[column] = rows[column].to_numpy() if column in rows else ""
    notes += _notes_on_groups(rows)
    if "split" in rows:
        videos["split"] = _check_split(rows, root)
        notes += _notes_on_split(videos)

    tasks, unlabelled = {}, pd.DataFrame(index=videos.index)
    for name in labels:
        values, task, note = label_column(rows[name], kinds.get(name), missing_labels, root, others=len(labels) > 1)
        videos[name] = values.to_numpy()
        notes += note
        if task:
            tasks[name] = task
            unlabelled[name] = rows[name].str.lower().isin(BLANK).to_numpy()
    if not tasks:
        notes.append(f"{root.name} has no label column, so its videos can be extracted but not asked about.")
    elif (dropped := unlabelled.all(axis=1)).any():
        notes.append(f"Left out, without any label ({dropped.sum()}): {listed(videos['video_id'][dropped])}.")
        videos = videos[~dropped].reset_index(drop=True)
    # Named after the file, so that two tables have two stores.
    return Manifest(root.stem, root.parent, videos, tasks, tuple(notes))


# ---------------------------------------------------------------------------------------------- reading


def _given(path: str, folder: Path) -> str:
    """Return a path of the CSV with the letters as the disk has them: macOS takes ä apart into a and two dots."""
    path = str(Path(path).expanduser()) if path.startswith("~") else path
    if (folder / path).exists():
        return path
    there = Path()
    for part in Path(path).parts:  # a folder may be written one way, and a file in it the other
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        there /= next((form for form in forms if (folder / there / form).exists()), part)
    return str(there)


def _check_paths(rows: pd.DataFrame, root: Path) -> list[Path]:
    """Return the file or folder of each row."""
    if blank := rows.index[rows["path"] == ""].tolist():
        raise InputError(f"{root} has no path on {lines_of(blank)}. Fill in the file, or remove the row.")
    files = [root.parent / _given(path, root.parent) for path in rows["path"]]
    if absent := [
        f"{path} (line {line})"
        for line, path, file in zip(rows.index, rows["path"], files, strict=True)
        if not file.exists()
    ]:
        raise InputError(
            f"{len(absent)} of the {len(files)} paths in {root} do not exist: {listed(absent, 5)}. "
            f"{_way(rows['path'], root)}"
        )
    folders = [(line, file) for line, file in zip(rows.index, files, strict=True) if file.is_dir()]
    if bare := [
        f"{f} (line {line})" for line, f in folders if not any(e.suffix.lower() in FRAMES for e in f.iterdir())
    ]:
        raise InputError(
            f"{root} names {'a folder' if len(bare) == 1 else f'{len(bare)} folders'} without a frame image "
            f"({', '.join(sorted(FRAMES))}): {listed(bare, 5)}. A row is a video file or a folder of its frames."
        )
    _unique([file.resolve() for file in files], rows.index, "the same video", root)
    return files


def _way(paths: pd.Series, root: Path) -> str:
    """Return what to do about paths that do not exist."""
    first = next(path for path in paths if not (root.parent / _given(path, root.parent)).exists())
    file = root.parent / _given(first, root.parent)
    same = sorted(entry.name for entry in looking.entries(file.parent) if entry.name.startswith(f"{file.name}."))
    if looking.WINDOWS.match(first):
        return (
            "They are paths of Windows, and this is another system: write them relative to the CSV, with / between folders, "
            "such as `videos/a.mp4`."
        )
    if "\\" in first:
        return "Write / between folders, not \\: `videos/a.mp4`."
    if same:
        return f"Write the ending too: {file.parent.name}/{same[0]} is there."
    return f"Relative paths start at {root.parent}. {looking.nearest(file)}".strip()


def _video_ids(rows: pd.DataFrame, files: list[Path], root: Path) -> list[str]:
    """Return the column video_id, or for want of it the file's name without ending, or where two share it the path."""
    if "video_id" in rows:
        if blank := rows.index[rows["video_id"] == ""].tolist():
            raise InputError(f"{root} has no video_id on {lines_of(blank)}. Fill it in, or remove the whole column.")
        _unique(rows["video_id"], rows.index, "the same video_id", root)
        return rows["video_id"].tolist()
    stems = [file.name if file.is_dir() else file.stem for file in files]
    return stems if len(set(stems)) == len(stems) else rows["path"].tolist()


def _unique(values: Iterable[Hashable], lines: Iterable[int], what: str, root: Path) -> None:
    where = defaultdict(list)
    for line, value in zip(lines, values, strict=True):
        where[value].append(line)
    if twice := [f"{value} (lines {', '.join(map(str, at))})" for value, at in where.items() if len(at) > 1]:
        raise InputError(f"{root} names {what} more than once: {listed(twice, 5)}. Keep one row a video.")


def _with_pseudonyms(rows: pd.DataFrame, files: list[Path]) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows with the patients of DICOM files filled in where the table names none, and a note that says so."""
    given = rows["patient"].tolist() if "patient" in rows else [""] * len(rows)
    found = [patient or _pseudonym(file) for patient, file in zip(given, files, strict=True)]
    if not (filled := sum(new != old for new, old in zip(found, given, strict=True))):
        return rows, []
    note = (
        f"The patient of {filled} DICOM file{'s' if filled != 1 else ''} is a pseudonym: the PatientID, hashed with the secret "
        f"in {home() / 'patient.key'}."
    )
    return rows.assign(patient=found), [note]


def _pseudonym(file: Path) -> str:
    try:
        return pseudonym(file) if is_dicom(file) else ""
    except DecodeError:  # said when its pixels are read
        return ""


def _notes_on_groups(rows: pd.DataFrame) -> list[str]:
    has = [column for column in ("patient", "source") if column in rows and (rows[column] != "").any()]
    if not has:
        return [
            "No column `patient` or `source`: every video counts as a patient of its own. If two videos are of one person, "
            "results will be too good; add the column."
        ]
    blank = rows.index[rows["patient"] == ""].tolist() if "patient" in has else []
    return [f"No patient on {lines_of(blank)}: those count by source, else one by one."] if blank else []


def _check_split(rows: pd.DataFrame, root: Path) -> list[str]:
    split = rows["split"].str.lower()
    if wrong := [f"{rows['split'][line]!r} (line {line})" for line in rows.index[~split.isin(SPLITS)]]:
        raise InputError(
            f"The column split of {root} takes {', '.join(SPLITS)} on every row, and holds {listed(wrong, 5)}. "
            "Correct it, or remove the column."
        )
    return split.tolist()


def _notes_on_split(videos: pd.DataFrame) -> list[str]:
    known = videos[videos["patient"] != ""].groupby("patient")["split"].nunique()
    shared = known.index[known > 1].tolist()
    return [f"Patients in several parts of split, which leaks ({len(shared)}): {listed(shared)}."] if shared else []
