"""Read every byte of a store and say what is broken: the checks behind `echolung cache verify`.

A checksum finds what was altered; it cannot find what is gone, because a chunk without a file reads as the fill value.
So every value that a complete clip must have is looked at, too, and every zarr.json is compared with the layout.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import zarr
from jaxtyping import Bool, Float16, Float32

from echolung.cache.damage import Damage, Verification
from echolung.cache.metadata import (
    Shape,
    expected_documents,
    find_shape,
    is_strict,
    read_attributes,
    read_document,
    same_array,
)
from echolung.cache.place import Place, file_sizes, zarr_store
from echolung.cache.seal import SEAL
from echolung.cache.tabular import check_tables
from echolung.errors import RunError

BATCH_BYTES = 32 << 20
"""Tokens read at once; three such batches are in memory."""

HALF = 2.0**-10
"""Relative rounding of float16 (2^-11), and as much again for the float32 sums on both sides."""


def verify(
    path: Place,
    start: Callable[[int, int], None] = lambda done, total: None,
    advance: Callable[[int], None] = lambda clips: None,
) -> Verification:
    """Read everything in the store at `path`.

    Args:
        path: the folder of the store, or its URL.
        start: called with (0, clips) before tokens are read.
        advance: called with the number of clips just read.

    Raises:
        InputError: there is no token store, or one of another schema.
        RunError: the URL cannot be reached any more.
    """
    files = file_sizes(path)
    attributes, wrong = read_attributes(path)
    if not wrong:
        try:
            shape = find_shape(path, attributes)
        except RunError as error:
            wrong = str(error)
    if wrong:
        return Verification(path, 0, 0, False, sum(files.values()), (Damage("", wrong, "attributes"),))
    return _Check(path, attributes, files, shape).run(start, advance)


class _Check:
    """One pass over a store whose attributes are sound."""

    def __init__(self, path: Place, attributes: dict[str, Any], files: dict[str, int], shape: Shape) -> None:
        self.path, self.files, self.shape = path, files, shape
        self.sealed = SEAL in attributes
        self.finished = bool(attributes["finished"])
        self.strict = is_strict(attributes)
        self.damages: list[Damage] = []
        self.notes: list[str] = []
        self.arrays: dict[str, Any] = {}
        self.videos: Sequence[str] = ["?"] * self.shape.clips

    def run(self, start: Callable[[int, int], None], advance: Callable[[int], None]) -> Verification:
        """Check metadata, tables, small arrays, tokens, and what lies about."""
        self._open_arrays()
        tables = check_tables(self.path, self.shape.clips, self.strict)
        self.damages += [Damage(name, what, "table") for name, what in tables.broken]
        self.notes += tables.notes
        self.videos = tables.video_ids or self.videos
        values = {name: self._read_small(name) for name in self.arrays if name not in ("tokens", "preview")}
        self._check_small(values)
        if "preview" in self.arrays:
            self._check_previews(values["complete"] if "complete" in values else self._held())
        start(0, self.shape.clips)
        self._check_tokens(values.get("complete", self._held()), values.get("pooled"), advance)
        self._check_files(tables.arrays)
        complete = int(values.get("complete", self._held()).sum())
        if not self.finished:
            self.notes.append(f"Unfinished: {complete} of {self.shape.clips} clips are encoded.")
        found = (self.path, self.shape.clips, complete, self.finished, sum(self.files.values()))
        return Verification(*found, tuple(self.damages), tuple(self.notes))

    # ---- metadata ----------------------------------------------------------------------------------------------------

    def _open_arrays(self) -> None:
        expected = expected_documents(self.shape, self.finished)
        either = expected if self.finished else expected_documents(self.shape, True)  # killed while it was compacted
        for name, document in expected.items():
            found = read_document(self.path / name)
            if not any(same_array(found, known, self.strict) for known in (document, either[name])):
                self._report(name, "its zarr.json is gone or damaged; its data cannot be judged until that is mended")
                continue
            self.arrays[name] = zarr.open_array(zarr_store(self.path / name), mode="r")

    def _report(self, name: str, what: str) -> None:
        self.damages.append(Damage(name, what, "metadata"))

    # ---- clips -------------------------------------------------------------------------------------------------------

    def _damaged(self, name: str, rows: np.ndarray | range, what: str) -> None:
        if len(rows):
            videos = tuple(dict.fromkeys(self.videos[int(row)] for row in rows))
            self.damages.append(Damage(name, what, "data", tuple(int(row) for row in rows), videos))

    def _held(self) -> Bool[np.ndarray, " clips"]:
        """Which clips have a file of tokens: what stands in for `complete` where that cannot be read."""
        if not self.shape.tokens:
            return np.ones(self.shape.clips, bool)
        return np.array([self._has("tokens", row) for row in range(self.shape.clips)])

    def _has(self, name: str, row: int) -> bool:
        array = self.arrays.get(name)
        if array is None:
            return False
        rows_a_file = (array.shards or array.chunks)[0]
        return f"{name}/c/{row // rows_a_file}" + "/0" * (array.ndim - 1) in self.files

    def _read_small(self, name: str) -> np.ndarray:
        array = self.arrays[name]
        values = np.full(array.shape, array.metadata.fill_value, object if array.dtype.kind in "TUO" else array.dtype)
        for rows, part in self._chunks(name):
            values[rows.start : rows.stop] = part
        return values

    def _chunks(self, name: str) -> Iterator[tuple[range, np.ndarray]]:
        """Yield (rows, values) of each chunk that can be read, and report those that cannot."""
        array = self.arrays[name]
        step = array.chunks[0]
        for begin in range(0, self.shape.clips, step):
            rows = range(begin, min(begin + step, self.shape.clips))
            try:
                yield rows, array[rows.start : rows.stop]
            except RunError:  # it is the network
                raise
            except Exception as error:  # a checksum, a length, a string: what Zarr says to bytes that are not its own
                self._damaged(name, rows, _reason(error))

    def _check_small(self, values: dict[str, np.ndarray]) -> None:
        """Look at what every complete clip must have; what has been reported as unreadable is not reported twice."""
        reported = {name: self._rows_of(name) for name in values}
        complete, error = values.get("complete"), values.get("error")
        if complete is None or error is None or reported["complete"].any() or reported["error"].any():
            return
        neither = ~complete & (error == "")
        if self.finished and neither.any():
            lost = "error" if any(self._has("complete", row) for row in range(self.shape.clips)) else "complete"
            self._damaged(lost, np.flatnonzero(neither), "neither complete nor known to be unreadable: a chunk is gone")
        self._damaged("complete", np.flatnonzero(complete & (error != "")), "complete, and yet marked as unreadable")
        absent = {
            "pooled": lambda v: ~np.isfinite(v).all(axis=1),
            "frames": lambda v: (v < 0).all(axis=1),  # some of a clip's may be padding
            "video": lambda v: np.isnan(v[:, :3]).any(axis=1),
            "source_digest": lambda v: v == "",
            "source_size": lambda v: v < 0,
            "source_mtime": lambda v: v == -1,
        }
        for name in absent.keys() & values.keys():
            must = complete
            if name in (
                "source_size",
                "source_mtime",
            ):  # known of unreadable videos, too, unless the file was not there
                must = complete | ((error != "") & ~np.array([self._has(name, row) for row in range(self.shape.clips)]))
            rows = np.flatnonzero(must & absent[name](values[name]) & ~reported[name])
            self._damaged(name, rows, "no value for a complete clip: a chunk is gone")

    def _rows_of(self, name: str) -> Bool[np.ndarray, " clips"]:
        """Which clips are reported as damaged in the array `name`."""
        flags = np.zeros(self.shape.clips, bool)
        for damage in self.damages:
            if damage.array == name:
                flags[list(damage.rows)] = True
        return flags

    def _check_previews(self, complete: Bool[np.ndarray, " clips"]) -> None:
        without: list[int] = []
        for rows, part in self._chunks("preview"):
            if not part.any() and not self._has("preview", rows.start):
                without += [row for row in rows if complete[row]]
        if self.sealed:
            self._damaged("preview", np.array(without), "the file of a chunk is gone")
        elif without:
            self.notes.append("Clips have no preview: they are black, or a file is gone; older stores do not say.")

    def _check_tokens(
        self,
        complete: Bool[np.ndarray, " clips"],
        pooled: Float32[np.ndarray, "clips dim"] | None,
        advance: Callable[[int], None],
    ) -> None:
        array = self.arrays.get("tokens")
        if array is None or not self.shape.tokens:
            return
        sound = ~self._rows_of("pooled") if pooled is not None else np.zeros(self.shape.clips, bool)
        for rows, tokens, error in self._token_batches():
            present = np.array([self._has("tokens", row) for row in rows])
            if error:
                self._damaged("tokens", np.array(rows)[present | complete[rows]], error)
            elif tokens is not None:
                finite, agrees = _compare(tokens, pooled[rows.start : rows.stop] if pooled is not None else None)
                wanted = np.array(rows)[complete[rows.start : rows.stop]]
                at = wanted - rows.start
                self._damaged("tokens", wanted[~present[at]], "the file of a chunk is gone")
                self._damaged("tokens", wanted[present[at] & ~finite[at]], "not a number, or infinite")
                mean = present[at] & finite[at] & ~agrees[at] & sound[wanted]
                self._damaged("pooled", wanted[mean], "is not the mean over the clip's tokens")
            advance(len(rows))

    def _token_batches(self) -> Iterator[tuple[range, Float16[np.ndarray, "b n d"] | None, str]]:
        """Yield (rows, tokens, why they cannot be read), reading ahead; where a batch cannot be read, clip by clip."""
        array = self.arrays["tokens"]
        per_file = (array.shards or array.chunks)[0]
        clip_bytes = max(1, self.shape.tokens * self.shape.dim * 2)
        step = per_file * max(1, BATCH_BYTES // (clip_bytes * per_file))
        batches = [range(i, min(i + step, self.shape.clips)) for i in range(0, self.shape.clips, step)]

        def read(rows: range) -> tuple[np.ndarray | None, str]:
            try:
                return array[rows.start : rows.stop], ""
            except RunError:
                raise
            except Exception as error:  # as in _chunks
                return None, _reason(error)

        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(read, batches[0])
            for number, rows in enumerate(batches):
                tokens, error = ahead.result()
                if number + 1 < len(batches):
                    ahead = reader.submit(read, batches[number + 1])
                if error:
                    for row in rows:
                        yield (range(row, row + 1), *read(range(row, row + 1)))
                else:
                    yield rows, tokens, ""

    # ---- files -------------------------------------------------------------------------------------------------------

    def _check_files(self, table_arrays: dict[str, set[str]]) -> None:
        """Report files that belong to no array."""
        known = {"zarr.json", *(f"{name}/zarr.json" for name in (*self.arrays, *table_arrays))}
        unread = tuple(f"{damage.array}/" for damage in self.damages if damage.kind in ("metadata", "table"))
        for name, array in self.arrays.items():
            files = -(-array.shape[0] // (array.shards or array.chunks)[0])
            known |= {f"{name}/c/{i}" + "/0" * (array.ndim - 1) for i in range(files)}
        for table, columns in table_arrays.items():
            known |= {f"{table}/{column}/{file}" for column in columns for file in ("zarr.json", "c/0")}
        for file in sorted(set(self.files) - known):
            if not file.startswith(unread):
                self.damages.append(Damage(file, "a file that belongs to no array", "stray"))


def _compare(
    tokens: Float16[np.ndarray, "b n d"], pooled: Float32[np.ndarray, "b d"] | None
) -> tuple[Bool[np.ndarray, " b"], Bool[np.ndarray, " b"]]:
    """Return which clips are finite, and of which the pooled row is the mean over tokens within the rounding of float16."""
    finite, agrees = np.zeros(len(tokens), bool), np.ones(len(tokens), bool)
    weights = np.full(tokens.shape[1], 1 / tokens.shape[1], np.float32)
    for i, clip in enumerate(tokens):  # one at a time: a batch in float32 would be twice its size again
        values = clip.astype(np.float32)
        mean = weights @ values  # finite if and only if every token is: float16 sums cannot overflow float32
        finite[i] = np.isfinite(mean).all()
        if pooled is not None and finite[i]:
            # A sum of roundings: each token is off by 2^-11 of itself at most (2^-25 where it is subnormal).
            slack = HALF * (weights @ np.abs(values, out=values)) + 2.0**-24
            agrees[i] = bool((np.abs(mean - pooled[i]) <= slack).all())
    return finite, agrees


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return (
        "the checksum does not match: bytes were altered" if "checksum" in text.lower() else f"cannot be read ({text})"
    )
