"""TokenStore: the one place where the heavy stage and the fast stage meet. docs/cache-format.md describes the files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pandas as pd
import zarr
from jaxtyping import Bool, Float16, Float32, Int, UInt8

from echolung.cache.key import Key, differences, key_digest
from echolung.cache.layout import (
    FACTS,
    PREVIEW_SHAPE,
    SCHEMA,
    Snapshot,
    check_room,
    clear_leftovers,
    create_arrays,
    write_snapshot,
)
from echolung.cache.moving import new_group
from echolung.cache.place import Place, as_place, file_sizes, open_group
from echolung.cache.reading import read_rows
from echolung.cache.seal import sealed
from echolung.cache.tables import read_table, write_table
from echolung.errors import InputError, RunError

if TYPE_CHECKING:
    from echolung.cache.writer import StoreWriter


class TokenStore:
    """Tokens of the clips of one dataset under one key. Make one by `open` or `create`.

    Attributes:
        path: the folder, or the URL.
        group: the Zarr group, for whoever wants the raw arrays.
    """

    def __init__(self, path: Place, group: zarr.Group) -> None:
        self.path = path
        self.group = group

    # ---- opening -----------------------------------------------------------------------------------------------------

    @overload
    @classmethod
    def open(
        cls, path: Place | str, expect: Key | None = None, *, writing: Literal[False] = False, unfinished: bool = False
    ) -> "TokenStore": ...

    @overload
    @classmethod
    def open(
        cls, path: Place | str, expect: Key | None = None, *, writing: Literal[True], shared: bool = False
    ) -> "StoreWriter": ...

    @classmethod
    def open(
        cls,
        path: Place | str,
        expect: Key | None = None,
        *,
        writing: bool = False,
        shared: bool = False,
        unfinished: bool = False,
    ) -> "TokenStore":
        """Return the store at `path`.

        Args:
            path: the folder of the store, or a URL that fsspec can open.
            expect: the key it must have; None takes whatever is there.
            writing: open for an extraction to go on with, complete or not (what a killed one left over is cleared).
            shared: other processes are writing it, so that their half-written files are no leftovers.
            unfinished: do not mind a store whose extraction was stopped half-way.

        Raises:
            InputError: nothing there, another schema, another key (names the fields), or not complete.
        """
        path = as_place(path)
        group = open_group(path, "r+" if writing else "r")
        if writing:
            from echolung.cache.writer import StoreWriter  # not above: it is a TokenStore itself

            cls = StoreWriter
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
        if writing and not shared:  # only now: what is no store of ours is left alone
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
        path: Place | str,
        key: Key,
        rows: pd.DataFrame,
        snapshot: Snapshot,
        *,
        tokens: int,
        dim: int,
        grid: tuple[int, int, int],
        frames: int,
        block: int,
        batch: int | None = None,
        sharded: bool = False,
        preview: bool = True,
        video: bool = False,
        created_by: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> "StoreWriter":
        """Lay out an empty store for the clips in `rows` and return it, opened for writing.

        Args:
            path: a folder that does not exist yet, or a URL with nothing there.
            key: everything that can change one number.
            rows: one row a clip: video_id, patient, source, segment, view.
            snapshot: the dataset's table and tasks.
            tokens: tokens a clip; 0 for a store of pooled rows only.
            dim: width of a token.
            grid: (t, h, w) of the tokens; t·h·w = tokens.
            frames: source frames a clip.
            block: clips that are written together, by one writer.
            batch: clips that are encoded together; blocks are whole batches. Default the block.
            sharded: one file a block, instead of one a clip.
            preview: keep small grey frames.
            video: keep frame count, size and rate of each clip's video.
            created_by: versions and the like; not part of the key.
            attributes: what else to write among the group's attributes.

        Raises:
            InputError: there is something already, or the disk has no room for it.
        """
        path = as_place(path)
        clip_bytes = tokens * dim * 2 + dim * 4 + (int(np.prod(PREVIEW_SHAPE)) if preview else 0)
        check_room(path.parent, len(rows) * clip_bytes)
        told = {
            **(attributes or {}),
            "schema_version": SCHEMA,
            "key": key,
            "key_digest": key_digest(key),
            "token_grid": list(grid),
            "block": block,
            "batch": batch or block,
            "sharded": sharded,
            "finished": False,
            "created_by": {**(created_by or {}), "at": datetime.now(UTC).isoformat(timespec="seconds")},
        }
        with new_group(path) as group:
            sizes = {"tokens": tokens, "dim": dim, "frames": frames, "block": block}
            create_arrays(group, len(rows), **sizes, preview=preview, sharded=sharded, video=video)
            write_table(group.create_group("rows"), rows.reset_index(drop=True))
            write_snapshot(group, "manifest", snapshot)
            group.attrs.put(sealed(told))  # last: they make a store of it
        return cls.open(path, writing=True)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def array(self, name: str) -> Any:
        """Return the Zarr array (or table) `name`, unread (Any: Zarr's own types cannot say which of them it is)."""
        try:
            return self.group[name]
        except KeyError:
            raise RunError(
                f"{self.path.name}: its array {name} is not on disk any more. Was the store moved or removed, or only a part "
                "of it copied? Name the place where it is now, copy it again, or extract again."
            ) from None

    @property
    def key(self) -> Key:
        """Everything that can change one number in the store."""
        return self.group.attrs["key"]  # type: ignore[return-value]

    @property
    def grid(self) -> tuple[int, int, int]:
        """(t, h, w) of a clip's tokens; (0, 0, 0) in a store of pooled rows only."""
        return tuple(self.group.attrs["token_grid"])  # type: ignore[arg-type, return-value]

    @property
    def clips(self) -> int:
        """Number of rows, unreadable ones included."""
        return self.array("tokens").shape[0]

    @property
    def token_shape(self) -> tuple[int, int]:
        """(tokens a clip, dim); (0, dim) in a store of pooled rows only."""
        return self.array("tokens").shape[1:]

    @property
    def block(self) -> int:
        """Clips that are written together, by one writer."""
        return int(self.group.attrs["block"])  # type: ignore[arg-type]

    @property
    def batch(self) -> int:
        """Clips that are encoded together; a block is made of whole batches."""
        return int(self.group.attrs.get("batch", self.block))  # type: ignore[arg-type]

    @property
    def sharded(self) -> bool:
        """Whether a block is one file, instead of one a clip."""
        return bool(self.group.attrs.get("sharded", False))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file_sizes(self.path).values())

    @property
    def finished(self) -> bool:
        """Whether every clip is encoded or known to be unreadable."""
        return bool(self.group.attrs["finished"])

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Make one paragraph of a checksum that does not match, or a chunk that was cut short."""
        try:
            yield
        except (ValueError, RuntimeError) as error:
            raise RunError(
                f"{self.path.name}: {name} is damaged on disk. `echolung cache verify {self.path.name}` says what else is, and "
                "--repair puts it right."
            ) from error

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row a clip: video_id, patient, source, segment, view."""
        with self._reading("rows"):
            return read_table(self.array("rows"))

    @cached_property
    def snapshot(self) -> Snapshot:
        """The dataset's table and tasks as they were at extraction."""
        with self._reading("manifest"):
            group = self.array("manifest")
            return Snapshot(str(group.attrs["dataset"]), read_table(group), dict(group.attrs["tasks"]))

    @cached_property
    def complete(self) -> Bool[np.ndarray, " clips"]:
        """Which clips have their tokens on disk."""
        with self._reading("complete"):
            return self.array("complete")[:]

    @cached_property
    def errors(self) -> np.ndarray:
        """Why each clip could not be read; "" for the rest."""
        with self._reading("error"):
            return self.array("error")[:]

    @property
    def failed(self) -> Bool[np.ndarray, " clips"]:
        """Which clips are of a video that could not be read."""
        return self.errors != ""

    @property
    def failures(self) -> dict[str, str]:
        """video_id -> why it could not be read."""
        return {self.rows["video_id"][i]: str(self.errors[i]) for i in np.flatnonzero(self.failed)}

    @cached_property
    def video_facts(self) -> pd.DataFrame | None:
        """One row a video (its index): frames, height, width, fps, NaN where unknown; None in a store that lacks them."""
        if "video" not in self.group:
            return None
        with self._reading("video"):
            facts = pd.DataFrame(self.array("video")[:], columns=list(FACTS))
        return facts.groupby(self.rows["video_id"].to_numpy(), sort=False).first()

    def tokens(self, rows: Int[np.ndarray, " n"] | Sequence[int]) -> Float16[np.ndarray, "n tokens dim"]:
        """Return the tokens of the clips in `rows` (any order); a clip not on disk or damaged is an error, never zeros."""
        if not self.token_shape[0]:
            raise InputError(
                f"The store {self.path.name} holds pooled rows only, no tokens. Extract without --tokens none, or use a "
                "probe on pooled rows, such as --probe linear."
            )
        return self._read("tokens", rows)

    def pooled(self, rows: Int[np.ndarray, " n"] | Sequence[int]) -> Float32[np.ndarray, "n dim"]:
        """Return the mean over the encoder's tokens of the clips in `rows`."""
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
        with self._reading(name):
            values = read_rows(array, wanted)
        # A chunk whose file is missing reads as the fill value, NaN, which `write` lets no clip hold.
        first: Any = (slice(None), *[0] * (values.ndim - 1))
        if np.isnan(values[first]).any():
            raise RunError(f"{self.path.name}: files of the array {name} are missing on disk. Copy the store again.")
        return values

    @property
    def missing(self) -> Bool[np.ndarray, " clips"]:
        """Which clips are neither complete nor known to be unreadable."""
        return ~(self.complete | self.failed)

    def unfinished_blocks(self) -> list[int]:
        """Return the start rows of the blocks in which a clip is missing."""
        missing = self.missing
        return [start for start in range(0, self.clips, self.block) if missing[start : start + self.block].any()]
