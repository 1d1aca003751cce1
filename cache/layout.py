"""What a store consists of on disk: its arrays, its tables, and how parts of it are exchanged whole."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import Crc32cCodec

from echolung.cache.tables import write_table
from echolung.errors import InputError

SCHEMA = 1
"""Version of the layout; a store of another is refused, not guessed at."""

PREVIEW_SHAPE = (8, 112, 112)

CLIP_ARRAYS = ("complete", "pooled", "frames", "source_digest", "source_size", "source_mtime", "error")
"""Small arrays with one entry a clip: chunked by block while they are written, one chunk once finished."""


@dataclass(frozen=True)
class Snapshot:
    """The dataset's table as it was at extraction, labels included, so that probing needs no videos.

    Attributes:
        dataset: the dataset's name.
        videos: one row a video, as in the dataset's manifest.
        tasks: task name -> plain fields of the task.
    """

    dataset: str
    videos: pd.DataFrame
    tasks: dict[str, dict[str, Any]]


def create_arrays(group: zarr.Group, n: int, *, tokens: int, dim: int, frames: int, block: int, preview: bool) -> None:
    """Lay out the empty arrays of `n` clips; docs/cache-format.md says what each holds."""
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...], Any, Any]] = {
        "tokens": ((n, tokens, dim), (1, tokens, dim), "float16", np.nan),
        "pooled": ((n, dim), (block, dim), "float32", np.nan),
        "complete": ((n,), (block,), "bool", False),
        "frames": ((n, frames), (block, frames), "int32", -1),
        "source_digest": ((n,), (block,), str, ""),
        "source_size": ((n,), (block,), "int64", -1),
        "source_mtime": ((n,), (block,), "int64", -1),
        "error": ((n,), (block,), str, ""),
    }
    if preview:
        shapes["preview"] = ((n, *PREVIEW_SHAPE), (block, *PREVIEW_SHAPE), "uint8", 0)
    for name, (shape, chunks, dtype, fill) in shapes.items():
        create_array(group, name, shape, chunks, dtype, fill)


def create_array(group: zarr.Group, name: str, shape: Any, chunks: Any, dtype: Any, fill: Any) -> Any:
    """Lay out one array: checksummed, uncompressed, chunks no larger than it is."""
    chunks = tuple(max(1, min(c, s)) for c, s in zip(chunks, shape, strict=True))
    # Tokens barely compress (4-19 %), and without a checksum a flipped bit reads back without a word.
    return group.create_array(
        name, shape=shape, chunks=chunks, dtype=dtype, fill_value=fill, compressors=[Crc32cCodec()]
    )


def write_snapshot(group: zarr.Group, name: str, snapshot: Snapshot) -> None:
    """Write the dataset's table and tasks as the group `name`."""
    table = group.create_group(name)
    write_table(table, snapshot.videos.reset_index(drop=True))
    table.attrs.update({"dataset": snapshot.dataset, "tasks": snapshot.tasks})


def swap(path: Path, name: str) -> None:
    """Put `name.new` in the place of `name`; a kill in between is put right by `clear_leftovers`."""
    old = path / f"{name}.old"
    (path / name).rename(old)
    (path / f"{name}.new").rename(path / name)
    shutil.rmtree(old)


def clear_leftovers(path: Path) -> None:
    """Put right what a killed writer left: half-written files, and an exchange that it was in the middle of."""
    for partial in path.glob("**/*.partial"):
        partial.unlink()
    for new in path.glob("*.new"):
        place = path / new.name.removesuffix(".new")
        # The old one is only moved away once the new one is whole.
        shutil.rmtree(new) if place.exists() else new.rename(place)
    for old in path.glob("*.old"):
        shutil.rmtree(old)


def check_room(folder: Path, needed: int) -> None:
    """Raise InputError where the disk has no room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed * 1.02 > free:
        raise InputError(
            f"The store needs {_size(needed)} and {folder} has {_size(free)} free. Free some space, or name another place "
            "with --store."
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
