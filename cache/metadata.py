"""What the zarr.json files of a store must say: laid out anew in memory, and compared."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import MemoryStore

from echolung.cache.key import key_digest
from echolung.cache.layout import CLIP_ARRAYS, SCHEMA, clip_arrays, create_array, create_arrays
from echolung.cache.place import Place, file_sizes, no_store
from echolung.cache.seal import SEAL, seal_of
from echolung.cache.tables import write_table
from echolung.errors import InputError, RunError

Document = dict[str, Any]
"""A zarr.json as parsed JSON."""


@dataclass(frozen=True)
class Shape:
    """What the layout of a store's arrays follows from."""

    clips: int
    tokens: int
    dim: int
    frames: int
    block: int
    preview: bool
    sharded: bool
    video: bool


def read_document(path: Place) -> Document | None:
    """Return the zarr.json of the array or group at `path`; None where it is missing or no JSON object."""
    try:
        document = json.loads((path / "zarr.json").read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def find_shape(path: Place, attributes: Document) -> Shape:
    """Return the shape of the store at `path`, each number as most of the arrays (and their files) have it.

    Raises:
        RunError: the arrays' metadata are damaged so widely that nothing says how large the store is.
    """
    shapes = {}
    for name in ("tokens", *CLIP_ARRAYS):
        shape = (read_document(path / name) or {}).get("shape")
        if isinstance(shape, list) and all(isinstance(size, int) for size in shape):
            shapes[name] = shape
    tokens = int(np.prod(attributes["token_grid"]))
    file_size = file_sizes(path / "tokens" / "c" / "0" / "0").get("0", 0)
    try:
        return Shape(
            clips=_most(shape[0] for shape in shapes.values() if shape),
            tokens=_most([tokens, *_side(shapes, "tokens", 1)]),
            dim=_most([*_side(shapes, "pooled", 1), *_side(shapes, "tokens", 2), *_dim_of(file_size, tokens)]),
            frames=_most([*_key_frames(attributes), *_side(shapes, "frames", 1)]),
            block=int(attributes["block"]),
            preview=(path / "preview").is_dir(),
            sharded=bool(attributes.get("sharded", False)),
            video=(path / "video").is_dir(),
        )
    except ValueError as error:
        raise RunError(f"{path.name}: {error}. Extract again.") from error


def _most(votes: Iterable[int]) -> int:
    counted = Counter(votes).most_common(1)
    if not counted:
        raise ValueError("the metadata of its arrays are damaged so widely that nothing says how large they are")
    return counted[0][0]


def _side(shapes: dict[str, list[int]], name: str, axis: int) -> list[int]:
    return shapes[name][axis : axis + 1] if name in shapes else []


def _key_frames(attributes: Document) -> list[int]:
    frames = attributes["key"].get("clips", {}).get("frames")
    return [frames] if isinstance(frames, int) else []


def _dim_of(size: int, tokens: int) -> list[int]:
    return [(size - 4) // (2 * tokens)] if tokens and size else []  # float16, and the checksum's four bytes behind


@cache
def expected_documents(shape: Shape, finished: bool) -> dict[str, Document]:
    """Return array name -> the zarr.json that the layout gives it."""
    group = zarr.create_group(MemoryStore())
    sizes = {"tokens": shape.tokens, "dim": shape.dim, "frames": shape.frames, "block": shape.block}
    create_arrays(group, shape.clips, **sizes, preview=shape.preview, sharded=shape.sharded, video=shape.video)
    if finished:
        for name in clip_arrays(group):
            array: Any = group[name]
            dtype = str if array.dtype.kind in "TUO" else array.dtype
            del group[name]
            create_array(group, name, array.shape, array.shape, dtype, array.metadata.fill_value)
    return _documents(group)


def expected_columns(table: pd.DataFrame) -> dict[str, Document]:
    """Return array name -> the zarr.json of each column of a table, as `write_table` writes it."""
    group = zarr.create_group(MemoryStore())
    write_table(group, table)
    return _documents(group)


def _documents(group: zarr.Group) -> dict[str, Document]:
    return {name: json.loads(json.dumps(array.metadata.to_dict())) for name, array in group.arrays()}


def same_array(found: Document | None, expected: Document, strict: bool) -> bool:
    """Whether two zarr.json files describe one array; unless `strict`, how a version of Zarr words it does not matter."""
    if strict:
        return found == expected
    try:
        return _plain(found) == _plain(expected)
    except Exception:  # whatever Zarr makes of a document that describes no array
        return False


def _plain(document: Any) -> str:
    metadata = ArrayV3Metadata.from_dict(document).to_dict()
    return json.dumps(metadata, sort_keys=True, default=str)


def is_strict(attributes: Document) -> bool:
    """Whether this version of Zarr laid the store out, so that each word of its metadata is known beforehand."""
    created_by = attributes.get("created_by")
    return not isinstance(created_by, dict) or created_by.get("zarr", zarr.__version__) == zarr.__version__


def same_group(found: Document | None) -> bool:
    """Whether a zarr.json is that of a group."""
    return found is not None and found.get("node_type") == "group" and found.get("zarr_format") == 3


def read_attributes(path: Place) -> tuple[Document, str]:
    """Return the store's own attributes, and what is wrong with them: without these nothing else can be judged.

    Raises:
        InputError: there is no token store, or one of another schema.
    """
    document = read_document(path)
    attributes = (document or {}).get("attributes")
    if not isinstance(attributes, dict) or not same_group(document):
        if not (path / "tokens").is_dir() and not (path / "pooled").is_dir():
            raise InputError(no_store(path))
        return {}, "zarr.json of the store is gone or cannot be read"
    if SEAL in attributes and attributes[SEAL] != seal_of(attributes):
        return {}, "the store's attributes do not match their seal"
    if attributes.get("schema_version") != SCHEMA:
        raise InputError(
            f"{path} is no token store of schema version {SCHEMA} (its schema_version is "
            f"{attributes.get('schema_version')!r}), so it cannot be verified."
        )
    wanted = ("key", "key_digest", "token_grid", "block", "finished")
    if absent := [name for name in wanted if name not in attributes]:
        return {}, f"the store's attributes lack {', '.join(absent)}"
    if key_digest(attributes["key"]) != attributes["key_digest"]:
        return {}, "the key does not match its digest"
    return attributes, ""
