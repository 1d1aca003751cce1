"""Rows of a Zarr array, fast: plain chunk files go straight into the result, anything else through Zarr in a few threads.

Zarr reads a chunk into new memory, copies it, and picks scattered rows element by element (docs/benchmarks.md has the
figures); for one clip a chunk in a local file none of that is needed.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from jaxtyping import Int, Shaped
from zarr.storage import LocalStore

FILE_THREADS = 4
"""More gain nothing from the page cache, and little from a disk."""

ZARR_THREADS = 8
"""Zarr's reads wait for each other little, and those of a bucket wait for the network."""

RUN = 16 * 2**20
"""Bytes that one read through Zarr asks for (or one chunk, where that is more): Zarr holds them twice on the way."""

PLAIN = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


def read_rows(
    array: zarr.Array, rows: Int[np.ndarray, " n"], out: Shaped[np.ndarray, "n ..."] | None = None
) -> Shaped[np.ndarray, "n ..."]:
    """Return array[rows]: any order, duplicates allowed. A chunk that is not there reads as the array's fill value.

    Args:
        array: of any layout, in any store.
        rows: indices along the first axis.
        out: where to put them, instead of into a new array.

    Raises:
        IndexError: a row outside the array.
        ValueError: a checksum that does not match, or a chunk of the wrong length.
    """
    if len(rows) and not 0 <= rows.min() <= rows.max() < array.shape[0]:
        raise IndexError(f"rows {rows.min()} to {rows.max()} of an array of {array.shape[0]}")
    if out is None:
        out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    if _is_plain(array, out):
        _each(lambda place: _read_file(array, int(rows[place]), out[place]), range(len(rows)), FILE_THREADS)
    else:
        _each(lambda places: _read_run(array, rows, places, out), list(_runs(array, rows)), ZARR_THREADS)
    return out


def _each(read: Callable[[Any], None], parts: Any, threads: int) -> None:
    if len(parts) < 2:
        for part in parts:
            read(part)
        return
    with ThreadPoolExecutor(min(threads, len(parts))) as pool:
        for _ in pool.map(read, parts):  # the first error ends it, and what has not begun is not read
            pass


def _is_plain(array: zarr.Array, out: np.ndarray) -> bool:
    """Return whether each row is one local file of little-endian numbers and their CRC-32C, as `out` holds them."""
    return (
        isinstance(array.store, LocalStore)
        and [codec.to_dict() for codec in getattr(array.metadata, "codecs", ())] == PLAIN
        and array.chunks == (1, *array.shape[1:])
        and array.dtype.str[0] == "<"
        and out.size > 0
        and out.dtype == array.dtype
        and out.flags.c_contiguous
    )


def _read_file(array: Any, row: int, out: np.ndarray) -> None:
    name = array.metadata.encode_chunk_key((row, *[0] * (array.ndim - 1)))
    try:
        with (Path(array.store.root) / array.path / name).open("rb") as file:
            count = file.readinto(out.data.cast("B"))
            check = file.read(5)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):  # those that Zarr takes for a missing chunk
        out[...] = array.fill_value
        return
    if count != out.nbytes or len(check) != 4:
        raise ValueError(f"the chunk {name} has not the {out.nbytes + 4} bytes of one")
    if google_crc32c.value(out) != int.from_bytes(check, "little"):
        raise ValueError(f"the checksum of the chunk {name} does not match")


def _runs(array: zarr.Array, rows: Int[np.ndarray, " n"]) -> Iterator[Int[np.ndarray, " _"]]:
    """Yield places in `rows`, by increasing row, that one read serves: of one chunk, or of neighbouring ones.

    So no chunk is read twice, and none that holds no row asked for.
    """
    if not len(rows):
        return
    order = np.argsort(rows, kind="stable")
    chunk = array.chunks[0]
    row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:]))
    chunks = rows[order] // chunk
    run = chunks // max(1, RUN // max(1, chunk * row_bytes))
    ends = (np.diff(chunks) > 1) | (np.diff(run) > 0)
    yield from np.split(order, np.flatnonzero(ends) + 1)


def _read_run(array: Any, rows: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
    first, last = int(rows[places[0]]), int(rows[places[-1]])
    out[places] = array[first : last + 1][rows[places] - first]
