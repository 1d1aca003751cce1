"""Compaction, and a kill at any moment of it: each state that a kill can leave is put right by the next writer."""

import shutil

import numpy as np
import pytest
import zarr

from echolung.cache import Snapshot, TokenStore
from echolung.cache.layout import CLIP_ARRAYS
from echolung.errors import InputError


def contents(path):
    return {name: array[...] for name, array in zarr.open_group(path, mode="r").arrays()}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture
def written(tmp_path, create, block):
    """Return a store whose blocks are all written and which is not finished."""
    store = create(tmp_path / "w.zarr")
    for start, count in ((0, 4), (4, 4), (8, 2)):
        store.write(block(start, count, errors=["", "", "no frames", "no frames"] if start == 4 else None))
    return store


def test_finish_changes_no_number_and_may_be_repeated(written, store):
    before = contents(written.path)
    written.finish()
    same(contents(written.path), before)
    same(contents(written.path), contents(store.path))
    for name in (*CLIP_ARRAYS, "video"):
        assert len(list((written.path / name / "c").rglob("*"))) <= 2
    files = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in written.path.rglob("*") if p.is_file()}
    TokenStore.open(written.path, writing=True).finish()
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in written.path.rglob("*") if p.is_file()} == files


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


def killing(monkeypatch, moment):
    """Kill at the `moment`-th rename or removal, before it is done."""
    import pathlib

    count = [0]

    def counted(original):
        def step(*args, **kwargs):
            count[0] += 1
            if count[0] == moment:
                raise Killed
            return original(*args, **kwargs)

        return step

    monkeypatch.setattr(pathlib.Path, "rename", counted(pathlib.Path.rename))
    monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree))
    return count


@pytest.mark.parametrize("moment", range(1, 3 * len(CLIP_ARRAYS) + 4))
def test_killed_while_compacting(written, monkeypatch, moment):
    before = contents(written.path)
    with monkeypatch.context() as patch:
        killing(patch, moment)
        with pytest.raises(Killed):
            written.finish()
    with pytest.raises(InputError, match="stopped half-way"):
        TokenStore.open(written.path)
    again = TokenStore.open(written.path, writing=True)
    again.finish()
    same(contents(written.path), before)
    assert TokenStore.open(written.path).failures == {"v3": "no frames"}


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_killed_while_the_table_is_replaced(store, monkeypatch, moment):
    before = contents(store.path)
    writable = TokenStore.open(store.path, writing=True)
    videos = store.snapshot.videos.assign(grade=1.0)
    with monkeypatch.context() as patch:
        killing(patch, moment)
        with pytest.raises(Killed):
            writable.replace_snapshot(Snapshot("test", videos, {}))
    # Readers are told; they do not stumble over a table that is away for the moment.
    with pytest.raises(InputError, match="stopped half-way"):
        TokenStore.open(store.path)
    again = TokenStore.open(store.path, writing=True)
    assert ("grade" in again.snapshot.videos) == (moment > 1)
    again.finish()
    same(contents(store.path), before)
    assert TokenStore.open(store.path).snapshot.dataset == "test"


def test_a_rewrite_cut_short_does_not_count(written):
    before = contents(written.path)
    shutil.copytree(written.path / "pooled", written.path / "pooled.new")
    for chunk in (written.path / "pooled.new" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"half")
    (written.path / "tokens" / "c" / "0" / "abc.partial").write_bytes(b"x")
    again = TokenStore.open(written.path, writing=True)
    assert not list(written.path.rglob("*.partial")) and not list(written.path.glob("*.new"))
    again.finish()
    same(contents(written.path), before)


def test_killed_between_the_files_of_a_block(tmp_path, create, block, monkeypatch):
    whole = create(tmp_path / "whole.zarr")
    whole.write(block(0, 4))
    expected = contents(whole.path)
    original = zarr.storage.LocalStore.set
    writes = []

    async def count(self, key, value):
        writes.append(key)
        await original(self, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "set", count)
        create(tmp_path / "count.zarr").write(block(0, 4))
    chunks = [key for key in writes if "/c/" in key and not key.startswith(("rows", "manifest"))]
    assert chunks[-1] == "complete/c/0" and len(chunks) >= 11
    for stop in range(len(chunks)):
        store = create(tmp_path / f"{stop}.zarr")
        left = [stop]

        async def kill(self, key, value, left=left):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            await original(self, key, value)

        with monkeypatch.context() as patch:
            patch.setattr(zarr.storage.LocalStore, "set", kill)
            with pytest.raises(Killed):
                store.write(block(0, 4))
        again = TokenStore.open(store.path, writing=True)
        assert not again.complete.any() and again.unfinished_blocks() == [0, 4, 8]
        again.write(block(0, 4))
        same(contents(store.path), expected)
