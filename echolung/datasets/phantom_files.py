"""What all makers of phantoms share: checked numbers, videos written before the tables that vouch for them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from echolung.errors import InputError, RunError

Row = dict[str, Any]


def check_numbers(videos: int, patients: int | None, seed: int, frames: int, size: int, fps: float) -> None:
    """Raise InputError where a number is out of range."""
    if videos < 1 or frames < 1 or (patients is not None and patients < 1):
        raise InputError(f"Phantoms need at least 1 video, patient and frame, not {videos}, {patients} and {frames}.")
    if size < 16 or size % 2:
        raise InputError(
            f"Phantoms are an even number of pixels wide, 16 or more (video codecs ask for it), not {size}."
        )
    if seed < 0 or not 1 <= fps <= 1000:
        raise InputError(f"Phantoms need a seed of 0 or more and 1 to 1000 frames a second, not {seed} and {fps}.")


def write_files(
    root: Path,
    videos: int,
    write_one: Callable[[int], Row],
    tables: Callable[[Sequence[Row]], Mapping[str, pd.DataFrame]],
    names: Sequence[str],
    progress: Callable[[int], None] | None,
) -> None:
    """Write `videos` videos, then the tables made from their rows, the last of `names` last.

    Args:
        root: folder, made where it is not there.
        videos: how many.
        write_one: number -> its row, having written its file.
        tables: rows -> table of each of `names`.
        names: of the tables, relative to `root`. Older ones are removed first: they must not vouch for new videos.
        progress: called with 1 after each video.

    Raises:
        RunError: the folder cannot be written to, or is full.
    """
    rows: list[Row] = []
    try:
        root.mkdir(parents=True, exist_ok=True)
        for name in reversed(names):
            (root / name).unlink(missing_ok=True)
        for number in range(videos):
            rows.append(write_one(number))
            if progress:
                progress(1)
        made = tables(rows)
        for name in names:
            partial = root / f"{name}.partial"
            made[name].to_csv(partial, index=False, lineterminator="\n")
            partial.replace(root / name)
    except OSError as error:
        raise RunError(
            f"Cannot write phantoms to {root} ({len(rows)} of {videos} videos done): {error.strerror or error}. "
            "Free some room or name another folder, then run again."
        ) from error
