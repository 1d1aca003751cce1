"""What a store consists of on disk: its arrays, its tables, and how parts of it are exchanged whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from jaxtyping import Float32, Int, UInt8
from zarr.codecs import Crc32cCodec

from echolung.cache.moving import exchange, recover
from echolung.cache.place import Place
from echolung.cache.seal import sealed
from echolung.cache.tables import write_table
from echolung.errors import InputError
from echolung.machine import free_disk, nearest_folder
from echolung.text import in_bytes

SCHEMA = 1
"""Version of the layout; a store of another is refused, not guessed at."""

PREVIEW_SHAPE = (8, 112, 112)

CLIP_ARRAYS = ("complete", "pooled", "frames", "source_digest", "source_size", "source_mtime", "error")
"""Small arrays with one entry a clip: chunked by block while they are written, one chunk once finished."""

FACTS = ("frames", "height", "width", "fps")
"""Columns of the array `video`: what a clip's video is, in pixels and frames a second; NaN is unknown."""

KEEP_EMPTY: Any = {"write_empty_chunks": True}
"""How `preview` is written: clips may be black, and without a file of their own they would look like lost ones."""


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


@dataclass(frozen=True)
class Block:
    """Encoded clips of consecutive rows, on their way to disk.

    A clip that could not be read has its reason in `errors` ("" for the rest); its tokens are ignored. `video` is what
    `FACTS` says, NaN where it is not known.
    """

    start: int
    tokens: Float32[np.ndarray, "b n d"]
    frames: Int[np.ndarray, "b t"]
    previews: UInt8[np.ndarray, "b 8 112 112"]
    digests: Sequence[str]
    sizes: Sequence[int]
    mtimes: Sequence[int]
    errors: Sequence[str]
    video: Float32[np.ndarray, "b 4"] | None = None


def clip_arrays(group: zarr.Group) -> tuple[str, ...]:
    """Return which small arrays a store has: all `CLIP_ARRAYS`, and `video`, which older stores lack."""
    return (*CLIP_ARRAYS, "video") if "video" in group else CLIP_ARRAYS


def create_arrays(
    group: zarr.Group,
    n: int,
    *,
    tokens: int,
    dim: int,
    frames: int,
    block: int,
    preview: bool,
    sharded: bool = False,
    video: bool = False,
) -> None:
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
    if video:
        shapes["video"] = ((n, len(FACTS)), (block, len(FACTS)), "float32", np.nan)
    if preview:
        shapes["preview"] = ((n, *PREVIEW_SHAPE), (1 if sharded else block, *PREVIEW_SHAPE), "uint8", 0)
    for name, (shape, chunks, dtype, fill) in shapes.items():
        in_shards = sharded and name in ("tokens", "preview") and all(shape)
        create_array(group, name, shape, chunks, dtype, fill, shard=block if in_shards else None)


def create_array(
    group: zarr.Group, name: str, shape: Any, chunks: Any, dtype: Any, fill: Any, *, shard: int | None = None
) -> Any:
    """Lay out one array: checksummed, uncompressed, chunks no larger than it is; `shard` chunks of one clip a file."""
    chunks = tuple(max(1, min(c, s)) for c, s in zip(chunks, shape, strict=True))
    # Tokens barely compress (4-19 %), and without a checksum a flipped bit reads back without a word.
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        shards=(shard, *chunks[1:]) if shard else None,
        dtype=dtype,
        fill_value=fill,
        compressors=[Crc32cCodec()],
    )


def write_snapshot(group: zarr.Group, name: str, snapshot: Snapshot) -> None:
    """Write the dataset's table and tasks as the group `name`."""
    table = group.create_group(name)
    write_table(table, snapshot.videos.reset_index(drop=True))
    table.attrs.update(sealed({**dict(table.attrs), "dataset": snapshot.dataset, "tasks": snapshot.tasks}))


def swap(path: Place, name: str) -> None:
    """Put `name.new` in the place of `name`; a kill in between is put right by `clear_leftovers`."""
    exchange(path / name, ".new", ".old")


def clear_leftovers(path: Place) -> None:
    """Put right what a killed writer left: half-written files, and an exchange that it was in the middle of."""
    if isinstance(path, Path):  # at a URL a file is written whole, or not at all
        for partial in path.glob("**/*.partial"):
            partial.unlink()
    for name in {left.name.rpartition(".")[0] for end in ("new", "old") for left in path.glob(f"*.{end}")}:
        recover(path / name, ".new", ".old")


def check_room(folder: Place, needed: int) -> None:
    """Raise InputError where the disk has no room for `needed` bytes; of a URL nobody knows."""
    if not isinstance(folder, Path):
        return
    free = free_disk(folder)
    if needed * 1.02 > free:
        raise InputError(
            f"The store needs {in_bytes(needed)} and {nearest_folder(folder)} has {in_bytes(free)} free. Free some space, or "
            "name another place with --store. --token-pool 2 keeps a quarter of the tokens, --tokens none their means only."
        )
