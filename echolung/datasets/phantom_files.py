"""What all makers of phantoms share: checked numbers, nobody else's files touched, tables written after the videos."""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from echolung.datasets import echonet
from echolung.errors import InputError, RunError
from echolung.text import listed

Row = dict[str, Any]

MARKER = ".echolung-phantom"
"""Stands where phantoms are: SHA-256 and name of each table, as sha256sum writes them."""

OWN_TABLE = "phantoms.csv"
"""The table of phantoms in a layout of their own; alone it says whose they are, too, for folders without a marker."""


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
    tables: Callable[[Sequence[Row]], Mapping[str, pd.DataFrame | bytes]],
    names: Sequence[str],
    progress: Callable[[int], None] | None,
) -> None:
    """Write `videos` videos, then the tables made from their rows, the last of `names` last; never over others' files.

    Args:
        root: folder, made where it is not there.
        videos: how many.
        write_one: number -> its row, having written its file.
        tables: rows -> content of each of `names`; a table is written as CSV.
        names: of the tables that there may be, relative to `root`. Older ones, and those of phantoms that were here, are
            removed first: they must not vouch for new videos.
        progress: called with 1 after each video.

    Raises:
        InputError: `root` holds something that is no phantom.
        RunError: the folder cannot be written to, or is full.
    """
    rows: list[Row] = []
    try:
        root.mkdir(parents=True, exist_ok=True)
        _check_folder(root, names)
        older = _told(root) if (root / MARKER).is_file() else {}
        _mark(root, dict.fromkeys(names, b""))  # no table that comes between is ours
        for name in reversed([*dict.fromkeys([*older, *names])]):
            (root / name).unlink(missing_ok=True)
        for number in range(videos):
            rows.append(write_one(number))
            if progress:
                progress(1)
        made = {name: _content(table) for name, table in tables(rows).items()}
        _mark(root, made)
        for name in sorted(made, key=list(names).index):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            _replace(root / name, made[name])
    except OSError as error:
        raise RunError(
            f"Cannot write phantoms to {root} ({len(rows)} of {videos} videos done): {error.strerror or error}. "
            "Free some room or name another folder, then run again."
        ) from error


def _content(table: pd.DataFrame | bytes) -> bytes:
    return table if isinstance(table, bytes) else table.to_csv(index=False, lineterminator="\n").encode()


# ---- whose folder ------------------------------------------------------------------------------------------------------


def holds_phantoms(root: Path) -> bool:
    """Whether what lies at `root`, and up to four levels below, in a layout of EchoNet, is phantoms and nothing else.

    Not so where a real dataset was unpacked over them, or beside them: its FileList.csv is none that a marker tells of.
    """
    lists, own = set(), set()
    for folder in itertools.chain.from_iterable(echonet.levels(root)):
        if table := echonet.child(folder, echonet.FILE_LIST):
            lists.add(table)
        if (folder / MARKER).is_file():
            own |= {folder / name for name in _told(folder)} - {folder / name for name in _changed(folder)}
    return bool(own) and lists <= own


def _check_folder(root: Path, names: Sequence[str]) -> None:
    """Raise InputError where `root` holds what echolung did not write."""
    if (root / MARKER).is_file():
        if changed := _changed(root):
            raise InputError(
                f"{root} held phantoms, but {listed(changed)} there is not the table that came with them: it was edited, or "
                "another dataset was put into the folder. Nothing was touched. Name another folder for phantoms."
            )
        return
    there = sorted(entry.name for entry in root.iterdir())
    if there and not (OWN_TABLE in names and OWN_TABLE in there):
        raise InputError(
            f"{root} holds something that echolung did not write ({listed(there, 5)}), such as a real dataset, and phantoms "
            "would replace its tables. Nothing was touched. Name another, empty folder for them."
        )


def _changed(root: Path) -> list[str]:
    """Return the tables at `root` that are not as the marker tells."""
    there = {name: told for name, told in _told(root).items() if (root / name).is_file()}
    return [name for name, told in there.items() if _digest((root / name).read_bytes()) != told]


def _told(root: Path) -> dict[str, str]:
    """Return name of each table -> its SHA-256, as the marker has them."""
    lines = (line.partition("  ") for line in (root / MARKER).read_text("utf-8").splitlines())
    return {name: digest for digest, _, name in lines}


def _mark(root: Path, tables: Mapping[str, bytes]) -> None:
    text = "".join(f"{_digest(content)}  {name}\n" for name, content in tables.items())
    _replace(root / MARKER, text.encode())


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
