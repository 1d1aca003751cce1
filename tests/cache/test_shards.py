"""Shards: a block is one file, written whole, and no clip of it is lost when others are written again."""

import numpy as np
import pytest
import zarr

from echolung.cache import TokenStore
from echolung.cache.growing import copy_clips
from echolung.errors import InputError, RunError

GOOD = [0, 1, 2, 3, 4, 5, 8, 9]


@pytest.fixture
def sharded(tmp_path, create, block):
    """Return a store like `store`, in shards of 4 clips."""
    store = create(tmp_path / "s.zarr", sharded=True, batch=2)
    store.write(block(0, 4))
    store.write(block(4, 4, errors=["", "", "no frames", "no frames"]))
    store.write(block(8, 2))
    store.finish()
    return store


def test_same_numbers_in_fewer_files(sharded, store):
    assert (sharded.sharded, sharded.block, sharded.batch) == (True, 4, 2)
    assert (store.sharded, store.block, store.batch) == (False, 4, 4)
    for name in store.group.array_keys():
        if name == "preview":  # of an unreadable clip it says nothing
            np.testing.assert_array_equal(sharded.previews(GOOD), store.previews(GOOD))
        else:
            np.testing.assert_array_equal(sharded.group[name][:], store.group[name][:], err_msg=name)
    assert len([p for p in (sharded.path / "tokens" / "c").rglob("*") if p.is_file()]) == 3
    tokens = zarr.open_group(sharded.path)["tokens"]
    assert tokens.shards == (4, 4, 6) and tokens.chunks == (1, 4, 6)


def test_batches_of_a_block_together_are_the_block(sharded, tmp_path, create, block):
    whole = block(0, 4)
    halves = [
        type(whole)(at, *(getattr(whole, f)[at : at + 2] for f in list(whole.__dataclass_fields__)[1:]))
        for at in (0, 2)
    ]
    other = create(tmp_path / "o.zarr", sharded=True, batch=2)
    other.write(*halves)
    np.testing.assert_array_equal(other.tokens(range(4)), sharded.tokens(range(4)))
    np.testing.assert_array_equal(other.pooled(range(4)), sharded.pooled(range(4)))
    assert other.array("source_digest")[:4].tolist() == whole.digests


@pytest.mark.parametrize("rows", [[1], [0, 1, 2, 3], [8], [5, 9]])
def test_a_clip_written_again_leaves_its_neighbours(sharded, block, rows):
    writable = TokenStore.open(sharded.path, writing=True)
    old = sharded.tokens(GOOD), sharded.previews(GOOD)
    writable.reopen(np.array(rows))
    for start in {row // 4 * 4 for row in rows}:
        writable.write(block(start, min(4, 10 - start), seed=1))
    writable.finish()
    for at, row in enumerate(GOOD):
        expected = block(row // 4 * 4, 4 if row < 8 else 2, seed=int(row in rows))
        np.testing.assert_array_equal(writable.tokens([row])[0], expected.tokens[row % 4].astype(np.float16))
        np.testing.assert_array_equal(writable.previews([row])[0], expected.previews[row % 4])
        assert (row in rows) != np.array_equal(writable.tokens([row])[0], old[0][at])


def test_clips_of_several_shards_at_once(sharded):
    writable = TokenStore.open(sharded.path, writing=True)
    old, new = sharded.previews(GOOD), np.full((3, 8, 112, 112), 7, np.uint8)
    writable.put("preview", np.array([3, 4, 8]), new)
    expected = old.copy()
    expected[[GOOD.index(row) for row in (3, 4, 8)]] = new
    np.testing.assert_array_equal(writable.previews(GOOD), expected)


def shard(store, number):
    return store.path / "tokens" / "c" / str(number) / "0" / "0"


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("where", ["index", "cut"])
def test_a_shard_beyond_reading_is_replaced_once_all_its_clips_are_open(sharded, block, number, where):
    data = bytearray(shard(sharded, number).read_bytes())
    data[-3] ^= 1
    shard(sharded, number).write_bytes(data if where == "index" else data[: len(data) // 2])
    with pytest.raises(RunError, match="damaged on disk"):
        sharded.tokens([number * 4])
    rows = np.arange(number * 4, min(number * 4 + 4, 10))
    writable = TokenStore.open(sharded.path, writing=True)
    writable.reopen(rows)
    writable.write(block(number * 4, len(rows)))
    np.testing.assert_array_equal(writable.tokens(rows), block(number * 4, len(rows)).tokens.astype(np.float16))


def test_a_damaged_clip_costs_itself_alone(sharded, block):
    data = bytearray(shard(sharded, 0).read_bytes())
    at = data.index(sharded.tokens([1]).tobytes())
    data[at + 5] ^= 1
    shard(sharded, 0).write_bytes(data)
    with pytest.raises(RunError, match="damaged on disk"):
        sharded.tokens([1])
    assert sharded.tokens([0, 2, 3]).shape == (3, 4, 6)
    writable = TokenStore.open(sharded.path, writing=True)
    writable.reopen(np.array([1]))
    writable.write(block(0, 4))
    np.testing.assert_array_equal(writable.tokens(range(4)), block(0, 4).tokens.astype(np.float16))


def test_killed_while_a_shard_is_written_again(sharded, block, monkeypatch):
    class Killed(BaseException):
        pass

    async def kill(self, key, value):
        raise Killed

    old = sharded.tokens([0, 2, 3])
    writable = TokenStore.open(sharded.path, writing=True)
    writable.reopen(np.array([1]))
    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "set", kill)
        with pytest.raises(Killed):
            writable.write(block(0, 4, seed=1))
    again = TokenStore.open(sharded.path, writing=True)
    np.testing.assert_array_equal(again.tokens([0, 2, 3]), old)
    assert again.unfinished_blocks() == [0]


@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)])
def test_growth(tmp_path, create, block, before, after):
    small = create(tmp_path / "small.zarr", sharded=before)
    for start, count in ((0, 4), (4, 4), (8, 2)):
        small.write(block(start, count, errors=["", "", "no frames", "no frames"] if start == 4 else None))
    larger = create(tmp_path / "larger.zarr", clips=14, block=3, sharded=after)
    assert copy_clips(small, larger) == 8
    np.testing.assert_array_equal(larger.tokens(GOOD), small.tokens(GOOD))
    np.testing.assert_array_equal(larger.previews(GOOD), small.previews(GOOD))
    assert larger.unfinished_blocks() == [6, 9, 12]


def test_pooled_rows_only(tmp_path, create, block, store):
    key = {"encoder": "x", "token_pool": "none"}
    lean = create(tmp_path / "lean.zarr", key=key, tokens=0, grid=(0, 0, 0))
    for start, count in ((0, 4), (4, 4), (8, 2)):
        lean.write(block(start, count, errors=["", "", "no frames", "no frames"] if start == 4 else None))
    lean.finish()
    opened = TokenStore.open(lean.path, key)
    assert opened.token_shape == (0, 6) and opened.clips == 10 and opened.grid == (0, 0, 0)
    np.testing.assert_array_equal(opened.pooled(GOOD), store.pooled(GOOD))
    np.testing.assert_array_equal(opened.previews(GOOD), store.previews(GOOD))
    with pytest.raises(
        InputError, match=r"lean\.zarr holds pooled rows only, no tokens\. Extract without --tokens none"
    ):
        opened.tokens([0])
    assert not (lean.path / "tokens" / "c").exists() and opened.size < store.size
    larger = create(tmp_path / "larger.zarr", clips=14, key=key, tokens=0, grid=(0, 0, 0), sharded=True)
    assert copy_clips(opened, larger) == 8
    np.testing.assert_array_equal(larger.pooled(GOOD), store.pooled(GOOD))


def test_what_float16_cannot_hold_is_refused_without_tokens_too(tmp_path, create, block):
    lean = create(tmp_path / "lean.zarr", tokens=0, grid=(0, 0, 0))
    ill = block(0, 4)
    ill.tokens[2, 1, 3] = np.nan
    with pytest.raises(RunError, match=r"float16 cannot hold .* for v1"):
        lean.write(ill)
    assert not lean.complete.any()


def test_size_is_what_lies_on_disk(store):
    before = store.size
    (store.path / "more").write_bytes(b"x" * 1000)
    assert store.size == before + 1000 > store.array("tokens").nbytes


@pytest.mark.parametrize("sharded", [False, True])
def test_split_and_finished_again_changes_no_number(tmp_path, create, block, sharded):
    store = create(tmp_path / "x.zarr", sharded=sharded)
    for start, count in ((0, 4), (4, 4), (8, 2)):
        store.write(block(start, count))
    store.finish()
    before = {name: array[...] for name, array in store.group.arrays()}
    assert store.array("complete").chunks == (10,)
    store.reopen(np.array([5]))
    store.split()
    assert store.array("complete").chunks == (4,) and store.array("pooled").chunks == (4, 6)
    store.write(block(4, 4))
    store.finish()
    assert store.array("complete").chunks == (10,)
    for name, value in before.items():
        np.testing.assert_array_equal(store.array(name)[...], value, err_msg=name)
