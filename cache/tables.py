"""A pandas table <-> a Zarr group with one array a column, so that any Zarr reader sees the same columns."""

from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import Crc32cCodec

from echolung.cache.seal import sealed


def write_table(group: zarr.Group, table: pd.DataFrame) -> None:
    """Write each column as an array of strings, float64, int64 or bool; the column order goes to the group's attributes."""
    for name in table.columns:
        values = _values(table[name])
        array = group.create_array(
            _array_name(name),
            shape=values.shape,
            chunks=(max(len(values), 1),),
            dtype=str if values.dtype == object else values.dtype,
            compressors=[Crc32cCodec()],
            config={"write_empty_chunks": True},  # a column of zeros is a file, too, and its loss is found
        )
        array[:] = values
    group.attrs.update(sealed({"columns": list(table.columns)}))


def read_table(group: zarr.Group) -> pd.DataFrame:
    """Return the table that `write_table` wrote."""
    columns: Any = group.attrs["columns"]
    return pd.DataFrame({name: _plain(np.asarray(_column(group, name)[:])) for name in columns})


def _column(group: zarr.Group, name: str) -> Any:
    return group[_array_name(name)]


def as_stored(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as `read_table` would give it back, to compare one with what a store holds."""
    return pd.DataFrame({name: _plain(_values(table[name])) for name in table.columns})


def _array_name(column: str) -> str:
    return column.replace("/", "%2F")  # to Zarr a slash makes a group


def _values(column: "pd.Series[Any]") -> np.ndarray:
    if pd.api.types.is_bool_dtype(column) and not column.isna().any():
        return column.to_numpy(bool)
    if pd.api.types.is_integer_dtype(column) and not column.isna().any():
        return column.to_numpy(np.int64)
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(np.float64, na_value=np.nan)
    return column.astype(object).where(column.notna(), "").map(str).to_numpy(object)


def _plain(values: np.ndarray) -> np.ndarray:
    return values.astype(object) if values.dtype.kind in "TUO" else values
