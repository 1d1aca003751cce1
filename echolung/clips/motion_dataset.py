"""A dataset's videos -> masked ones, and a table of them that echolung reads (docs/motion-mask.md)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from echolung.clips.motion_files import FORMATS, facts_file, file_name, mask_video, replace, stamp, video_file
from echolung.clips.motion_mask import MotionMask
from echolung.clips.workers import run_in_workers
from echolung.datasets import Manifest, Task
from echolung.datasets.labels import DESCRIBE
from echolung.datasets.table import SPLITS
from echolung.errors import DecodeError, InputError, RunError
from echolung.text import suggest

SETTINGS, TABLE, FACTS = "settings.json", "videos.csv", "motion-mask.csv"

TIME_LIMIT = 600.0
"""Seconds that one video may take: flow at full size is slow."""


@dataclass(frozen=True)
class Masked:
    """What masking a dataset came to.

    Attributes:
        facts: one row a masked video: video_id, kept (share), threshold (pixels a frame), whole (why everything was kept, or
            ""), text_outside and text_inside (lines of burned-in text that were removed, that may still be there), frames.
        unreadable: video_id -> reason.
        new: how many were masked now, not in a run before.
        notes: what the table leaves out, a sentence each.
        options: what `echolung extract` needs to be told to read the table's labels as the dataset had them.
    """

    facts: pd.DataFrame
    unreadable: dict[str, str]
    new: int
    notes: tuple[str, ...]
    options: tuple[str, ...]


def mask_videos(
    manifest: Manifest,
    out: Path,
    settings: MotionMask,
    *,
    form: str = "png",
    pictures: int = 0,
    decoder: str = "auto",
    workers: int | None = None,
    time_limit: float = TIME_LIMIT,
    start: Callable[[int, int], None] = lambda done, total: None,
    advance: Callable[[], None] = lambda: None,
) -> Masked:
    """Write every video of a dataset, masked, under `out`, and their tables; what is there from a run before is kept.

    Args:
        manifest: the dataset.
        out: folder, made where it is not there: videos/, masks/, pictures/, videos.csv, motion-mask.csv, settings.json.
        settings: how the moving region is found.
        form: "png" or "ffv1".
        pictures: strips of the first so many videos.
        decoder: as in `decode`.
        workers: processes; default one a core.
        time_limit: seconds a video.
        start: called with how many are there already, and how many in all.
        advance: called after each other one.

    Raises:
        InputError: no such form, `out` holds something else or was made with other settings, or no video can be read.
        RunError: the folder cannot be written to, or is full.
    """
    if form not in FORMATS:
        raise InputError(f"--format {form} must be one of {', '.join(FORMATS)}.{suggest(form, FORMATS)}")
    names = manifest.videos["video_id"].astype(str).tolist()
    try:
        _claim(out, {"dataset": manifest.name, "format": form, "decoder": decoder, "mask": settings.to_json()})
        done = {row for row, name in enumerate(names) if _finished(out, name, manifest.file(row), row < pictures)}
        start(len(done), len(names))

        def arguments(row: int) -> tuple[Any, ...]:
            return manifest.file(row), names[row], manifest.span(row), out, settings, form, decoder, row < pictures

        unreadable = {}
        rest = [row for row in range(len(names)) if row not in done]
        for row, result in run_in_workers(mask_video, rest, arguments, workers, time_limit):
            if isinstance(result, DecodeError):
                unreadable[names[row]] = str(result)
            elif result:
                raise OSError(result)
            advance()
        return _write_tables(manifest, out, form, unreadable, len(rest) - len(unreadable))
    except OSError as error:
        raise RunError(
            f"Cannot write to {out}: {error.strerror or error}. Free some room or name another folder, then run again: "
            "finished videos are not repeated."
        ) from error


def _finished(out: Path, name: str, path: Path, picture: bool) -> bool:
    """Whether a video was masked in a run before, and its source is the same."""
    facts, drawn = facts_file(out, name), out / "pictures" / f"{file_name(name)}.png"
    if not facts.is_file() or not path.exists() or (picture and not drawn.is_file()):
        return False
    return bool(json.loads(facts.read_text())["source"] == stamp(path))


def _claim(out: Path, how: dict[str, Any]) -> None:
    """Make the folder and say in it how it is made; InputError where it holds anything else."""
    settings = out / SETTINGS
    if settings.is_file():
        before = json.loads(settings.read_text())
        if changed := [
            f"{k} was {_said(before.get(k))} and is {_said(how[k])}" for k in how if before.get(k) != how[k]
        ]:
            raise InputError(
                f"{out} was made with other settings: {'; '.join(changed)}. Run with those, or name another folder."
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} holds something else. Name a new or empty folder for the masked videos.")
    for folder in ("videos", "masks", "pictures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    replace(settings, json.dumps(how, indent=2))


def _said(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


# ---------------------------------------------------------------------------------------------- tables


def _write_tables(manifest: Manifest, out: Path, form: str, unreadable: dict[str, str], new: int) -> Masked:
    ids = manifest.videos["video_id"].astype(str)
    kept = manifest.videos[~ids.isin(unreadable)]
    if kept.empty:
        first = next(iter(unreadable.values()))
        raise InputError(f"Not one of the {len(ids)} videos of {manifest.name} can be read. The first: {first}")
    facts = pd.DataFrame([json.loads(facts_file(out, str(name)).read_text()) for name in kept["video_id"]])
    facts = facts.drop(columns="source")
    paths = [video_file(out, str(name), form).relative_to(out).as_posix() for name in kept["video_id"]]
    table, notes, options = _label_table(manifest, kept)
    replace(out / TABLE, table.assign(path=paths).to_csv(index=False, lineterminator="\n"))
    replace(out / FACTS, facts.to_csv(index=False, lineterminator="\n"))
    return Masked(facts, unreadable, new, notes, options)


def _label_table(manifest: Manifest, videos: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Return (the videos with their labels, notes, options that make `table` read the labels as the dataset had them)."""
    table = videos[["video_id", "patient", "source"]].fillna("").assign(path="")
    if "split" in videos and videos["split"].astype(str).str.lower().isin(SPLITS).all():
        table["split"] = videos["split"].astype(str).str.lower()
    notes, kinds, blank = [], [], False
    for column, task in {task.column: task for task in manifest.tasks.values()}.items():
        values = videos[column].where(videos[column].notna(), "").astype(object)
        if column in DESCRIBE or values[values != ""].nunique() < 2:
            notes.append(f"The label {column} is left out: it has less than two values here.")
            continue
        table[column], blank = values, blank or bool((values == "").any())
        kinds += [f"--kind {column}={kind}"] if (kind := _kind_to_say(task, table[column])) else []
    return table, tuple(notes), (*kinds, *(["--drop-unlabelled"] if blank else []))


def _kind_to_say(task: Task, values: pd.Series) -> str:
    """Return the kind of a label column that `table` would take for another; "" where it would not."""
    if task.ordinal:
        return "ordinal"
    numbers = set(pd.to_numeric(values[values != ""], errors="coerce"))
    if task.kind == "classification":
        return "classification" if not any(pd.isna(n) for n in numbers) and numbers != {0, 1} else ""
    return "regression" if numbers == {0, 1} else ""
