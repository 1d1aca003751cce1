"""CAMUS, half sequences from ED to ES of 500 patients in two apical views, with EF -> Manifest (docs/datasets/camus.md)."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from echolung.datasets import echonet, looking
from echolung.datasets.apical import VIEWS, asked_views
from echolung.datasets.manifest import Manifest, Task
from echolung.errors import InputError
from echolung.text import listed

TASKS = {
    "ef": Task("regression", "ef", level="patient"),
    "ef-reduced": Task("classification", "ef_reduced", echonet.REDUCED, level="patient"),
}
FOLDS = 10
QUALITIES = {"Good": "Good+Medium", "Medium": "Good+Medium", "Poor": "Poor"}
"""Quality of a picture -> the group under which results are published."""
SPLIT_FILES = {"train": "subgroup_training.txt", "val": "subgroup_validation.txt", "test": "subgroup_testing.txt"}
SOURCE = echonet.Source(
    "CAMUS",
    (),
    "folders patientNNNN with Info_4CH.cfg and patientNNNN_4CH_half_sequence.nii.gz",
    "It is free after registration: www.creatis.insa-lyon.fr/Challenge/camus says how to get it.",
)


def load(root: Path, view: str | None = None, fold: int | str | None = None) -> Manifest:
    """Return one row a patient and view, with what its Info_*.cfg says, and notes on what does not agree.

    `videos` has video_id ("patient0001_4CH"), path (of the half sequence), patient, source (""), view ("A4C", "A2C"), ef
    (percent; the patient's, from both views), ef_reduced ("EF >= 50", "EF < 50"), quality ("Good", "Medium", "Poor" or "";
    of the view), quality_group ("Good+Medium", "Poor" or ""), sex ("male", "female" or ""), age (years), frame_rate (Hz),
    frame_count, ed_frame, es_frame (0-based), first_frame, last_frame (of sequences that run from ES to ED: reads them
    backwards; else NaN), fold (0 to 9: ten runs of the sorted patients; published_fold is the same, for `--protocol seed`)
    and, where the split files are there or a fold is asked for, split ("train", "val", "test" or ""). Numbers are NaN where
    they are not known.

    Args:
        root: the folder of the patients' folders, or one up to four levels above it.
        view: "A4C" (or "4CH"; the default), "A2C" (or "2CH"), or "both".
        fold: 0 to 9: test is this fold, validation the next, train the rest; None: the official split files.

    Raises:
        InputError: `root` is not the dataset, or holds the old .mhd release alone; no such view or fold; a patient without
            EF, or with one that is no number from 0 to 100.
    """
    views = asked_views(view, "CAMUS")
    if fold is not None and (not str(fold).isdecimal() or int(fold) >= FOLDS):
        raise InputError(f"CAMUS has the folds 0 to {FOLDS - 1}, not {fold!r}.")
    folder = _find(echonet.existing(root, SOURCE))
    patients = _patients(folder)
    rows, notes = _rows(folder, patients, views)
    videos = pd.DataFrame(rows)
    videos.insert(6, "ef_reduced", echonet.reduced_words(videos["ef"].to_numpy(np.float64)))
    fold_of = {name: i for i, part in enumerate(np.array_split(patients, FOLDS)) for name in part}
    videos["fold"] = [fold_of[name] for name in videos["patient"]]
    videos["published_fold"] = videos["fold"].astype(float)
    if fold is not None:
        parts = {int(fold): "test", (int(fold) + 1) % FOLDS: "val"}
        videos["split"] = [parts.get(number, "train") for number in videos["fold"]]
        notes.append(f"{echonet.counts(videos)[:-1]} (test is fold {fold}, validation {(int(fold) + 1) % FOLDS}).")
    else:
        notes += _add_split(videos, folder)
    return Manifest("camus", folder, videos, TASKS, (*_about(videos, views), *notes))


def read_cfg(text: str) -> dict[str, str]:
    """Return key -> value of the lines "Key: value" of an Info_*.cfg, both stripped; other lines say nothing."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon and key.strip()}


# ---- where it lies -----------------------------------------------------------------------------------------------------


def _find(root: Path) -> Path:
    """Return the folder that holds the patients' folders."""
    if _is_patient(root):
        raise InputError(f"{root} is one patient of CAMUS: give {root.parent} with --data.")
    for folders in echonet.levels(root):
        found = [folder for folder in folders if any(map(_is_patient, echonet.entries(folder)))]
        nifti = [folder for folder in found if _has(folder, "*_half_sequence.nii*")]
        if len(nifti) > 1:
            raise InputError(f"{root} holds CAMUS more than once: {listed(nifti)}. Give one with --data.")
        if nifti:
            return nifti[0]
        if found:
            raise _no_sequences(found[0])
    holds = listed((entry.name for entry in echonet.entries(root)), 5) or "nothing"
    raise InputError(
        f"{root} is not CAMUS: looked for {SOURCE.layout}, here and up to {echonet.NESTING} folders down, and it holds "
        f"{holds}. "
        + looking.advice(root, "camus", f"Give the folder that holds the patients with --data. {SOURCE.get}")
    )


def _is_patient(path: Path) -> bool:
    return bool(re.fullmatch(r"patient\d+", path.name)) and path.is_dir()


def _has(folder: Path, pattern: str) -> bool:
    return any(folder.glob(f"patient*/{pattern}"))


def _no_sequences(folder: Path) -> InputError:
    if _has(folder, "*.mhd"):
        return InputError(
            f"{folder} holds CAMUS as the challenge had it, .mhd with .raw, which cannot be read here: echolung reads the later "
            f"release in NIfTI (database_nifti, *_half_sequence.nii.gz). Get that one, or convert the sequences. {SOURCE.get}"
        )
    return InputError(
        f"{folder} holds folders of patients, but no *_half_sequence.nii.gz in any. "
        + looking.unpacked(folder, f"Is all of the download there, unpacked? {SOURCE.get}")
    )


# ---- rows --------------------------------------------------------------------------------------------------------------


def _patients(folder: Path) -> list[str]:
    return [entry.name for entry in echonet.entries(folder) if _is_patient(entry) and any(entry.glob("Info_*.cfg"))]


def _rows(folder: Path, patients: Sequence[str], views: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return (a row a patient and view, notes on those left out)."""
    rows, absent = [], []
    for patient in patients:
        for view in views:
            short = VIEWS[view]
            name = f"{patient}_{short}"
            file = next(folder.glob(f"{patient}/{name}_half_sequence.nii*"), None)
            info = folder / patient / f"Info_{short}.cfg"
            if file is None or not info.is_file():
                absent.append(name)
                continue
            place = {"video_id": name, "path": f"{patient}/{file.name}", "patient": patient, "source": "", "view": view}
            rows.append(place | _facts(name, info))
    if not patients:
        raise InputError(
            f"{folder} holds folders of patients, but no Info_*.cfg in any, where the ejection fractions are. "
            + looking.unpacked(folder, f"Is all of the download there, unpacked? {SOURCE.get}")
        )
    if not rows:
        raise InputError(
            f"{folder} holds no half sequence of {' or '.join(views)} with its Info_*.cfg; other views may be there (--view)."
        )
    notes = (
        [f"Left out, without a half sequence or its Info_*.cfg ({len(absent)}): {listed(absent)}."] if absent else []
    )
    return rows, notes


def _facts(name: str, info: Path) -> dict[str, Any]:
    """Return what an Info_*.cfg says, as columns of the manifest."""
    cfg = read_cfg(info.read_text("utf-8", errors="replace"))
    quality = cfg.get("ImageQuality", "").capitalize()
    ed, es = _number(cfg, "ED") - 1, _number(cfg, "ES") - 1  # 1-based there
    backwards = ed > es
    return {
        "ef": _ejection_fraction(name, cfg, info),
        "quality": quality if quality in QUALITIES else "",
        "quality_group": QUALITIES.get(quality, ""),
        "sex": {"m": "male", "f": "female"}.get(cfg.get("Sex", "")[:1].lower(), ""),
        "age": _number(cfg, "Age"),
        "frame_rate": _number(cfg, "FrameRate"),
        "frame_count": _number(cfg, "NbFrame"),
        "ed_frame": ed,
        "es_frame": es,
        "first_frame": ed if backwards else np.nan,
        "last_frame": es if backwards else np.nan,
    }


def _ejection_fraction(name: str, cfg: dict[str, str], info: Path) -> float:
    """Return the EF, which the old release calls LVef."""
    key = next((key for key in ("EF", "LVef") if key in cfg), None)
    if key is None:
        raise InputError(
            f"{info} has no EF (nor LVef, its name in the old release), which CAMUS needs; its keys: {listed(cfg)}. "
            "Copy it from the download again."
        )
    return echonet.checked_ef(name, cfg[key], info)


def _number(cfg: dict[str, str], key: str) -> float:
    try:
        return float(cfg.get(key, "nan"))
    except ValueError:
        return float("nan")


# ---- split and notes ---------------------------------------------------------------------------------------------------


def _add_split(videos: pd.DataFrame, folder: Path) -> list[str]:
    """Add the column `split` of the official files, where they are; return notes."""
    places = [path for at in (folder, folder.parent) for path in (at / "database_split", at)]
    inside = next((at for at in places if (at / SPLIT_FILES["train"]).is_file()), None)
    if inside is None:
        return [
            f"There is no database_split with {listed(SPLIT_FILES.values())} beside {folder}, so there is no official split; "
            f"--fold 0 to {FOLDS - 1} makes one of the ten folds."
        ]
    part_of: dict[str, str] = {}
    for part, file in SPLIT_FILES.items():
        if (inside / file).is_file():
            part_of |= dict.fromkeys((inside / file).read_text("utf-8-sig").split(), part)
    videos["split"] = [part_of.get(name, "") for name in videos["patient"]]
    return [echonet.counts(videos)]


def _about(videos: pd.DataFrame, views: Sequence[str]) -> list[str]:
    """Return notes on what is there, which sequences are read backwards, and what the cfg leave open."""
    qualities = ", ".join(f"{word} {int((videos['quality'] == word).sum())}" for word in QUALITIES)
    notes = [
        f"{len(videos)} half sequences ({' and '.join(views)}) of {videos['patient'].nunique()} patients; quality: {qualities}."
    ]
    if len(views) > 1:
        notes.append("Both views of a patient share its EF: folds are by patient.")
    backwards = videos["video_id"][videos["first_frame"].notna()]
    if len(backwards):
        notes.append(
            f"{echonet.counted(backwards, 'half sequence')} from ES to ED in the file: read backwards, from ED to ES: "
            f"{listed(backwards)}."
        )
    ends = pd.DataFrame({"low": videos[["ed_frame", "es_frame"]].min(axis=1, skipna=False)})
    ends["high"] = videos[["ed_frame", "es_frame"]].max(axis=1, skipna=False)
    odd = videos["video_id"][(ends["low"] != 0) | (ends["high"] != videos["frame_count"] - 1)]
    if len(odd):
        notes.append(f"{echonet.counted(odd, 'half sequence')} whose ED and ES are not the two ends: {listed(odd)}.")
    if blank := videos["video_id"][videos["quality"] == ""].tolist():
        notes.append(
            f"{echonet.counted(blank, 'half sequence')} without an ImageQuality of Good, Medium or Poor: {listed(blank)}."
        )
    return notes
