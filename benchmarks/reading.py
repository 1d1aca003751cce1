"""How fast clips are read from a token store: Zarr alone, echolung's read_rows, a raw np.memmap of the same tokens.

    uv run python benchmarks/reading.py [--clips 320] [--repeats 7] [--folder FOLDER]

Each repeat draws new clips in random order and reads them in every way, one after the other, so that a busy machine slows
all of them. "Cold": the page cache is dropped for the files first (what is under it, a hypervisor's cache say, is not), and
the memmap is a new one, because mapped pages cannot be dropped. The memmap checks no checksum; the others do.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr

from echolung.cache.layout import create_array
from echolung.cache.reading import read_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=320)
    parser.add_argument("--tokens", type=int, default=1568)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 256])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write the clips (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        shape = (arguments.clips, arguments.tokens, arguments.dim)
        array, files = write(Path(folder), shape)
        print(f"{shape[0]} clips of {shape[1]:,} × {shape[2]:,} float16, medians of {arguments.repeats} repeats.")
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python", end=" ")
        print(
            f"{platform.python_version()}, zarr {zarr.__version__}, numpy {np.__version__}, {time.strftime('%Y-%m-%d')}\n"
        )
        print("| batch | page cache | way | GB/s | time, memmap = 1 |\n|---|---|---|---|---|")
        for batch in arguments.batches:
            for cold in (False, True):
                report(ways(array, files[-1], cold), files, shape, batch, cold, arguments.repeats)


def write(folder: Path, shape: tuple[int, int, int]) -> tuple[zarr.Array, list[Path]]:
    """Write the same tokens as a store's array and as one raw file; return the array, and all files (the raw one last)."""
    array = create_array(zarr.create_group(folder / "store"), "tokens", shape, (1, *shape[1:]), "float16", np.nan)
    clip = np.random.default_rng(0).normal(size=shape[1:]).astype(np.float16)
    with (folder / "raw").open("wb") as raw:
        for i in range(shape[0]):
            clip[0] = i
            array[i] = clip
            raw.write(clip.tobytes())
    os.sync()  # what is not on disk yet cannot be dropped
    return array, [*sorted((folder / "store").glob("tokens/c/*/0/0")), folder / "raw"]


def ways(array: zarr.Array, raw: Path, cold: bool) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return what is compared: rows -> tokens."""
    kept = np.empty((0, *array.shape[1:]), array.dtype)
    mapped = None if cold else np.memmap(raw, array.dtype, "r", shape=array.shape)

    def memmap(rows: np.ndarray) -> np.ndarray:
        return (np.memmap(raw, array.dtype, "r", shape=array.shape) if mapped is None else mapped)[rows]

    def again(rows: np.ndarray) -> np.ndarray:
        nonlocal kept
        kept = kept if len(kept) == len(rows) else np.zeros((len(rows), *array.shape[1:]), array.dtype)
        return read_rows(array, rows, out=kept)

    return {
        "np.memmap, rows": memmap,
        "zarr, rows (oindex)": lambda rows: array.oindex[rows],
        "zarr, as many neighbours": lambda rows: array[: len(rows)],
        "zarr, clip by clip": lambda rows: np.stack([array[int(row)] for row in rows]),
        "read_rows": lambda rows: read_rows(array, rows),
        "read_rows into the same memory": again,
    }


def report(
    compared: dict[str, Callable[[np.ndarray], np.ndarray]],
    files: list[Path],
    shape: tuple[int, int, int],
    batch: int,
    cold: bool,
    repeats: int,
) -> None:
    random = np.random.default_rng(batch)
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    if not cold:
        for file in files:
            file.read_bytes()
    for _ in range(repeats):
        rows = random.permutation(shape[0])[:batch]
        for name, way in compared.items():
            if cold:
                drop(files)
            began = time.perf_counter()
            way(rows)
            seconds[name].append(time.perf_counter() - began)
    base = statistics.median(next(iter(seconds.values())))
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        rate = min(batch, shape[0]) * shape[1] * shape[2] * 2 / middle / 1e9
        print(f"| {batch} | {'cold' if cold else 'warm'} | {name} | {rate:.2f} | {middle / base:.2f} |", flush=True)


def drop(files: list[Path]) -> None:
    """Have the page cache forget some files."""
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


if __name__ == "__main__":
    main()
