"""Extraction to a URL: the same arrays as in a folder, killed and gone on with, grown; what needs locks is refused."""

import numpy as np
import pytest
import zarr
from fsspec.implementations.memory import MemoryFileSystem

from echolung.cache import TokenStore
from echolung.cache.moving import is_there
from echolung.cache.place import RemotePath, RemoteStore, zarr_store
from echolung.cache.verify import verify
from echolung.errors import InputError
from echolung.extraction.parts import Part
from echolung.extraction.repair import repair
from echolung.extraction.sources import finished_store


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


@pytest.fixture
def url():
    """Return where in memory a store may be put."""
    yield "memory://bucket/a.zarr"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def remote():
    """Return a reader of every array of a store at a URL, tables included."""

    def read(place):
        group = zarr.open_group(zarr_store(place), mode="r")
        return {name: node[...] for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}

    return read


def same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize("shard", [None, 6])
def test_killed_and_gone_on_with(dataset, extract, arrays, remote, url, tmp_path, monkeypatch, shard):
    (dataset.folder / "v3.mp4").write_text("no video")
    expected = arrays(extract(dataset.plan(tmp_path / "a.zarr"), shard=shard).path)
    plan, said = dataset.plan(url), []
    assert isinstance(plan.path, RemotePath) and finished_store(plan) is None
    original, left = RemoteStore.set, [0]

    async def put(self, *args, **options):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        await original(self, *args, **options)

    for writes in (20, 45, 30):  # while it is laid out, while clips are written, and in the midst of a later block
        left[0] = writes
        with monkeypatch.context() as patch:
            patch.setattr(RemoteStore, "set", put)
            with pytest.raises(Killed):
                extract(plan, shard=shard)
        assert finished_store(plan) is None
    assert is_there(plan.path) and not TokenStore.open(url, unfinished=True).finished
    store = extract(plan, said, shard=shard)
    assert said.count("Nothing at a URL can be locked: see to it that nobody else writes memory://bucket/a.zarr.") == 1
    same(remote(store.path), expected)
    assert not verify(store.path).damages
    assert finished_store(plan) is not None


def test_a_dataset_that_grew(dataset, extract, arrays, remote, url, tmp_path):
    local, plan = dataset.plan(tmp_path / "a.zarr"), dataset.plan(url)
    extract(local)
    extract(plan)
    dataset.write_video("v5", seed=5)
    dataset.labels["v5"] = "b"
    dataset.write_table()
    said = []
    store = extract(dataset.plan(url), said)
    assert "The dataset grew from 5 to 6 videos; 10 clips are kept." in said
    same(remote(store.path), arrays(extract(dataset.plan(local.path)).path))
    assert not [name for name in MemoryFileSystem.store if "grown" in name or ".new" in name]


def test_nothing_that_can_be_read_leaves_nothing(dataset, extract, url):
    for video in dataset.folder.glob("*.mp4"):
        video.write_text("no video")
    with pytest.raises(Exception, match="None of the 5 videos could be read"):
        extract(dataset.plan(url))
    assert not [name for name in MemoryFileSystem.store if name.startswith("/bucket/a.zarr")]


def test_what_needs_locks_is_refused(dataset, extract, url):
    with pytest.raises(
        InputError, match=r"Part 1/2 cannot be written to memory://bucket/a\.zarr: several writers need"
    ):
        extract(dataset.plan(url), part=Part(1, 2))
    store = extract(dataset.plan(url))
    (store.path / "tokens" / "c" / "1" / "0" / "0").unlink()
    with pytest.raises(InputError, match="cannot be repaired where it is"):
        repair(verify(store.path), extract, data=dataset.folder / "videos.csv")
