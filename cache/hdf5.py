"""A token store as one HDF5 file and back: the same arrays, tables, attributes and key.

Every dataset has HDF5's own checksum (Fletcher-32), and the file the newest format, whose structure is checksummed too.
Strings are of fixed length, UTF-8: those of variable length lie where no checksum reaches. Attributes are JSON texts.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import zarr

from echolung.cache.key import key_digest
from echolung.cache.layout import KEEP_EMPTY, check_room, clip_arrays, create_arrays
from echolung.cache.place import Place
from echolung.cache.store import TokenStore
from echolung.cache.tables import write_table
from echolung.cache.verify import verify
from echolung.errors import InputError, RunError

FORMAT = "echolung token store 1"
TABLES = ("rows", "manifest")
AT_ONCE = 32 << 20
"""Bytes copied at once."""


def export_store(
    path: Place, file: Path, force: bool = False, advance: Callable[[int], None] = lambda clips: None
) -> None:
    """Write the finished store at `path` as the HDF5 file `file`; under another name first, moved there when whole.

    Raises:
        InputError: no finished store, or there is a file already (and not `force`).
        RunError: the store is damaged.
    """
    store = TokenStore.open(path)
    if file.exists() and not force:
        raise InputError(f"There is something at {file} already. Name another file, or replace it with --force.")
    if not file.parent.is_dir():
        raise InputError(f"There is no folder {file.parent.absolute()} to write {file.name} in.")
    found = verify(path)
    if found.damages:
        raise RunError(
            f"{path.name} is damaged ({found.damages[0].array or 'attributes'}: {found.damages[0].what}), so it is not "
            "exported. See `echolung cache verify`, which can repair it."
        )
    check_room(file.absolute().parent, found.bytes)
    partial = file.with_name(file.name + ".partial")
    try:
        with h5py.File(partial, "w", libver="latest") as target:
            _write(target, store, advance)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _write(target: h5py.File, store: TokenStore, advance: Callable[[int], None]) -> None:
    attributes = {"": dict(store.group.attrs)}
    for name in ("tokens", "preview", *clip_arrays(store.group)):
        if name in store.group:
            by_clip = name in ("tokens", "preview")
            _copy_in(target, name, store.array(name), by_clip, advance if name == "tokens" else lambda clips: None)
    for table in TABLES:
        group: Any = store.group[table]
        attributes[table] = dict(group.attrs)
        target.create_group(table)
        for name, array in group.arrays():
            _copy_in(target, f"{table}/{name}", array, False, lambda clips: None)
    for place, values in attributes.items():
        at = target[place or "/"]
        for name, value in values.items():
            at.attrs[name] = json.dumps(value, ensure_ascii=False)
    target.attrs["format"] = json.dumps(FORMAT)
    target.attrs["store"] = json.dumps(store.path.name)
    target.attrs["attributes_digest"] = json.dumps(key_digest(attributes))


def _copy_in(target: h5py.File, name: str, array: Any, by_clip: bool, advance: Callable[[int], None]) -> None:
    options: dict[str, Any] = {}
    if 0 not in array.shape:  # HDF5 has no chunks of nothing
        options = {"chunks": (1, *array.shape[1:]) if by_clip else array.shape, "fletcher32": True}
    if array.dtype.kind in "TUO":
        values = [str(value).encode() for value in array[:]]
        length = max(1, *(len(value) for value in values)) if values else 1
        kind = h5py.string_dtype("utf-8", length)
        target.create_dataset(name, data=np.array(values, kind), **options)
        return
    dataset = target.create_dataset(name, array.shape, array.dtype, fillvalue=array.metadata.fill_value, **options)
    for begin, end in _spans(array):
        if dataset.size:
            dataset[begin:end] = array[begin:end]
        advance(end - begin)


def _spans(array: Any) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of clips that are copied at once: whole files, because Zarr rewrites one for each part of it."""
    clip, file = array.dtype.itemsize * int(np.prod(array.shape[1:])), (array.shards or array.chunks)[0]
    step = file * max(1, AT_ONCE // max(1, clip * file))
    for begin in range(0, array.shape[0], step):
        yield begin, min(begin + step, array.shape[0])


# ---- and back --------------------------------------------------------------------------------------------------------


def stored_name(file: Path) -> str:
    """Return the name of the store that `file` was exported from."""
    with _opened(file) as source:
        name = str(_attribute(source, "store"))
    return name if Path(name).name == name and name.endswith(".zarr") else f"{file.stem}.zarr"


def count_clips(file: Path) -> int:
    """Return the number of clips in `file`."""
    with _opened(file) as source:
        return int(source["complete"].shape[0])


def import_store(file: Path, path: Path, advance: Callable[[int], None] = lambda clips: None) -> TokenStore:
    """Make the store at `path` from an exported file and return it; built beside its place, and moved there when whole.

    Raises:
        InputError: there is something at `path`; `file` is not there, no export, cut short or damaged.
    """
    if path.exists():
        raise InputError(f"There is something at {path} already. Remove it, or name another place with --to.")
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(path.name + ".importing")
    shutil.rmtree(building, ignore_errors=True)
    try:
        with _opened(file) as source:
            check_room(path.parent, file.stat().st_size)
            _read(source, building, advance)
        TokenStore.open(building, writing=True).finish()
        if damages := verify(building).damages:
            raise InputError(_damaged(file, f"{damages[0].array}: {damages[0].what}"))
        building.rename(path)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return TokenStore.open(path)


def _read(source: h5py.File, building: Path, advance: Callable[[int], None]) -> None:
    attributes = {
        place: {name: _attribute(source[place or "/"], name) for name in source[place or "/"].attrs}
        for place in ("", *TABLES)
    }
    own = {name: attributes[""].pop(name) for name in ("format", "store", "attributes_digest")}
    if key_digest(attributes) != own["attributes_digest"]:
        raise ValueError("its attributes do not match their digest")
    (clips, tokens, dim), frames = source["tokens"].shape, source["frames"].shape[1]
    group = zarr.create_group(building)
    create_arrays(
        group,
        clips,
        tokens=tokens,
        dim=dim,
        frames=frames,
        block=attributes[""]["block"],
        preview="preview" in source,
        sharded=attributes[""].get("sharded", False),
        video="video" in source,
    )
    for name in ("tokens", *(["preview"] if "preview" in source else []), *clip_arrays(group)):
        _copy_out(source[name], group[name], advance if name == "tokens" else lambda clips: None)
    for table in TABLES:
        columns = attributes[table]["columns"]
        values = {column: _values(source[table][column.replace("/", "%2F")]) for column in columns}
        made = group.create_group(table)
        write_table(made, pd.DataFrame(values))
        made.attrs.put(attributes[table])
    group.attrs.put({**attributes[""], "finished": False})


def _copy_out(dataset: h5py.Dataset, array: Any, advance: Callable[[int], None]) -> None:
    if dataset.shape != array.shape:
        raise ValueError(f"{dataset.name} has the shape {dataset.shape}, not {array.shape}")
    if dataset.dtype.kind == "S":
        array[:] = _values(dataset)
        return
    if dataset.dtype == "u1":  # previews
        array = array.with_config(KEEP_EMPTY)
    for begin, end in _spans(array):
        if dataset.size:
            array[begin:end] = dataset[begin:end]
        advance(end - begin)


def _values(dataset: h5py.Dataset) -> np.ndarray:
    values = dataset[:]
    return np.array([value.decode() for value in values], object) if dataset.dtype.kind == "S" else values


def _attribute(at: Any, name: str) -> Any:
    return json.loads(at.attrs[name])


@contextmanager
def _opened(file: Path) -> Iterator[h5py.File]:
    """Open an exported file; whatever is wrong with it becomes an InputError."""
    if not file.is_file():
        raise InputError(f"There is no file {file}.")
    try:
        source = h5py.File(file, "r")
    except OSError as error:
        raise InputError(
            f"{file} is no HDF5 file, or it was cut short ({_short(error)}). Copy or export it again."
        ) from error
    with source:
        if "format" not in source.attrs:
            raise InputError(f"{file} is an HDF5 file, but none that `echolung cache export` wrote.")
        try:
            if (found := _attribute(source, "format")) != FORMAT:
                raise InputError(f"{file} holds {found!r}, and this version of echolung reads {FORMAT!r}.")
            yield source
        except InputError:
            raise
        except OSError as error:
            if error.errno is not None:  # of the disk that is written to
                raise
            raise InputError(_damaged(file, _short(error))) from error
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:  # how h5py finds damage
            raise InputError(_damaged(file, _short(error))) from error


def _damaged(file: Path, what: str) -> str:
    return f"{file} is damaged ({what}), so nothing was imported. Copy or export it again."


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
