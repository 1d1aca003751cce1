"""Tables survive the disk: names, labels, numbers and what is missing."""

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.pandas import column, data_frames, range_indexes

from echolung.cache.tables import as_stored, read_table, write_table


def there_and_back(table: pd.DataFrame) -> pd.DataFrame:
    group = zarr.create_group(zarr.storage.MemoryStore())
    write_table(group, table)
    return read_table(group)


def test_every_kind_of_column():
    table = pd.DataFrame(
        {
            "video_id": ["a", "Größe", "肺 B-line"],
            "patient": ["1", None, ""],
            "age": [61.5, np.nan, -0.0],
            "points": [2**53 + 1, -3, 0],
            "masked": pd.array([1, None, 3], dtype="Int64"),
            "smoker": [True, False, True],
            "maybe": pd.array([True, None, False], dtype="boolean"),
            "grade": pd.Categorical(["x", None, "y"]),
            "SpO2 / %": [97, 88, 90],
            "mixed": ["a", 1, None],
        }
    )
    back = there_and_back(table)
    assert list(back.columns) == list(table.columns)
    assert back["video_id"].tolist() == ["a", "Größe", "肺 B-line"]
    assert back["patient"].tolist() == ["1", "", ""]
    np.testing.assert_array_equal(back["age"], [61.5, np.nan, 0.0])
    assert back["points"].dtype == np.int64 and back["points"].tolist() == [2**53 + 1, -3, 0]
    np.testing.assert_array_equal(back["masked"], [1, np.nan, 3])
    assert back["smoker"].dtype == bool and back["smoker"].tolist() == [True, False, True]
    np.testing.assert_array_equal(back["maybe"], [1, np.nan, 0])
    assert back["grade"].tolist() == ["x", "", "y"]
    assert back["SpO2 / %"].tolist() == [97, 88, 90]
    assert back["mixed"].tolist() == ["a", "1", ""]


@settings(max_examples=25)
@given(
    data_frames(
        [
            column("text", elements=st.text(), dtype=object),
            column("float", elements=st.floats(width=64)),
            column("int", elements=st.integers(-(2**63), 2**63 - 1), dtype=np.int64),
            column("bool", dtype=bool),
        ],
        index=range_indexes(min_size=1, max_size=6),
    )
)
def test_as_stored_is_what_comes_back(table):
    back = there_and_back(table)
    pd.testing.assert_frame_equal(back, as_stored(table))
    assert back["text"].tolist() == table["text"].tolist()
    np.testing.assert_array_equal(back["float"], table["float"])
    assert as_stored(back).equals(back)


def test_the_index_is_no_data():
    table = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    assert there_and_back(table)["a"].tolist() == [1, 2]


@pytest.mark.parametrize("rows", [0, 1])
def test_short_tables(rows):
    table = pd.DataFrame({"a": ["x"] * rows, "b": [1.5] * rows})
    assert there_and_back(table).shape == (rows, 2)
