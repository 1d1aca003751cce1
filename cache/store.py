"""TokenStore: the one place where the heavy stage and the fast stage meet. docs/cache-format.md describes the files.

While clips arrive, everything about a clip is chunked by the block (a batch of clips that one writer encodes and owns);
`finish` rewrites the small arrays as one chunk each, because a store of 20,000 one-row chunks takes minutes to open.
"""

import errno
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from jaxtyping import Bool, Float16, Float32, Int, UInt8

from echolung.cache.key import Key, differences, key_digest
from echolung.cache.layout import (
    CLIP_ARRAYS,
    PREVIEW_SHAPE,
    SCHEMA,
    Snapshot,
    check_room,
    clear_leftovers,
    create_array,
    create_arrays,
    swap,
    write_snapshot,
)
from echolung.cache.tables import read_table, write_table
from echolung.errors import InputError, RunError


@dataclass(frozen=True)
class Block:
    """Encoded clips of consecutive rows, on their way to disk.

    A clip that could not be read has its reason in `errors` ("" for the rest); its tokens are ignored.
    """

    start: int
    tokens: Float32[np.ndarray, "b n d"]
    frames: Int[np.ndarray, "b t"]
    previews: UInt8[np.ndarray, "b 8 112 112"]
    digests: Sequence[str]
    sizes: Sequence[int]
    mtimes: Sequence[int]
    errors: Sequence[str]


class TokenStore:
    """Tokens of the clips of one dataset under one key. Make one by `open` or `create`.

    Attributes:
        path: the folder.
        group: the Zarr group, for whoever wants the raw arrays.
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self.group = group

    # ---- opening -----------------------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls, path: Path | str, expect: Key | None = None, *, writing: bool = False, unfinished: bool = False
    ) -> "TokenStore":
        """Return the store at `path`.

        Args:
            path: the folder of the store.
            expect: the key it must have; None takes whatever is there.
            writing: open for an extraction to go on with, complete or not (what a killed one left over is cleared).
            unfinished: do not mind a store whose extraction was stopped half-way.

        Raises:
            InputError: nothing there, another schema, another key (names the fields), or not complete.
        """
        path = Path(path)
        try:
            group = zarr.open_group(path, mode="r+" if writing else "r")
        except (FileNotFoundError, FileExistsError, NotADirectoryError, ValueError, KeyError) as error:
            raise InputError(f"There is no token store at {path} (no Zarr group found).") from error
        store = cls(path, group)
        schema = group.attrs.get("schema_version")
        if schema is None:
            raise InputError(f"{path} is a Zarr group, but no token store of echolung (no schema_version).")
        if schema != SCHEMA:
            raise InputError(
                f"The store {path.name} has schema version {schema}, and this version of echolung reads {SCHEMA}. "
                "Remove that folder, or name another with --store, and extract again; or use the version that wrote it."
            )
        if expect is not None and (found := differences(store.key, expect)):
            raise InputError(f"The store {path.name} was made with another key; {'; '.join(found)}.")
        if writing:  # only now: what is no store of ours is left alone
            clear_leftovers(path)
        if not (writing or unfinished or store.finished):
            done = int(store.array("complete")[:].sum()) if "complete" in store.group else 0
            raise InputError(
                f"The store {path.name} holds {done} of {store.clips} clips: its extraction was stopped half-way. "
                "Run the same `echolung extract` again; it goes on where it stopped."
            )
        return store

    @classmethod
    def create(
        cls,
        path: Path | str,
        key: Key,
        rows: pd.DataFrame,
        snapshot: Snapshot,
        *,
        tokens: int,
        dim: int,
        grid: tuple[int, int, int],
        frames: int,
        block: int,
        preview: bool = True,
        created_by: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> "TokenStore":
        """Lay out an empty store for the clips in `rows` and return it, opened for writing.

        Args:
            path: a folder that does not exist yet.
            key: everything that can change one number.
            rows: one row a clip: video_id, patient, source, segment, view.
            snapshot: the dataset's table and tasks.
            tokens: tokens a clip.
            dim: width of a token.
            grid: (t, h, w) of the tokens; t·h·w = tokens.
            frames: source frames a clip.
            block: clips that are encoded and written together.
            preview: keep small grey frames.
            created_by: versions and the like; not part of the key.
            attributes: what else to write among the group's attributes.

        Raises:
            InputError: the folder exists, or the disk has no room for it.
        """
        path = Path(path)
        if path.exists():
            raise InputError(f"There is something at {path} already.")
        path.parent.mkdir(parents=True, exist_ok=True)
        clip_bytes = tokens * dim * 2 + (int(np.prod(PREVIEW_SHAPE)) if preview else 0)
        check_room(path.parent, len(rows) * clip_bytes)
        # Built beside its place and moved there whole, so that a store is never half laid out.
        building = path.with_name(path.name + ".building")
        shutil.rmtree(building, ignore_errors=True)
        group = zarr.create_group(building)
        create_arrays(group, len(rows), tokens=tokens, dim=dim, frames=frames, block=block, preview=preview)
        write_table(group.create_group("rows"), rows.reset_index(drop=True))
        write_snapshot(group, "manifest", snapshot)
        group.attrs.update(
            {
                **(attributes or {}),
                "schema_version": SCHEMA,
                "key": key,
                "key_digest": key_digest(key),
                "token_grid": list(grid),
                "block": block,
                "finished": False,
                "created_by": {**(created_by or {}), "at": datetime.now(UTC).isoformat(timespec="seconds")},
            }
        )
        building.rename(path)
        return cls.open(path, writing=True)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def array(self, name: str) -> Any:
        """Return the Zarr array `name`, unread (Any, because Zarr's own types cannot say that it is no group)."""
        return self.group[name]

    def _table(self, name: str) -> zarr.Group:
        table = self.group[name]
        assert isinstance(table, zarr.Group)  # laid out so by `create`
        return table

    @property
    def key(self) -> Key:
        """Everything that can change one number in the store."""
        return self.group.attrs["key"]  # type: ignore[return-value]

    @property
    def grid(self) -> tuple[int, int, int]:
        """(t, h, w) of a clip's tokens."""
        return tuple(self.group.attrs["token_grid"])  # type: ignore[arg-type, return-value]

    @property
    def clips(self) -> int:
        """Number of rows, unreadable ones included."""
        return self.array("tokens").shape[0]

    @property
    def token_shape(self) -> tuple[int, int]:
        """(tokens a clip, dim)."""
        return self.array("tokens").shape[1:]

    @property
    def block(self) -> int:
        """Clips that are encoded and written together."""
        return int(self.group.attrs["block"])  # type: ignore[arg-type]

    @property
    def finished(self) -> bool:
        """Whether every clip is encoded or known to be unreadable."""
        return bool(self.group.attrs["finished"])

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row a clip: video_id, patient, source, segment, view."""
        return read_table(self._table("rows"))

    @cached_property
    def snapshot(self) -> Snapshot:
        """The dataset's table and tasks as they were at extraction."""
        group = self._table("manifest")
        tasks: Any = group.attrs["tasks"]
        return Snapshot(str(group.attrs["dataset"]), read_table(group), dict(tasks))

    @cached_property
    def complete(self) -> Bool[np.ndarray, " clips"]:
        """Which clips have their tokens on disk."""
        return self.array("complete")[:]

    @property
    def failed(self) -> Bool[np.ndarray, " clips"]:
        """Which clips are of a video that could not be read."""
        return self.array("error")[:] != ""

    @property
    def failures(self) -> dict[str, str]:
        """video_id -> why it could not be read."""
        errors = self.array("error")[:]
        return {self.rows["video_id"][i]: str(errors[i]) for i in np.flatnonzero(self.failed)}

    def tokens(self, rows: Int[np.ndarray, " n"] | Sequence[int]) -> Float16[np.ndarray, "n tokens dim"]:
        """Return the tokens of the clips in `rows` (any order); a clip not on disk or damaged is an error, never zeros."""
        return self._read("tokens", rows)

    def pooled(self, rows: Int[np.ndarray, " n"] | Sequence[int]) -> Float32[np.ndarray, "n dim"]:
        """Return the mean over tokens of the clips in `rows`."""
        return self._read("pooled", rows)

    def previews(self, rows: Int[np.ndarray, " n"] | Sequence[int]) -> UInt8[np.ndarray, "n 8 112 112"]:
        """Return small grey frames of the clips in `rows`; InputError where the store was made without."""
        if "preview" not in self.group:
            raise InputError(f"The store {self.path.name} was made with --no-preview.")
        return self._read("preview", rows)

    def _read(self, name: str, rows: Int[np.ndarray, " n"] | Sequence[int]) -> np.ndarray:
        wanted = np.asarray(rows, np.int64)
        if (outside := wanted[(wanted < 0) | (wanted >= self.clips)]).size:
            raise InputError(f"{self.path.name} has the rows 0 to {self.clips - 1}; there is no row {outside[0]}.")
        if (absent := wanted[~self.complete[wanted]]).size:
            video = self.rows["video_id"][int(absent[0])]
            raise InputError(f"{self.path.name}: {absent.size} of the clips asked for hold no {name} (first: {video}).")
        array = self.array(name)
        try:
            if len(wanted) and np.array_equal(wanted, np.arange(wanted[0], wanted[0] + len(wanted))):
                values = array[int(wanted[0]) : int(wanted[0]) + len(wanted)]
            else:
                values = array.oindex[wanted]
        except (ValueError, RuntimeError) as error:  # a checksum that does not match, a chunk cut short
            raise RunError(f"{self.path.name}: the array {name} is damaged on disk ({error}).") from error
        # A chunk whose file is missing reads as the fill value, NaN, which `write` lets no clip hold.
        if np.isnan(values[(slice(None), *[0] * (values.ndim - 1))]).any():
            raise RunError(f"{self.path.name}: files of the array {name} are missing on disk. Copy the store again.")
        return values

    # ---- writing -----------------------------------------------------------------------------------------------------

    def write(self, block: Block) -> None:
        """Write one block: tokens first, `complete` last, so that a killed writer leaves no clip that claims too much.

        Clips that are complete, or known to be unreadable, stay as they are.

        Raises:
            RunError: the disk is full, or a token is not finite or overflows float16 (±65504).
        """
        span = slice(
            block.start, block.start + len(block.tokens)
        )  # not `missing`: reading all for each block is quadratic
        written = ~(self.array("complete")[span] | (self.array("error")[span] != ""))
        good = written & np.asarray([not error for error in block.errors])
        pooled = np.full((len(good), block.tokens.shape[2]), np.nan, np.float32)
        pooled[good] = block.tokens[good].mean(axis=1, dtype=np.float64)
        half = self._to_float16(block.tokens[good], block.start + np.flatnonzero(good))
        self._guard_disk(lambda: self._write_arrays(block, written, good, half, pooled))
        self.__dict__.pop("complete", None)

    def _write_arrays(
        self, block: Block, written: np.ndarray, good: np.ndarray, half: np.ndarray, pooled: np.ndarray
    ) -> None:
        for row, tokens in zip(block.start + np.flatnonzero(good), half, strict=True):
            self.array("tokens")[int(row)] = tokens
        rows = block.start + np.flatnonzero(written)
        values = {
            **({"preview": block.previews} if "preview" in self.group else {}),
            "pooled": pooled,
            "frames": block.frames,
            "source_digest": np.asarray(block.digests, object),
            "source_size": np.asarray(block.sizes),
            "source_mtime": np.asarray(block.mtimes),
            "error": np.asarray(block.errors, object),
            "complete": good,
        }
        for name, value in values.items():
            self.array(name).oindex[rows] = value[written]

    def _to_float16(
        self, tokens: Float32[np.ndarray, "b n d"], rows: Int[np.ndarray, " b"]
    ) -> Float16[np.ndarray, "b n d"]:
        with np.errstate(over="ignore"):
            half = tokens.astype(np.float16)
        if not np.isfinite(half).all():
            row = rows[np.flatnonzero(~np.isfinite(half).all(axis=(1, 2)))[0]]
            raise RunError(
                f"The encoder gave a token that float16 cannot hold (not a number, or beyond ±65504) for "
                f"{self.rows['video_id'][row]}. Nothing was written for its block; check the checkpoint."
            )
        return half

    @property
    def missing(self) -> Bool[np.ndarray, " clips"]:
        """Which clips are neither complete nor known to be unreadable."""
        return ~(self.complete | self.failed)

    def unfinished_blocks(self) -> list[int]:
        """Return the start rows of the blocks in which a clip is missing."""
        missing = self.missing
        return [start for start in range(0, self.clips, self.block) if missing[start : start + self.block].any()]

    def reopen(self, rows: Int[np.ndarray, " n"]) -> None:
        """Mark clips as still to be encoded: their source changed, or is to be tried again."""
        complete, error = self.complete.copy(), self.array("error")[:]
        complete[rows], error[rows] = False, ""
        self.group.attrs["finished"] = False
        self.array("complete")[:] = complete
        self.array("error")[:] = error
        self.__dict__.pop("complete", None)

    def record_mtimes(self, mtimes: Int[np.ndarray, " clips"]) -> None:
        """Write when each clip's source last changed: of files that were touched, and whose content is still the same."""
        self.array("source_mtime")[:] = mtimes

    def replace_snapshot(self, snapshot: Snapshot) -> None:
        """Exchange the dataset's table: labels were corrected, a column was added. `finish` afterwards."""
        self.group.attrs["finished"] = False  # a kill between two renames leaves no table to read
        write_snapshot(self.group, "manifest.new", snapshot)
        swap(self.path, "manifest")
        self.__dict__.pop("snapshot", None)

    def finish(self) -> None:
        """Rewrite the small arrays as one chunk each and mark the store finished. Does nothing to one that is."""
        if self.finished:
            return
        if self.unfinished_blocks():
            raise RunError(f"{self.path.name}: {len(self.unfinished_blocks())} blocks are not written yet.")
        self._guard_disk(self._compact)
        self.group.attrs["finished"] = True

    def _compact(self) -> None:
        for name in CLIP_ARRAYS:
            array = self.array(name)
            fill = array.metadata.fill_value
            dtype = str if array.dtype.kind in "TUO" else array.dtype
            whole = create_array(self.group, name + ".new", array.shape, array.shape, dtype, fill)
            whole[:] = array[:]
            swap(self.path, name)

    def _guard_disk(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            done = int(self.array("complete")[:].sum())
            raise RunError(
                f"The disk is full: {self.path.name} stopped at {done} of {self.clips} clips, which are safe. Free some "
                "space and run the same command again; it goes on where it stopped."
            ) from error
