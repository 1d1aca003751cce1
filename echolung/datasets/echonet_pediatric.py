"""EchoNet-Pediatric, videos of children in two views, with EF -> Manifest (docs/datasets/echonet-pediatric.md)."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from echolung.datasets import echonet
from echolung.datasets.manifest import Manifest
from echolung.errors import InputError
from echolung.text import listed

TASKS = {"ef": echonet.TASK_EF, "ef-reduced": echonet.TASK_REDUCED}
VIEWS = ("A4C", "PSAX")
FOLDS = 10
SOURCE = echonet.Source(
    "EchoNet-Pediatric",
    ("filename", "ef", "split"),
    f"the folders A4C and PSAX with {echonet.FILE_LIST} and {echonet.VIDEOS} in each",
    "It comes under a research-use agreement: echonet.github.io/pediatric says how to get it from Stanford AIMI.",
)


def load(root: Path, view: str | None = None, fold: int | str = 0) -> Manifest:
    """Return the videos on disk with what the two FileList.csv say of them, and notes on what does not agree.

    `videos` has video_id (the name without `.avi`), path, patient and visit (from the name), source (""), view ("A4C",
    "PSAX"), ef (percent; the visit's, from both views), ef_reduced ("EF >= 50", "EF < 50" or ""), split ("train", "val",
    "test" or ""), fold (0 to 9, or -1), sex ("male", "female" or ""), age (whole years), weight (kg), height (cm) and
    traced_frames. Numbers are NaN where they are not known.

    Args:
        root: the folder with A4C and PSAX, one up to four levels above it, or one of the two.
        view: "A4C" or "PSAX"; None or "both": both.
        fold: of the official ten-fold cross-validation, 0 to 9: test is this fold, validation the next, train the rest.

    Raises:
        InputError: `root` is not the dataset, or holds no video of it; no such view or fold.
    """
    view = None if view == "both" else view
    number = _checked(view, fold)
    folder, files = _find(echonet.existing(root, SOURCE), view)
    parts, notes = [], []
    for name, file in files.items():
        part, more = _load_view(file, name, number)
        parts.append(part)
        notes += more
    videos = pd.concat(parts, ignore_index=True)
    if view is None and len(files) < len(VIEWS):
        notes.append(
            f"Only {next(iter(files))} is here; the other of the two views, {' and '.join(VIEWS)}, was not found."
        )
    if (again := videos["video_id"].duplicated()).any():
        notes.append(f"Files of one name in both views, told apart by -PSAX: {listed(videos['video_id'][again])}.")
        videos.loc[again, "video_id"] += "-" + videos.loc[again, "view"]
    total = f"{echonet.counts(videos)[:-1]} (test is fold {number}, validation {(number + 1) % FOLDS})."
    who = f"{videos['patient'].nunique():,} patients, {videos['visit'].nunique():,} visits; every video of a visit has its EF."
    return Manifest("echonet-pediatric", folder, videos, TASKS, (total, who, *notes, *_on_visits(videos)))


def fold_of(patient: str) -> int:
    """Return the fold of a patient: the SHA-1 of its name modulo 10, as the table's Split was made."""
    return int(hashlib.sha1(patient.encode()).hexdigest(), 16) % FOLDS


def _checked(view: str | None, fold: int | str) -> int:
    if view is not None and view not in VIEWS:
        raise InputError(f"EchoNet-Pediatric has the views {' and '.join(VIEWS)}, not {view!r}.")
    if not str(fold).isdecimal() or int(fold) >= FOLDS:
        raise InputError(f"EchoNet-Pediatric has the folds 0 to {FOLDS - 1}, not {fold!r}.")
    return int(fold)


def _find(root: Path, view: str | None) -> tuple[Path, dict[str, Path]]:
    """Return (the folder that holds the views, the FileList.csv of each that is there and wanted)."""
    if root.name.lower() == echonet.VIDEOS.lower():
        root = root.parent
    own = echonet.child(root, echonet.FILE_LIST)
    if own and (only := root.name.upper()) in VIEWS:  # one view's own folder: that view
        if view not in (None, only):
            raise InputError(f"{root} is the view {only}, and {view} was asked for. Give {root.parent} with --data.")
        return root.parent, {only: own}
    for folders in echonet.levels(root):
        found = {folder: files for folder in folders if (files := _files(folder))}
        if len(found) > 1:
            raise InputError(f"{root} holds {SOURCE.name} more than once: {listed(found)}. Give one with --data.")
        for folder, files in found.items():
            if view and view not in files:
                raise InputError(f"{folder} has no {view} with {echonet.FILE_LIST}, only {listed(files)}. {SOURCE.get}")
            return folder, {view: files[view]} if view else files
    raise echonet.nowhere(root, SOURCE)


def _files(folder: Path) -> dict[str, Path]:
    """Return view -> its FileList.csv, of the views that lie in `folder`."""
    inside = {view: echonet.child(folder, view) for view in VIEWS}
    lists = {view: echonet.child(path, echonet.FILE_LIST) for view, path in inside.items() if path}
    return {view: file for view, file in lists.items() if file}


def _load_view(file: Path, view: str, fold: int) -> tuple[pd.DataFrame, list[str]]:
    """Return (the rows of one view's videos, notes that name the view)."""
    inside = file.parent
    table, notes = echonet.read_list(file, SOURCE)
    found, more = echonet.match(inside, table, f"{inside.name}/", SOURCE)
    ef, unreadable = echonet.ejection_fractions(found, file)
    traced, untraceable = echonet.traced_frames(inside)
    names = [name.split("-") for name in found["video_id"]]

    videos = found[["video_id", "path"]].copy()
    videos["patient"] = [tokens[0] for tokens in names]
    videos["source"], videos["view"] = "", view
    videos["visit"] = ["-".join(tokens[:2]) for tokens in names]
    videos["ef"], videos["ef_reduced"] = ef, echonet.reduced_words(ef)
    folds, words, odd = _splits(found, videos["patient"])
    videos["split"] = [word or _part(number, fold) for number, word in zip(folds, words, strict=True)]
    videos["fold"] = folds
    blank = pd.Series([""] * len(found))
    sex = found.get("sex", blank)
    videos["sex"] = [{"m": "male", "f": "female"}.get(letter[:1].lower(), "") for letter in sex]
    for column in ("age", "weight", "height"):
        videos[column] = echonet.numbers(found.get(column, blank), 0)
    videos["traced_frames"] = [float(traced.get(name, 0)) if traced else np.nan for name in videos["video_id"]]
    if strange := [name for name, tokens in zip(videos["video_id"], names, strict=True) if len(tokens) != 3]:
        notes.append(
            f"{len(strange):,} videos not named patient-visit-instance; patient and visit are guessed: {listed(strange)}."
        )
    notes = [*notes, *odd, *more, *unreadable, *untraceable]
    return videos, [f"{view}: {text}" for text in notes]


def _splits(found: pd.DataFrame, patients: pd.Series) -> tuple[list[int], list[str], list[str]]:
    """Return (fold of each video, -1 where it has none; the part that the cell itself names, or ""; notes)."""
    folds, words = [], []
    for cell in found["split"]:
        number = cell.removesuffix(".0")
        folds.append(int(number) if number.isdecimal() and int(number) < FOLDS else -1)
        words.append(echonet.SPLITS.get(cell.lower(), ""))
    notes = []
    table = pd.DataFrame(
        {"id": found["video_id"], "fold": folds, "word": words, "hash": [fold_of(p) for p in patients]}
    )
    known = table["fold"] >= 0
    if differs := table["id"][known & (table["fold"] != table["hash"])].tolist():
        notes.append(
            f"{len(differs):,} videos whose Split is not the SHA-1 of the patient modulo {FOLDS}, as it was made; the table "
            f"counts: {listed(differs)}."
        )
    if named := int((table["word"] != "").sum()):
        notes.append(
            f"{named:,} rows name their part in Split in place of a fold, so are in it whichever fold is test."
        )
    if none := table["id"][found["listed"].to_numpy() & ~known & (table["word"] == "")].tolist():
        notes.append(f"{len(none):,} videos whose Split is no fold from 0 to 9 are in no split: {listed(none)}.")
    across = table[known].assign(patient=patients).groupby("patient")["fold"].nunique()
    if torn := across.index[across > 1].tolist():
        notes.append(f"The Split of {len(torn):,} patients differs between their videos, which leaks: {listed(torn)}.")
    return folds, words, notes


def _part(number: int, fold: int) -> str:
    if number < 0:
        return ""
    return {fold: "test", (fold + 1) % FOLDS: "val"}.get(number, "train")


def _on_visits(videos: pd.DataFrame) -> list[str]:
    """Return a note on visits whose videos carry different EF."""
    spread = videos.groupby("visit")["ef"].agg(lambda ef: ef.max() - ef.min())
    torn = spread.index[spread > 0.5].tolist()
    return [f"The EF differs between the videos of {len(torn):,} visits: {listed(torn)}."] if torn else []
