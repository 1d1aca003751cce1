"""Put the files of a damaged store in order, as far as that needs neither videos nor an encoder."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from jaxtyping import Int

from echolung.cache.damage import Damage
from echolung.cache.layout import swap
from echolung.cache.metadata import expected_documents, find_shape, read_document
from echolung.cache.tables import read_table, write_table
from echolung.errors import RunError


def mend_metadata(path: Path, damages: Iterable[Damage]) -> None:
    """Write the zarr.json of arrays anew, as the layout has it."""
    attributes = (read_document(path) or {})["attributes"]
    finished = bool(attributes["finished"])
    documents = expected_documents(find_shape(path, attributes), finished)
    for damage in damages:
        folder = path / damage.array
        folder.mkdir(exist_ok=True)
        new = folder / "zarr.json.partial"
        new.write_text(json.dumps(documents[damage.array], indent=2))
        new.replace(folder / "zarr.json")


def clear_strays(path: Path, damages: Iterable[Damage]) -> list[str]:
    """Delete files that lie inside an array and belong to none of its chunks; return those elsewhere, which stay."""
    kept = []
    for damage in damages:
        file = path / damage.array
        if (
            "/c/" in f"/{damage.array}"
            or file.suffix == ".partial"
            or ".new/" in damage.array
            or ".old/" in damage.array
        ):
            file.unlink(missing_ok=True)
        else:
            kept.append(damage.array)
    return kept


def intact_columns(path: Path, damages: Iterable[Damage]) -> pd.DataFrame:
    """Return those columns of `rows` that no damage names; none where the table itself is damaged."""
    broken = {damage.array for damage in damages}
    if "rows" in broken:
        return pd.DataFrame()
    group = zarr.open_group(path / "rows", mode="r")
    table = {}
    for column in group.attrs["columns"]:  # type: ignore[union-attr]
        if f"rows/{column}" not in broken:
            values: Any = group[str(column)]
            table[str(column)] = np.asarray(values[:])
    return pd.DataFrame({name: v.astype(object) if v.dtype.kind in "TUO" else v for name, v in table.items()})


def replace_rows(path: Path, rows: pd.DataFrame) -> None:
    """Write the table `rows` anew. The store is unfinished until someone calls `finish`."""
    group = zarr.open_group(path, mode="r+")
    group.attrs["finished"] = False  # a kill between two renames leaves no table to read
    write_table(group.create_group("rows.new"), rows)
    (path / "rows").mkdir(exist_ok=True)
    swap(path, "rows")
    if len(read_table(zarr.open_group(path / "rows", mode="r"))) != len(rows):
        raise RunError(f"{path.name}: the table rows could not be written.")


def salvage(array: zarr.Array, path: Path, rows: Int[np.ndarray, " n"]) -> None:
    """Write the files of the clips `rows` anew from what can be read of them; the rest becomes the fill value.

    Zarr reads a chunk before it writes a part of it, so a damaged one has to go before anything new can be put there.

    Args:
        array: the array, opened for writing.
        path: its folder.
        rows: clips whose data are damaged.
    """
    step, chunk = (array.shards or array.chunks)[0], array.chunks[0]
    for number in np.unique(rows // step).tolist():
        begin, end = number * step, min((number + 1) * step, array.shape[0])
        text = array.dtype.kind in "TUO"
        whole = np.full((end - begin, *array.shape[1:]), array.metadata.fill_value, object if text else array.dtype)
        for first in range(begin, end, chunk):
            last = min(first + chunk, end)
            try:
                whole[first - begin : last - begin] = array[first:last]
            except Exception:  # what Zarr says to bytes that are not its own
                continue
        (path / array.metadata.encode_chunk_key((number, *[0] * (array.ndim - 1)))).unlink(missing_ok=True)
        array[begin:end] = whole
