"""A store at a URL holds what one in a folder holds; a kill between any two of its files loses no clip."""

import sys

import numpy as np
import pytest
import zarr
from fsspec.implementations.memory import MemoryFileSystem

from echolung.cache import Snapshot, TokenStore
from echolung.cache.growing import copy_clips
from echolung.cache.hdf5 import export_store, import_store
from echolung.cache.moving import exchange, is_there, recover
from echolung.cache.place import RemotePath, RemoteStore, as_place, file_sizes, remove, zarr_store
from echolung.cache.verify import verify
from echolung.errors import InputError, RunError

BLOCKS = ((0, 4), (4, 4), (8, 2))


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


@pytest.fixture
def bucket():
    """Return the URL of an empty bucket in memory."""
    yield "memory://bucket"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def written(bucket, create, block):
    """Return a store at a URL whose blocks are all written, and which is not finished."""
    store = create(f"{bucket}/a.zarr")
    for start, count in BLOCKS:
        store.write(block(start, count, errors=["", "", "no frames", "no frames"] if start == 4 else None))
    return store


def contents(place):
    group = zarr.open_group(zarr_store(place), mode="r")
    return {name: node[...] for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def killing(monkeypatch, moment):
    """Kill before the `moment`-th file that is written, copied or deleted."""
    count = [0]

    def step():
        count[0] += 1
        if count[0] >= moment:  # Zarr writes several files at once: after a kill none of them
            raise Killed

    def counted(original):
        def call(*args, **options):
            step()
            return original(*args, **options)

        return call

    original = RemoteStore.set

    async def put(self, *args, **options):
        step()
        await original(self, *args, **options)

    for name in ("pipe_file", "cp_file", "rm_file"):
        monkeypatch.setattr(MemoryFileSystem, name, counted(getattr(MemoryFileSystem, name)))
    monkeypatch.setattr(RemoteStore, "set", put)


@pytest.fixture(params=[7, pytest.param(1, marks=pytest.mark.slow)])
def every(request):
    """Return how many moments lie between two kills."""
    return request.param


def killed_everywhere(monkeypatch, prepare, act, rerun, every=1):
    """Kill `act` at each of its moments, each time with what `prepare` makes, and call `rerun` upon what is left."""
    moment, killed = 1 - every, True
    while killed:
        moment += every
        made = prepare()
        with monkeypatch.context() as patch:
            killing(patch, moment)
            try:
                act(made)
                killed = False
            except Killed:
                pass
        rerun(made)
    assert moment > 3


def test_what_stands_for_what(tmp_path):
    assert as_place(str(tmp_path)) == tmp_path == as_place(tmp_path)
    assert as_place(f"file://{tmp_path}/a.zarr") == tmp_path / "a.zarr"  # with locks and renames
    place = as_place("memory://bucket/stores/a.zarr/")
    assert isinstance(place, RemotePath) and as_place(place) is place
    assert (place.name, str(place.parent), str(place)) == (
        "a.zarr",
        "memory://bucket/stores",
        "memory://bucket/stores/a.zarr",
    )
    assert place.with_name("b.zarr") == place.parent / "b.zarr"
    assert str(RemotePath("ftp://me:secret@host/a.zarr")) == "ftp://me:…@host/a.zarr"


def test_the_same_as_in_a_folder(bucket, written, store, tmp_path):
    written.finish()
    opened = TokenStore.open(f"{bucket}/a.zarr")
    same(contents(opened.path), contents(store.path))
    np.testing.assert_array_equal(opened.tokens([9, 0, 5]), store.tokens([9, 0, 5]))
    told, expected = dict(opened.group.attrs), dict(store.group.attrs)
    del told["created_by"], expected["created_by"]
    assert told == expected
    assert file_sizes(opened.path).keys() == file_sizes(store.path).keys()
    found = verify(opened.path)
    assert not found.damages and found.bytes == opened.size == sum(file_sizes(opened.path).values())
    export_store(opened.path, tmp_path / "a.h5")
    same(contents(import_store(tmp_path / "a.h5", tmp_path / "b.zarr").path), contents(store.path))
    remove(opened.path)
    assert not opened.path.exists() and not opened.path.is_dir()


def test_damage_at_a_url_is_found(written):
    written.finish()
    chunk = written.path / "tokens" / "c" / "5" / "0" / "0"
    altered = bytearray(chunk.read_bytes())
    altered[7] ^= 1
    chunk.write_bytes(bytes(altered))
    (written.path / "tokens" / "c" / "1" / "0" / "0").unlink()
    found = {(damage.array, damage.rows) for damage in verify(written.path).damages}
    assert found == {("tokens", (5,)), ("tokens", (1,))}
    with pytest.raises(RunError, match="damaged on disk"):
        written.tokens([5])


@pytest.mark.parametrize("sharded", [False, True])
def test_killed_while_it_is_laid_out_and_written(bucket, create, block, monkeypatch, sharded, every):
    place = as_place(f"{bucket}/k.zarr")

    def begin(_):
        create(place, clips=4, sharded=sharded).write(block(0, 4))

    def rerun(_):
        if is_there(place):
            again = TokenStore.open(place, writing=True)
            if again.unfinished_blocks():
                again.write(block(0, 4))
        else:
            again = create(place, clips=4, sharded=sharded)
            again.write(block(0, 4))
        again.finish()
        assert not verify(place).damages and TokenStore.open(place).complete.all()
        remove(place)

    killed_everywhere(monkeypatch, lambda: None, begin, rerun, every)


def test_killed_while_compacting(written, monkeypatch, every):
    before, files = contents(written.path), dict(MemoryFileSystem.store)

    def prepare():
        MemoryFileSystem.store.clear()
        MemoryFileSystem.store.update(files)
        return TokenStore.open(written.path, writing=True)

    def rerun(store):
        again = TokenStore.open(store.path, writing=True)
        again.finish()
        same(contents(store.path), before)
        assert not verify(store.path).damages

    killed_everywhere(monkeypatch, prepare, lambda store: store.finish(), rerun, every)


def test_killed_while_the_table_is_replaced(written, monkeypatch, every):
    written.finish()
    before, files = contents(written.path), dict(MemoryFileSystem.store)
    videos = written.snapshot.videos.assign(grade=1.0)

    def prepare():
        MemoryFileSystem.store.clear()
        MemoryFileSystem.store.update(files)
        return TokenStore.open(written.path, writing=True)

    def rerun(store):
        again = TokenStore.open(store.path, writing=True)
        assert len(again.snapshot.videos) == 5
        again.replace_snapshot(Snapshot("test", videos, {}))
        again.finish()
        after = contents(store.path)
        assert after.pop("manifest/grade").tolist() == [1.0] * 5
        same(after, before)

    killed_everywhere(monkeypatch, prepare, lambda s: s.replace_snapshot(Snapshot("test", videos, {})), rerun, every)


def test_killed_while_a_larger_store_takes_its_place(written, create, monkeypatch, every):
    written.finish()
    place, before = written.path, written.tokens(range(6))
    larger = create(place.with_name("a.zarr.grown"), clips=12)
    assert copy_clips(TokenStore.open(place), larger) == 8
    files = dict(MemoryFileSystem.store)

    def prepare():
        MemoryFileSystem.store.clear()
        MemoryFileSystem.store.update(files)

    def rerun(_):
        recover(place, ".grown", ".replaced")
        assert is_there(place) and not place.with_name("a.zarr.grown").exists()
        store = TokenStore.open(place, unfinished=True)
        assert store.clips in (10, 12)
        np.testing.assert_array_equal(store.tokens(range(6)), before)
        assert not verify(place).damages

    killed_everywhere(monkeypatch, prepare, lambda _: exchange(place, ".grown", ".replaced"), rerun, every)


def test_what_is_there_is_left_alone(bucket, create, written):
    with pytest.raises(InputError, match=r"There is something at memory://bucket/a\.zarr already"):
        create(written.path)
    (as_place(bucket) / "photos" / "a.jpg").write_bytes(b"precious")
    with pytest.raises(InputError, match="There is something at"):
        create(f"{bucket}/photos")
    (as_place(bucket) / "b.zarr" / "zarr.json").write_bytes(b"{ damaged")
    with pytest.raises(InputError, match="There is something at"):
        create(f"{bucket}/b.zarr")
    zarr.create_group(zarr_store(as_place(f"{bucket}/c.zarr"), writing=True))
    with pytest.raises(InputError, match="no token store of echolung"):
        TokenStore.open(f"{bucket}/c.zarr", writing=True)
    with pytest.raises(InputError, match="There is something at"):
        create(f"{bucket}/c.zarr")
    assert (as_place(bucket) / "photos" / "a.jpg").read_bytes() == b"precious"


def test_what_cannot_be_opened(bucket, written):
    with pytest.raises(InputError, match=r"There is no token store at memory://bucket/b\.zarr \(no Zarr group found\)"):
        TokenStore.open(f"{bucket}/b.zarr")
    with pytest.raises(InputError, match=r"memory://other/b\.zarr, nor is there anything at memory://other\."):
        TokenStore.open("memory://other/b.zarr")
    with pytest.raises(InputError, match=r"foo://b/x\.zarr is no URL that fsspec can open: Protocol not known: foo"):
        TokenStore.open("foo://b/x.zarr")


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match=r"not installed: s3fs\. Install it"):
        as_place("s3://bucket/a.zarr")


def test_a_network_that_fails_is_no_damage(written, monkeypatch):
    written.finish()

    async def broken(*_, **__):
        raise ConnectionResetError("the line went dead at s3://me:secret@host")

    opened = TokenStore.open(written.path)
    monkeypatch.setattr("zarr.storage.FsspecStore.get", broken)
    for act in (lambda: opened.tokens([0]), lambda: verify(opened.path)):
        with pytest.raises(RunError, match="cannot be read or written: the line went dead") as caught:
            act()
        assert "secret" not in str(caught.value)
