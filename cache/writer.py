"""StoreWriter: a token store open for writing.

While clips arrive, everything about a clip is chunked by the block (the clips that one writer encodes and owns);
`finish` rewrites the small arrays as one chunk each, because a store of 20,000 one-row chunks takes minutes to open.
"""

import errno
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int

from echolung.cache.layout import (
    FACTS,
    KEEP_EMPTY,
    Block,
    Snapshot,
    clip_arrays,
    create_array,
    swap,
    write_snapshot,
)
from echolung.cache.store import TokenStore
from echolung.errors import RunError


class StoreWriter(TokenStore):
    """A store that takes clips. Get one from `TokenStore.create` or `TokenStore.open(path, writing=True)`.

    Processes that write one store together each keep to blocks of their own; `reopen` of clips of other blocks, `split`,
    `replace_snapshot`, `record_mtimes` and `finish` are for one that is alone.
    """

    def write(self, *batches: Block) -> None:
        """Write batches of one block: tokens first, `complete` last, so that a kill leaves no clip that claims too much.

        Clips that are complete, or known to be unreadable, stay as they are.

        Raises:
            RunError: the disk is full, or a token is not finite or overflows float16 (±65504).
        """
        rows = np.concatenate([np.arange(batch.start, batch.start + len(batch.tokens)) for batch in batches])
        span = slice(int(rows[0]), int(rows[-1]) + 1)  # not `missing`: reading all for each block is quadratic
        settled = self.array("complete")[span] | (self.array("error")[span] != "")
        written = ~settled[rows - rows[0]]
        good = written & (np.concatenate([np.asarray(batch.errors, object) for batch in batches]) == "")
        half = np.empty((int(good.sum()), *self.token_shape), np.float16)
        pooled = np.full((len(rows), self.token_shape[1]), np.nan, np.float32)
        for batch in batches:
            at = np.isin(rows, batch.start + np.arange(len(batch.tokens)))
            tokens = batch.tokens[good[at]]
            half[at[good]] = self._to_float16(tokens, rows[at & good])[:, : self.token_shape[0]]
            pooled[at & good] = tokens.mean(axis=1, dtype=np.float64)
        values = {
            "preview": np.concatenate([batch.previews for batch in batches]),
            "pooled": pooled,
            "frames": np.concatenate([batch.frames for batch in batches]),
            "video": np.concatenate([_facts(batch) for batch in batches]),
            "source_digest": np.concatenate([np.asarray(batch.digests, object) for batch in batches]),
            "source_size": np.concatenate([batch.sizes for batch in batches]),
            "source_mtime": np.concatenate([batch.mtimes for batch in batches]),
            "error": np.concatenate([np.asarray(batch.errors, object) for batch in batches]),
            "complete": good,
        }
        with_tokens = {"tokens": (rows[good], half)}
        others = {name: (rows[written], value[written]) for name, value in values.items() if name in self.group}

        def put_all() -> None:
            for name, clips in (with_tokens | others).items():
                self.put(name, *clips)

        self._guard_disk(put_all)
        self.forget()

    def put(self, name: str, rows: Int[np.ndarray, " n"], values: np.ndarray) -> None:
        """Write an array's values of the clips `rows`; in a sharded array each shard whole, with the clips it holds already."""
        if not values.size:
            return
        array = self.array(name)
        if name == "preview":
            array = array.with_config(KEEP_EMPTY)
        if array.shards is not None:
            for number in np.unique(rows // self.block):
                here = rows // self.block == number
                self._put_shard(array, name, rows[here], values[here])
        elif array.chunks[0] == 1:
            for row, value in zip(rows, values, strict=True):  # faster than all rows at once
                array[int(row)] = value
        else:
            array.oindex[rows] = values

    def _put_shard(self, array: Any, name: str, rows: np.ndarray, values: np.ndarray) -> None:
        start = int(rows[0]) // self.block * self.block
        stop = min(start + self.block, self.clips)
        held = np.setdiff1d(start + np.flatnonzero(self.array("complete")[start:stop]), rows)
        whole = np.full((stop - start, *array.shape[1:]), array.fill_value, array.dtype)
        whole[rows - start] = values
        if held.size:
            whole[held - start] = self._read(name, held)
        else:  # Zarr reads what it writes over, and stumbles where that is damaged
            file = array.metadata.encode_chunk_key((start // self.block, *[0] * (array.ndim - 1)))
            (self.path / name / file).unlink(missing_ok=True)
        array[start:stop] = whole

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

    def reopen(self, rows: Int[np.ndarray, " n"]) -> None:
        """Mark clips as still to be encoded: their source changed, or is to be tried again."""
        if self.finished:
            self.group.attrs["finished"] = False
        if len(rows):
            self.array("complete").oindex[rows] = np.zeros(len(rows), bool)
            self.array("error").oindex[rows] = np.full(len(rows), "", object)
        self.forget()

    def record_mtimes(self, mtimes: Int[np.ndarray, " clips"]) -> None:
        """Write when each clip's source last changed: of files that were touched, and whose content is still the same."""
        self.array("source_mtime")[:] = mtimes

    def replace_snapshot(self, snapshot: Snapshot) -> None:
        """Exchange the dataset's table: labels were corrected, a column was added. `finish` afterwards."""
        self.group.attrs["finished"] = False  # a kill between two renames leaves no table to read
        write_snapshot(self.group, "manifest.new", snapshot)
        swap(self.path, "manifest")
        self.__dict__.pop("snapshot", None)

    def forget(self) -> None:
        """Read anew what was kept in memory of the clips that are there."""
        for name in ("complete", "errors"):
            self.__dict__.pop(name, None)

    def split(self) -> None:
        """Chunk the small arrays of an unfinished store by block (again), so that several processes may write it."""
        self._guard_disk(lambda: self._rechunk(self.block))

    def finish(self) -> None:
        """Rewrite the small arrays as one chunk each and mark the store finished. Does nothing to one that is."""
        if self.finished:
            return
        if self.unfinished_blocks():
            raise RunError(f"{self.path.name}: {len(self.unfinished_blocks())} blocks are not written yet.")
        self._guard_disk(lambda: self._rechunk(self.clips))
        self.group.attrs["finished"] = True

    def _rechunk(self, count: int) -> None:
        for name in clip_arrays(self.group):
            array = self.array(name)
            chunks = (min(count, self.clips), *array.shape[1:])
            if array.chunks == chunks:
                continue
            dtype = str if array.dtype.kind in "TUO" else array.dtype
            new = create_array(self.group, name + ".new", array.shape, chunks, dtype, array.metadata.fill_value)
            new[:] = array[:]
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


def _facts(batch: Block) -> Float32[np.ndarray, "b 4"]:
    return np.full((len(batch.tokens), len(FACTS)), np.nan, np.float32) if batch.video is None else batch.video
