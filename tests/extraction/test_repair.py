"""Break a store, repair it: every array is, bit for bit, what it was, and no more was encoded than had to be."""

import shutil

import numpy as np
import pytest
import zarr

from echolung.cache import TokenStore
from echolung.cache.locking import WriterLock
from echolung.cache.verify import verify
from echolung.errors import DecodeError, InputError, RunError
from echolung.extraction import run
from echolung.extraction.repair import repair


@pytest.fixture
def encoded(monkeypatch):
    """Return a list that collects how many clips that are not black each batch held."""
    counts, original = [], run.encode

    def counting(encoder, clips, precision):
        counts.append(int(clips.any(axis=(1, 2, 3, 4)).sum()))
        return original(encoder, clips, precision)

    monkeypatch.setattr(run, "encode", counting)
    return counts


def in_process(function, jobs, arguments, *_):
    """Do what `run_in_workers` does without its processes, which take a second to start."""
    for job in jobs:
        try:
            yield job, function(*arguments(job))
        except DecodeError as error:
            yield job, error


def flip(file, at=None):
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 0x10
    file.write_bytes(content)


@pytest.fixture
def mend(dataset, extract, monkeypatch):
    """Return a function that verifies, repairs and verifies again, and returns what was said."""
    monkeypatch.setattr("echolung.extraction.repair.run_in_workers", in_process)

    def call(path, **options):
        said = []
        found = verify(path)
        assert found.damages
        repair(found, extract, data=dataset.folder / "videos.csv", log=said.append, **options)
        left = verify(path)
        assert not left.damages, left.damages
        return said

    return call


def compare(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


# array -> clips that have to go through the encoder again
COSTS = {
    "tokens/c/4/0/0": 1,
    "pooled/c/0/0": 8,
    "preview/c/1/0/0/0": 0,
    "complete/c/0": 0,
    "error/c/0": 0,
    "frames/c/0/0": 0,
    "source_digest/c/0": 0,
    "source_size/c/0": 0,
    "source_mtime/c/0": 0,
    "video/c/0/0": 0,
    "rows/video_id/c/0": 0,
    "rows/patient/c/0": 0,
    "rows/zarr.json": 0,
    "rows/segment/zarr.json": 0,
    "manifest/kind/c/0": 0,
    "manifest/zarr.json": 0,
    "tokens/zarr.json": 0,
    "complete/zarr.json": 0,
}


@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_one_file(dataset, extract, arrays, encoded, mend, tmp_path, how):
    (dataset.folder / "v1.mp4").write_text("no video")
    whole = extract(dataset.plan(tmp_path / "whole.zarr")).path
    expected = arrays(whole)
    for file, cost in COSTS.items():
        broken = tmp_path / "broken.zarr"
        shutil.copytree(whole, broken)
        if how == "flipped":
            flip(broken / file, 30 if file.endswith("zarr.json") else None)
        else:
            (broken / file).unlink()
        encoded.clear()
        mend(broken)
        assert sum(encoded) == cost, file
        compare(arrays(broken), expected)
        assert TokenStore.open(broken).failures == TokenStore.open(whole).failures
        assert dict(zarr.open_group(broken).attrs) == dict(zarr.open_group(whole).attrs)
        shutil.rmtree(broken)


@pytest.mark.parametrize("kind", [{}, {"token_pool": 2}, {"tokens": "none"}, {"shard": 6}])
def test_many_files(dataset, extract, arrays, mend, tmp_path, kind):
    shard = {name: value for name, value in kind.items() if name == "shard"}
    plan = dataset.plan(tmp_path / "a.zarr", **{k: v for k, v in kind.items() if k != "shard"})
    extract(plan, **shard)
    expected = arrays(plan.path)
    random = np.random.default_rng(0)
    for _ in range(3):
        files = [file for file in sorted(plan.path.rglob("*")) if file.is_file() and file != plan.path / "zarr.json"]
        for file in random.choice(files, 6, replace=False):
            flip(file, int(random.integers(file.stat().st_size)))
        if verify(plan.path).damages:
            mend(plan.path)
        compare(arrays(plan.path), expected)


@pytest.mark.parametrize("array", ["tokens", "preview"])
def test_neighbours_in_a_shard(dataset, extract, arrays, encoded, mend, tmp_path, array):
    plan = dataset.plan(tmp_path / "a.zarr")
    extract(plan, shard=6)
    expected = arrays(plan.path)
    shard = plan.path / array / "c" / "0" / "0" / "0" / ("0" if array == "preview" else "")
    clip = int(np.prod(expected[array].shape[1:])) * expected[array].itemsize + 4
    for places, damaged in (((0.5, 2.5, 3.5), 3), ((0.5, None, 5.5), 6)):  # None: the index, by which all are found
        for place in places:
            flip(shard, shard.stat().st_size - 10 if place is None else int(place * clip))
        found = {row for damage in verify(plan.path).damages for row in damage.rows}
        assert len(found) == damaged
        encoded.clear()
        mend(plan.path)
        assert sum(encoded) == (damaged if array == "tokens" else 0)
        compare(arrays(plan.path), expected)


def test_an_unfinished_store_is_mended_and_goes_on(dataset, extract, arrays, mend, tmp_path, monkeypatch):
    expected = arrays(extract(dataset.plan(tmp_path / "whole.zarr")).path)
    plan = dataset.plan(tmp_path / "killed.zarr")
    store = extract(plan)
    TokenStore.open(plan.path, writing=True).reopen(np.arange(6, 10))
    flip(store.path / "tokens" / "c" / "1" / "0" / "0")
    said = mend(plan.path)
    assert any("Encoding 5 clips again" in line for line in said)
    compare(arrays(plan.path), expected)


def test_what_cannot_be_repaired_is_said_and_nothing_is_touched(dataset, extract, arrays, tmp_path):
    plan = dataset.plan(tmp_path / "a.zarr")
    extract(plan)
    data = dataset.folder / "videos.csv"
    flip(plan.path / "tokens" / "c" / "4" / "0" / "0")
    damaged = {file: file.read_bytes() for file in plan.path.rglob("*") if file.is_file()}
    found = verify(plan.path)
    with pytest.raises(InputError, match=r"say where that is, --data videos\.csv"):
        repair(found, extract)
    with pytest.raises(InputError, match=r"encoder\.seed: is 0, expected 1"):
        repair(found, extract, data=data, encoder="random:vit_tiny@1")
    with WriterLock(plan.path) as other:
        other.enter()
        with pytest.raises(InputError, match="Another process is writing"):
            repair(found, extract, data=data)
    (dataset.folder / "v2.mp4").rename(dataset.folder / "elsewhere.mp4")
    with pytest.raises(InputError, match=r"these are not under .*: v2"):
        repair(found, extract, data=data)
    assert damaged == {file: file.read_bytes() for file in plan.path.rglob("*") if file.is_file()}
    (plan.path / "zarr.json").write_text("{")
    with pytest.raises(RunError, match="extract again"):
        repair(verify(plan.path), extract, data=data)


def test_a_video_that_changed_is_not_passed_off_as_the_old(dataset, extract, mend):
    plan = dataset.plan()
    extract(plan)
    dataset.write_video("v2", seed=9)
    for name in ("source_digest", "frames/c/0/0"):
        flip(plan.path / name / "c" / "0" if name == "source_digest" else plan.path / name)
    mend(plan.path)
    store = TokenStore.open(plan.path)
    sizes = store.array("source_size")[:]
    assert sizes[4] == (dataset.folder / "v2.mp4").stat().st_size
    np.testing.assert_allclose(store.pooled([4])[0], store.tokens([4])[0].mean(axis=0, dtype=np.float64), atol=1e-3)


def test_a_manifest_whose_dataset_lost_a_video(dataset, extract, tmp_path):
    plan = dataset.plan(tmp_path / "a.zarr")
    extract(plan)
    del dataset.labels["v3"]
    dataset.write_table()
    (plan.path / "manifest" / "kind" / "c" / "0").write_bytes(b"damaged")
    with pytest.raises(RunError, match="no longer has v3"):
        repair(verify(plan.path), extract, data=dataset.folder / "videos.csv")
