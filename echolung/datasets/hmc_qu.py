"""HMC-QU, apical videos with and without myocardial infarction -> Manifest (docs/datasets/hmc-qu.md)."""

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from echolung.datasets import echonet
from echolung.datasets.apical import asked_views
from echolung.datasets.manifest import Manifest, Task
from echolung.errors import DecodeError, InputError
from echolung.text import listed

CLASSES = ("non-MI", "MI")
TASKS = {
    "mi": Task("classification", "mi", CLASSES),
    "mi-masked": Task("classification", "mi_masked", CLASSES),
}
SEGMENTS = 6
ROWS = {"A4C": 162, "A2C": 160}
"""Videos as released."""
TICKED = 109
"""A4C videos with masks of the wall as released, which published results count."""
TICK = "ü"
"""What a cell holds that shows a tick in the typeface Wingdings."""
MASKS = "LV Ground-truth Segmentation Masks"
SOURCE = echonet.Source(
    "HMC-QU",
    (),
    "A4C.xlsx or A2C.xlsx beside the folder HMC-QU",
    "It is on Kaggle as aysendegerli/hmcqu-dataset (CC BY-NC-SA 3.0 IGO).",
)


def load(root: Path, view: str | None = None, cycle: str | None = None) -> Manifest:
    """Return the videos on disk with what A4C.xlsx and A2C.xlsx say of them, and notes on what does not agree.

    `videos` has video_id (the file's name, spaces as "_"), path, patient ("ES0001"), source (""), view ("A4C", "A2C"), mi
    ("MI" where any of the six segments is; "non-MI"), mi_masked (the same where masks of the wall are ticked, else ""),
    infarcted_segments (how many of six), cycle_start, cycle_end (of the one heartbeat marked; 0-based, inclusive),
    first_frame, last_frame (the same where `cycle` asks for it, else NaN) and mask_path (relative to `root`, or "").

    The names tell most labels (an N stands for normal), and so does their order: `video_id` is for people, no feature.

    Args:
        root: the folder with the xlsx files, or one up to four levels above it.
        view: "A4C" (or "4CH"; the default), "A2C" (or "2CH"), or "both".
        cycle: "whole" (the default): all of the video; "one": the marked heartbeat.

    Raises:
        InputError: `root` is not the dataset, or holds no video; no such view or cycle; a table of another form.
    """
    views = asked_views(view, "HMC-QU")
    if cycle not in (None, "whole", "one"):
        raise InputError(f"The cycle of HMC-QU is whole (all of a video) or one (the marked heartbeat), not {cycle!r}.")
    folder = _find(echonet.existing(root, SOURCE))
    files = [file for file in echonet.entries(folder / MASKS) if file.suffix.lower() == ".mat"]
    masks = {_plain(file.stem.removeprefix("Mask_")): file for file in files}
    rows, notes = [], []
    for name in views:
        table, dropped = read_table(_table(folder, name))
        found, more = _rows(folder, name, table, masks)
        rows += found
        notes += [f"{name}: {text}" for text in (*dropped, *_validated(name, table), *more)]
    if not rows:
        raise InputError(f"Not one video of {folder} is in its tables, and so none has a label: {listed(notes, 2)}")
    videos = pd.DataFrame(rows)
    known = (videos["cycle_start"] >= 0) & (videos["cycle_end"] >= videos["cycle_start"])
    for column, marked in (("first_frame", "cycle_start"), ("last_frame", "cycle_end")):
        videos[column] = videos[marked].where(known & (cycle == "one"))
    if cycle == "one" and not known.all():
        notes.append(f"Without a marked heartbeat, so taken whole: {listed(videos['video_id'][~known])}.")
    tasks = TASKS if (videos["mi_masked"] != "").any() else {"mi": TASKS["mi"]}
    return Manifest("hmc-qu", folder, videos, tasks, (*_about(videos, views), *notes))


def patient_of(name: str) -> str:
    """Return the patient that a video's name carries, ES and a number; the stripped name where there is none."""
    found = re.search(r"ES\d+", name, re.IGNORECASE)
    return found[0].upper() if found else name.strip()


def read_mask(file: Path) -> Bool[np.ndarray, "f 224 224"]:
    """Return where the wall of the left ventricle is in each frame of the marked heartbeat, of a Mask_*.mat.

    Raises:
        DecodeError: there is no such file, or it holds no masks.
    """
    from scipy.io import loadmat

    try:
        found = loadmat(file, variable_names=["predicted"]).get("predicted")
    except Exception as error:  # a broken file fails in many ways
        raise DecodeError(f"{file} is not a readable .mat file of masks ({error}).") from error
    if found is None or found.ndim != 3 or found.shape[1:] != (224, 224):
        has = "no variable `predicted`" if found is None else f"`predicted` of shape {found.shape}"
        raise DecodeError(f"{file} holds {has}; masks of HMC-QU are `predicted`, frames × 224 × 224.")
    return np.asarray(found) > 0


# ---- where it lies -----------------------------------------------------------------------------------------------------


def _find(root: Path) -> Path:
    """Return the folder with the tables."""
    for folders in echonet.levels(root):
        found = [at for at in folders if any(echonet.child(at, f"{view}.xlsx") for view in ROWS)]
        if len(found) > 1:
            raise InputError(f"{root} holds HMC-QU more than once: {listed(found)}. Give one with --data.")
        if found:
            return found[0]
    raise echonet.nowhere(root, SOURCE)


def _table(folder: Path, view: str) -> Path:
    file = echonet.child(folder, f"{view}.xlsx")
    if file is None:
        raise InputError(f"{folder} has no {view}.xlsx, the table of the view {view}. {SOURCE.get}")
    return file


def _videos(folder: Path, view: str) -> dict[str, Path]:
    """Return name without `.avi` -> file, of one view."""
    inside = echonet.child(folder, "HMC-QU") or folder
    at = echonet.child(inside, view)
    return {file.stem: file for file in echonet.entries(at) if echonet.is_video(file)} if at else {}


# ---- the table ---------------------------------------------------------------------------------------------------------


def read_table(file: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return (a row a video: name as in the file, segments, start, end, ticked; notes on rows left out).

    Columns are found by the first of the two header rows: ECHO, six segments, then "One cardiac-cycle frames" over two
    columns (1-based, inclusive), and in A4C.xlsx the ticks.

    Raises:
        InputError: it cannot be read, or has another header.
    """
    lines = _cells(file)
    header = [str(cell or "").strip().lower() for cell in lines[0]] if lines else []
    cycle = next((i for i, text in enumerate(header) if "cycle" in text), -1)
    ticks = next((i for i, text in enumerate(header) if "mask" in text), None)
    if not header or header[0] != "echo" or cycle != SEGMENTS + 1 or len(lines) < 3:
        raise InputError(
            f"{file} is not a table of HMC-QU: its first row must be ECHO, {SEGMENTS} segments, One cardiac-cycle frames, over a "
            f"second row of headers, and is {listed((text or '(blank)' for text in header), 12) or 'empty'}. {SOURCE.get}"
        )
    rows, odd = [], []
    for number, line in enumerate(lines[2:], start=3):
        name = str(line[0] or "")
        segments = [_segment(cell) for cell in line[1 : SEGMENTS + 1]]
        if "" not in segments and name.strip():
            ticked = ticks is not None and str(line[ticks] or "").strip() == TICK
            start, end = (_whole(line[i]) - 1 for i in (cycle, cycle + 1))
            rows.append((name, segments.count("MI"), start, end, ticked))
        elif any(cell is not None for cell in line):
            odd.append(f"row {number} ({name.strip()[:40] or 'no name'})")
    notes = (
        [
            f"{echonet.counted(odd, 'row')} of {file.name} left out, as they are no video (a footnote, say): {listed(odd)}."
        ]
        if odd
        else []
    )
    return pd.DataFrame(rows, columns=["name", "infarcted", "start", "end", "ticked"]), notes


def _cells(file: Path) -> list[list[Any]]:
    """Return the cells of the first sheet, each line equally long."""
    from openpyxl import load_workbook

    try:
        book = load_workbook(file, read_only=True, data_only=True)
        lines = [list(line) for line in book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    except Exception as error:  # a file that is no workbook fails in many ways
        raise InputError(f"{file} is not a readable .xlsx ({error}). Copy it from the download again.") from error
    width = max((len(line) for line in lines), default=0)
    return [line + [None] * (width - len(line)) for line in lines]


def _segment(cell: object) -> str:
    """Return "MI" or "non-MI", or "" for any other text."""
    word = re.sub(r"[\s_-]+", "", str(cell or "")).lower()
    return {"mi": "MI", "nonmi": "non-MI"}.get(word, "")


def _whole(cell: object) -> float:
    try:
        return float(str(cell))
    except ValueError:
        return float("nan")


# ---- rows and notes ----------------------------------------------------------------------------------------------------


def _rows(
    folder: Path, view: str, table: pd.DataFrame, masks: dict[str, Path]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return (a row a video on disk; notes on what is missing or extra)."""
    files = _videos(folder, view)
    if not files:
        raise InputError(
            f"{folder} has {view}.xlsx, which lists {len(table)} videos, but no video (.avi) in HMC-QU/{view}. Some packages of "
            f"HMC-QU come without their videos: get one that has them. {SOURCE.get}"
        )
    by_plain = {_plain(stem): file for stem, file in files.items()}
    rows, absent = [], []
    for line in table.to_dict("records"):
        file = files.get(line["name"]) or by_plain.get(_plain(line["name"]))
        if file is None:
            absent.append(line["name"].strip())
        else:
            mask = masks.get(_plain(file.stem))
            mask_path = mask.relative_to(folder).as_posix() if mask else ""
            rows.append(_row(line, view, file.relative_to(folder)) | {"mask_path": mask_path})
    used = {Path(row["path"]).stem for row in rows}
    unmasked = [Path(row["path"]).stem for row in rows if row["mi_masked"] and not row["mask_path"]]
    return rows, _on_files(absent, [stem for stem in files if stem not in used], unmasked)


def _row(line: dict[Hashable, Any], view: str, file: Path) -> dict[str, Any]:
    """Return a row of the manifest from one of the table; `file` relative to the root."""
    word = CLASSES[int(line["infarcted"] > 0)]
    return {
        "video_id": re.sub(r"\s+", "_", file.stem.strip()),
        "path": file.as_posix(),
        "patient": patient_of(file.stem),
        "source": "",
        "view": view,
        "mi": word,
        "mi_masked": word if line["ticked"] else "",
        "infarcted_segments": line["infarcted"],
        "cycle_start": line["start"],
        "cycle_end": line["end"],
    }


def _plain(name: str) -> str:
    """Return a name without what the table and the disk may write differently: blanks and case."""
    return re.sub(r"\s+", "", echonet.stem(name)).lower()


def _on_files(absent: Sequence[str], extra: Sequence[str], unmasked: Sequence[str]) -> list[str]:
    notes = []
    if absent:
        notes.append(f"{echonet.counted(absent, 'video')} of the table not on disk: left out: {listed(absent)}.")
    if extra:
        notes.append(
            f"{echonet.counted(extra, 'video')} on disk that the table does not list: left out: {listed(extra)}."
        )
    if unmasked:
        notes.append(
            f"{echonet.counted(unmasked, 'video')} ticked as having masks, without a Mask_*.mat: {listed(unmasked)}."
        )
    return notes


def _validated(view: str, table: pd.DataFrame) -> list[str]:
    """Return notes where a table does not count what was released."""
    notes = []
    if len(table) != ROWS[view]:
        notes.append(f"the table lists {len(table)} videos; as released there are {ROWS[view]}.")
    ticked = int(table["ticked"].sum())
    if view == "A4C" and ticked != TICKED:
        notes.append(f"{ticked} videos are ticked as having masks of the wall; as released there are {TICKED}.")
    return notes


def _about(videos: pd.DataFrame, views: Sequence[str]) -> list[str]:
    sick, masked = int((videos["mi"] == "MI").sum()), videos["mi_masked"][videos["mi_masked"] != ""]
    notes = [
        f"{len(videos)} videos ({' and '.join(views)}) of {videos['patient'].nunique()} patients: {sick} MI (any of the six "
        f"segments), {len(videos) - sick} non-MI; with masks {len(masked)}: {(masked == 'MI').sum()} MI, "
        f"{(masked == 'non-MI').sum()} non-MI."
    ]
    encodes = videos["video_id"].str.contains(r"\d_*N_", case=False, regex=True)
    agree = ((videos["mi"] == "non-MI") == encodes).mean()
    if encodes.any():
        notes.append(
            f"The names tell the label (an N for normal; right for {agree:.0%}), and so does their order: never give a name to "
            "a model, and shuffle before making folds. Here names are no feature, and folds are shuffled."
        )
    if len(views) > 1:
        notes.append("The views of a patient may differ in their label; folds are by patient.")
    return notes
