"""EchoNet-Dynamic, 10,030 apical four-chamber videos with ejection fractions -> Manifest (docs/datasets/echonet-dynamic.md)."""

from pathlib import Path

import numpy as np
import pandas as pd

from echolung.datasets import echonet
from echolung.datasets.manifest import Manifest, Task
from echolung.errors import InputError
from echolung.text import listed

TASKS = {
    "ef": echonet.TASK_EF,
    "esv": Task("regression", "esv"),
    "edv": Task("regression", "edv"),
    "ef-reduced": echonet.TASK_REDUCED,
}
SOURCE = echonet.Source(
    "EchoNet-Dynamic",
    ("filename", "ef", "esv", "edv", "split"),
    f"{echonet.FILE_LIST} beside the folder {echonet.VIDEOS}",
    "It comes under a research-use agreement: echonet.github.io/dynamic says how to get it from Stanford AIMI.",
)
FACTS = {  # of the table, as `plain` writes it -> of the manifest
    "frameheight": "frame_height",
    "framewidth": "frame_width",
    "fps": "frame_rate",
    "numberofframes": "frame_count",
}
TALL = 768
"""Height of the recordings, pixels, from which the released videos have no tracings."""


def load(root: Path) -> Manifest:
    """Return the videos on disk with what FileList.csv says of them, and notes on what does not agree.

    `videos` has video_id (the name without `.avi`), path, patient (the same: one video a person), source (""), ef (percent),
    esv, edv (ml), ef_reduced ("EF >= 50", "EF < 50" or ""), split ("train", "val", "test" or ""), frame_height, frame_width
    (of the recording, pixels), frame_rate (Hz), frame_count and traced_frames. Numbers are NaN where they are not known.

    Args:
        root: the folder with FileList.csv, one up to four levels above it, or its `Videos`.

    Raises:
        InputError: `root` is not the dataset, or holds no video of it.
    """
    file = _find(echonet.existing(root, SOURCE))
    folder = file.parent
    table, notes = echonet.read_list(file, SOURCE)
    found, more = echonet.match(folder, table, "", SOURCE)
    ef, unreadable = echonet.ejection_fractions(found, file)
    traced, untraceable = echonet.traced_frames(folder)

    videos = found[["video_id", "path"]].copy()
    videos["patient"], videos["source"] = videos["video_id"], ""
    videos["ef"] = ef
    for column in ("esv", "edv"):
        videos[column] = echonet.numbers(found[column], 0)
    videos["ef_reduced"] = echonet.reduced_words(ef)
    videos["split"] = [echonet.SPLITS.get(word.lower(), "") for word in found["split"]]
    for column, name in FACTS.items():
        videos[name] = echonet.numbers(found[column], 0) if column in found else np.nan
    videos["traced_frames"] = [float(traced.get(name, 0)) if traced else np.nan for name in videos["video_id"]]
    if odd := found["video_id"][found["listed"] & (videos["split"] == "")].tolist():
        notes.append(f"{len(odd):,} videos whose Split is not TRAIN, VAL or TEST are in no split: {listed(odd)}.")
    notes = [echonet.counts(videos), *notes, *more, *unreadable, *untraceable, *_on_tracings(videos)]
    return Manifest("echonet-dynamic", folder, videos, TASKS, tuple(notes))


def _find(root: Path) -> Path:
    """Return FileList.csv: in `root`, in the nearest folder below it, or in the one above `Videos`."""
    if root.name.lower() == echonet.VIDEOS.lower() and (above := echonet.child(root.parent, echonet.FILE_LIST)):
        return above
    for folders in echonet.levels(root):
        found = [file for folder in folders if (file := echonet.child(folder, echonet.FILE_LIST))]
        if any(file.parent.name.upper() in ("A4C", "PSAX") for file in found):
            raise InputError(f"{root} holds EchoNet-Pediatric (A4C, PSAX): name the dataset echonet-pediatric.")
        if len(found) > 1:
            raise InputError(f"{root} holds {SOURCE.name} more than once: {listed(found)}. Give one with --data.")
        if found:
            return found[0]
    raise echonet.nowhere(root, SOURCE)


def _on_tracings(videos: pd.DataFrame) -> list[str]:
    """Return notes on the videos without tracings, which some published counts leave out."""
    bare = videos[(videos["split"] != "") & (videos["traced_frames"] < 2)]
    if bare.empty:
        return []
    tall = bare["video_id"][bare["frame_height"] >= TALL].tolist()
    kept = videos.drop(bare.index)
    text = f"{len(bare):,} videos have fewer than two traced frames: {listed(bare['video_id'])}"
    if tall:
        text += f" ({len(tall):,} of them recorded {TALL} pixels high or more)"
    return [f"{text}. They are kept; studies that need tracings count {echonet.counts(kept)}"]
