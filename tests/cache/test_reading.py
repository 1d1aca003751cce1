"""Rows read fast are the rows: every layout, any order, and damage is never read as tokens."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec, ZstdCodec

from echolung.cache import reading
from echolung.cache.reading import read_rows

SHAPE = (23, 3, 5)
LAYOUTS = {
    "a clip a chunk": {"chunks": (1, 3, 5)},
    "a block a chunk": {"chunks": (4, 3, 5)},
    "one chunk": {"chunks": SHAPE},
    "in shards": {"chunks": (1, 3, 5), "shards": (4, 3, 5)},
    "cut across tokens": {"chunks": (1, 2, 5)},
    "compressed": {"chunks": (1, 3, 5), "compressors": [ZstdCodec(), Crc32cCodec()]},
    "without a checksum": {"chunks": (1, 3, 5), "compressors": None},
    "big-endian": {"chunks": (1, 3, 5), "serializer": zarr.codecs.BytesCodec(endian="big")},
    "numbered in one folder": {"chunks": (1, 3, 5), "chunk_key_encoding": {"name": "default", "separator": "."}},
}
PLAIN = {"a clip a chunk", "numbered in one folder"}


def written(store, layout: str, dtype="float16"):
    options = {"compressors": [Crc32cCodec()], **LAYOUTS[layout]}
    array = zarr.create_array(store, name="tokens", shape=SHAPE, dtype=dtype, fill_value=np.nan, **options)
    values = np.random.default_rng(0).normal(size=SHAPE).astype(dtype)
    array[:] = values
    return array, values


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    return {layout: written(tmp_path_factory.mktemp("array"), layout) for layout in LAYOUTS}


@pytest.fixture
def plain(tmp_path):
    array, values = written(tmp_path, "a clip a chunk")
    return array, values, tmp_path / "tokens" / "c" / "7" / "0" / "0"


@pytest.mark.parametrize("layout", LAYOUTS)
@given(rows=st.lists(st.integers(0, SHAPE[0] - 1), max_size=40), run=st.sampled_from([1, 100, 2**20]))
@settings(max_examples=20, deadline=None)
def test_every_layout_reads_the_same_rows_in_any_order(arrays, layout, rows, run):
    array, values = arrays[layout]
    rows = np.array(rows, np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "RUN", run)
        np.testing.assert_array_equal(read_rows(array, rows), values[rows])
    assert read_rows(array, rows).dtype == array.dtype


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_plain_chunk_files_are_read_past_zarr(arrays, layout):
    array, _ = arrays[layout]
    assert reading._is_plain(array, np.empty(SHAPE, np.float16)) == (layout in PLAIN)


def test_a_store_is_laid_out_for_the_fast_way(store):
    tokens = store.array("tokens")
    assert reading._is_plain(tokens, np.empty(tokens.shape, tokens.dtype))


@pytest.mark.parametrize("kind", ["memory", "fsspec"])
def test_a_store_that_is_no_folder(kind):
    store = zarr.storage.MemoryStore() if kind == "memory" else zarr.storage.FsspecStore.from_url("memory://rows")
    array, values = written(store, "a clip a chunk")
    rows = np.array([5, 0, 22, 5])
    np.testing.assert_array_equal(read_rows(array, rows), values[rows])


@pytest.mark.parametrize("name", ["complete", "pooled", "frames", "preview", "source_digest", "error"])
def test_every_array_of_a_store(store, name):
    rows = np.array([9, 0, 5, 5])
    np.testing.assert_array_equal(read_rows(store.array(name), rows), store.array(name)[:][rows])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_into_memory_that_is_given(arrays, layout):
    array, values = arrays[layout]
    whole = np.zeros((6, *SHAPE[1:]), np.float16)
    assert read_rows(array, np.array([3, 1]), out=whole[2:4]).base is whole
    np.testing.assert_array_equal(whole[2:4], values[[3, 1]])
    assert not whole[[0, 1, 4, 5]].any()
    strided, wider = whole[::3], np.empty((2, *SHAPE[1:]), np.float32)
    np.testing.assert_array_equal(read_rows(array, np.array([3, 1]), out=strided), values[[3, 1]])
    np.testing.assert_array_equal(read_rows(array, np.array([3, 1]), out=wider), values[[3, 1]].astype(np.float32))


@pytest.mark.parametrize("rows", [[-1], [0, 23]])
def test_a_row_outside_is_an_error(arrays, rows):
    with pytest.raises(IndexError, match="of an array of 23"):
        read_rows(arrays["a clip a chunk"][0], np.array(rows))


@given(bit=st.integers(0, 8 * (3 * 5 * 2 + 4) - 1))
@settings(max_examples=40, deadline=None)
def test_no_flipped_bit_is_read(tmp_path_factory, bit):
    folder = tmp_path_factory.mktemp("flipped")
    array, values = written(folder, "a clip a chunk")
    chunk = folder / "tokens" / "c" / "7" / "0" / "0"
    damaged = bytearray(chunk.read_bytes())
    damaged[bit // 8] ^= 1 << bit % 8
    chunk.write_bytes(damaged)
    with pytest.raises(ValueError, match="checksum of the chunk c/7/0/0 does not match"):
        read_rows(array, np.array([6, 7, 8]))
    np.testing.assert_array_equal(read_rows(array, np.array([6, 8])), values[[6, 8]])


@pytest.mark.parametrize("size", [0, 3, 29, 30, 33, 35, 64])
def test_a_chunk_of_another_length_is_damage(plain, size):
    array, _, chunk = plain
    chunk.write_bytes((chunk.read_bytes() * 2)[:size])
    with pytest.raises(ValueError, match="the chunk c/7/0/0 has not the 34 bytes"):
        read_rows(array, np.array([7]))


def test_a_missing_chunk_is_the_fill_value_as_zarr_has_it(plain):
    array, values, chunk = plain
    chunk.unlink()
    found = read_rows(array, np.array([7, 6]))
    assert np.isnan(found[0]).all() and np.isnan(array[7]).all()
    np.testing.assert_array_equal(found[1], values[6])
    chunk.parent.rmdir()
    Path(chunk.parent).write_text("")  # a file where a folder was
    assert np.isnan(read_rows(array, np.array([7]))).all()


@given(
    rows=st.lists(st.integers(0, 99), min_size=1, max_size=60),
    chunk=st.integers(1, 9),
    run=st.sampled_from([1, 64, 300]),
)
@settings(max_examples=80, deadline=None)
def test_a_read_through_zarr_is_of_neighbouring_chunks_and_bounded(rows, chunk, run):
    array = zarr.create_array(zarr.storage.MemoryStore(), shape=(100, 2), chunks=(chunk, 2), dtype="float16")
    rows = np.array(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "RUN", run)
        runs = list(reading._runs(array, rows))
    assert sorted(np.concatenate(runs)) == list(range(len(rows)))
    touched = [sorted(set(rows[places] // chunk)) for places in runs]
    assert all(chunks == list(range(chunks[0], chunks[-1] + 1)) for chunks in touched)
    assert all(len(chunks) * chunk * 4 <= max(run, chunk * 4) for chunks in touched)
    assert len(np.concatenate(touched)) == len(set(rows // chunk))  # no chunk twice
