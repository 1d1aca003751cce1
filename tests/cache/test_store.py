"""What was written is what is read, by us and by any Zarr reader; what was not written is an error."""

import errno
import shutil
from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
import zarr

from echolung.cache import Snapshot, TokenStore
from echolung.cache.growing import copy_clips
from echolung.cache.hdf5 import export_store, import_store
from echolung.cache.layout import CLIP_ARRAYS
from echolung.cache.verify import verify
from echolung.errors import InputError, RunError

KEY = {"encoder": {"weights": "sha256:1", "seed": 0}, "clips": {"size": 32, "fps": None}}
GOOD = [0, 1, 2, 3, 4, 5, 8, 9]


def test_round_trip(store, block):
    opened = TokenStore.open(store.path, KEY)
    blocks = [block(0, 4), block(4, 4), block(8, 2)]
    tokens = np.concatenate([b.tokens for b in blocks])
    np.testing.assert_array_equal(opened.tokens(GOOD), tokens[GOOD].astype(np.float16))
    np.testing.assert_allclose(opened.pooled(GOOD), tokens[GOOD].mean(axis=1), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(opened.previews(GOOD), np.concatenate([b.previews for b in blocks])[GOOD])
    np.testing.assert_array_equal(opened.group["frames"][:], np.concatenate([b.frames for b in blocks]))
    assert opened.group["source_digest"][:].tolist() == [d for b in blocks for d in b.digests]
    assert opened.group["source_mtime"][:].tolist() == [m for b in blocks for m in b.mtimes]
    assert opened.complete.tolist() == [True] * 6 + [False] * 2 + [True] * 2
    assert opened.failures == {"v3": "no frames"} and opened.failed.nonzero()[0].tolist() == [6, 7]
    assert opened.finished and opened.clips == 10 and opened.token_shape == (4, 6) and opened.grid == (1, 2, 2)
    assert opened.rows["video_id"].tolist() == [f"v{i // 2}" for i in range(10)]
    assert opened.snapshot.dataset == "test" and opened.snapshot.tasks["covid"]["classes"] == ["no", "yes"]


@pytest.mark.parametrize("rows", [[9, 0, 5], [3, 3, 2], [1], [], [0, 1, 2, 3], [8, 9, 0]])
def test_any_order_of_rows(store, rows):
    everything = {row: store.tokens([row])[0] for row in GOOD}
    picked = store.tokens(np.array(rows, np.int64))
    assert picked.shape == (len(rows), 4, 6)
    for got, row in zip(picked, rows, strict=True):
        np.testing.assert_array_equal(got, everything[row])


def test_any_zarr_reader(store):
    group = zarr.open_group(store.path, mode="r")
    assert group.metadata.zarr_format == 3
    arrays = {name: array[...] for name, array in group.arrays()}
    assert set(arrays) == {"tokens", "preview", "video", *CLIP_ARRAYS}
    assert arrays["tokens"].dtype == np.float16 and arrays["pooled"].dtype == np.float32
    assert arrays["complete"].dtype == bool and arrays["preview"].dtype == np.uint8
    assert np.isnan(arrays["tokens"][6]).all()  # a reader that does not ask `complete` sees no plausible numbers
    assert group["tokens"].chunks == (1, 4, 6) and group["complete"].chunks == (10,)
    assert {name: len(array[...]) for name, array in group["rows"].arrays()}["segment"] == 10
    assert set(group["manifest"].array_keys()) == {"video_id", "path", "patient", "source"}
    assert dict(group.attrs)["key"] == KEY and len(group.attrs["key_digest"]) == 64


@pytest.mark.parametrize("rows", [[6], [0, 7], range(10)])
@pytest.mark.parametrize("what", ["tokens", "pooled", "previews"])
def test_unreadable_clips_are_no_zeros(store, rows, what):
    with pytest.raises(InputError, match=r"of the clips asked for hold no .*first: v3"):
        getattr(store, what)(list(rows))


@pytest.mark.parametrize(("rows", "named"), [([-1], -1), ([0, 500], 500), ([10], 10)])
@pytest.mark.parametrize("what", ["tokens", "pooled", "previews"])
def test_rows_that_are_not_there(store, rows, named, what):
    with pytest.raises(InputError, match=rf"a\.zarr has the rows 0 to 9; there is no row {named}\."):
        getattr(store, what)(rows)


def test_unwritten_clips_are_no_zeros(tmp_path, create, block):
    store = create(tmp_path / "b.zarr")
    store.write(block(0, 4))
    assert store.tokens([3]).shape == (1, 4, 6)
    with pytest.raises(InputError, match="hold no tokens"):
        store.tokens([3, 4])
    with pytest.raises(
        InputError, match=r"b.zarr holds 4 of 10 clips: its extraction was stopped half-way. Run the same"
    ):
        TokenStore.open(store.path)
    assert TokenStore.open(store.path, unfinished=True).complete.sum() == 4
    with pytest.raises(RunError, match="2 blocks are not written"):
        store.finish()


def test_another_key_is_named(store):
    other = {"encoder": {"weights": "sha256:2", "seed": 0}, "clips": {"size": 64, "fps": None}, "layer": "last"}
    with pytest.raises(InputError) as caught:
        TokenStore.open(store.path, other)
    message = str(caught.value)
    assert "clips.size: is 32, expected 64" in message
    assert "encoder.weights: is 'sha256:1', expected 'sha256:2'" in message
    assert "layer: is 'absent', expected 'last'" in message
    assert "seed" not in message


def test_another_schema(store):
    zarr.open_group(store.path).attrs["schema_version"] = 7
    with pytest.raises(InputError, match="schema version 7, and this version of echolung reads 1"):
        TokenStore.open(store.path)


@pytest.mark.parametrize("writing", [False, True])
def test_what_is_no_store_is_left_alone(tmp_path, writing):
    (tmp_path / "mine" / "backup.old").mkdir(parents=True)
    (tmp_path / "mine" / "draft.new").mkdir()
    (tmp_path / "mine" / "x.partial").write_text("precious")
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "nothing", tmp_path / "mine", tmp_path / "file"):
        with pytest.raises(InputError, match="There is no token store at"):
            TokenStore.open(path, writing=writing)
    zarr.create_group(tmp_path / "mine" / "group").create_group("a.old")
    with pytest.raises(InputError, match="is a Zarr group, but no token store"):
        TokenStore.open(tmp_path / "mine" / "group", writing=writing)
    assert len(list((tmp_path / "mine").iterdir())) == 4
    assert (tmp_path / "mine" / "group" / "a.old").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 65520.0, -1e9])
def test_what_float16_cannot_hold_is_refused_whole(tmp_path, create, block, bad):
    store = create(tmp_path / "b.zarr")
    before = {p: p.read_bytes() for p in store.path.rglob("*") if p.is_file()}
    ill = block(4, 4)
    ill.tokens[2, 1, 3] = bad
    with pytest.raises(RunError, match=r"float16 cannot hold .* for v3"):
        store.write(ill)
    assert {p: p.read_bytes() for p in store.path.rglob("*") if p.is_file()} == before
    ill.errors[2] = "unreadable, so its black frames' tokens do not matter"
    store.write(ill)
    assert store.complete.tolist() == [False] * 4 + [True, True, False, True] + [False] * 2


def test_the_largest_float16_is_fine(tmp_path, create, block):
    store = create(tmp_path / "b.zarr")
    large = block(0, 4)
    large.tokens[:] = 65504
    store.write(large)
    assert (store.pooled([0]) == 65504).all()


def damage(path, change):
    (file,) = [p for p in path.rglob("*") if p.is_file()]
    file.write_bytes(change(file.read_bytes()))


@pytest.mark.parametrize("where", [0, 17, -6, -1])
def test_a_flipped_bit_is_an_error(store, where):
    def flip(data):
        data = bytearray(data)
        data[where] ^= 4
        return bytes(data)

    damage(store.path / "tokens" / "c" / "1", flip)
    for rows in ([1], [0, 1], [5, 1]):
        with pytest.raises(RunError, match="tokens is damaged on disk"):
            store.tokens(rows)
    assert store.tokens([0]).shape == (1, 4, 6)
    damage(store.path / "pooled" / "c", flip)
    with pytest.raises(RunError, match="pooled is damaged on disk"):
        store.pooled([0])


@pytest.mark.parametrize("kept", [0, 3, 20, -1])
def test_a_chunk_cut_short_is_an_error(store, kept):
    damage(store.path / "tokens" / "c" / "1", lambda data: data[:kept])
    with pytest.raises(RunError, match="tokens is damaged on disk"):
        store.tokens([1])


@pytest.mark.parametrize("name", ["tokens", "pooled"])
def test_a_file_that_is_missing_is_an_error(store, name):
    shutil.rmtree(store.path / name / "c")
    with pytest.raises(RunError, match=f"files of the array {name} are missing"):
        getattr(store, name)([0])


def test_no_preview(tmp_path, create, block):
    store = create(tmp_path / "b.zarr", preview=False)
    store.write(block(0, 4))
    assert not (store.path / "preview").exists()
    with pytest.raises(InputError, match="made with --no-preview"):
        store.previews([0])


def test_nothing_is_overwritten_and_nothing_half_laid_out(store, create, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="There is something at"):
        create(store.path)
    with monkeypatch.context() as patch:
        patch.setattr("echolung.cache.store.write_table", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            create(tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()
    assert create(tmp_path / "b.zarr").clips == 10
    assert not (tmp_path / "b.zarr.building").exists()


def test_no_room(tmp_path, create, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(InputError, match=r"needs 1 MB and .* has 1 kB free. Free some space, or name"):
        create(tmp_path / "b.zarr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails_at", ["tokens", "frames", "complete"])
def test_a_full_disk_loses_nothing(tmp_path, create, block, fails_at, monkeypatch):
    store = create(tmp_path / "b.zarr")
    store.write(block(0, 4))
    original = zarr.storage.LocalStore.set

    async def full(self, key, value):
        if key.startswith(f"{fails_at}/"):
            raise OSError(errno.ENOSPC, "No space left on device")
        await original(self, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "set", full)
        with pytest.raises(RunError, match=r"The disk is full: b.zarr stopped at 4 of 10 clips, which are safe"):
            store.write(block(4, 4))
    again = TokenStore.open(store.path, KEY, writing=True)
    assert again.unfinished_blocks() == [4, 8]
    again.write(block(4, 4))
    again.write(block(8, 2))
    with monkeypatch.context() as patch:
        fails_at = "error.new"
        patch.setattr(zarr.storage.LocalStore, "set", full)
        with pytest.raises(RunError, match=r"The disk is full: b.zarr stopped at 10 of 10"):
            again.finish()
    TokenStore.open(store.path, KEY, writing=True).finish()
    assert TokenStore.open(store.path, KEY).tokens(range(10)).shape == (10, 4, 6)


def test_a_read_only_disk_is_not_called_full(tmp_path, create, block, monkeypatch):
    async def read_only(self, key, value):
        raise OSError(errno.EROFS, "Read-only file system")

    store = create(tmp_path / "b.zarr")
    monkeypatch.setattr(zarr.storage.LocalStore, "set", read_only)
    with pytest.raises(OSError, match="Read-only"):
        store.write(block(0, 4))


def test_clips_that_are_there_stay_as_they_are(store, block):
    writable = TokenStore.open(store.path, writing=True)
    writable.reopen(np.array([1]))
    assert not writable.finished and writable.unfinished_blocks() == [0]
    assert (~writable.complete).nonzero()[0].tolist() == [1, 6, 7]
    old = store.tokens([0, 2])
    writable.write(block(0, 4, seed=1, errors=["gone", "", "", "gone"]))
    writable.finish()
    np.testing.assert_array_equal(writable.tokens([0, 2]), old)
    np.testing.assert_array_equal(writable.tokens([1])[0], block(0, 4, seed=1).tokens[1].astype(np.float16))
    assert writable.group["source_digest"][:3].tolist() == ["digest 0 0", "digest 1 1", "digest 0 2"]
    assert writable.failures == {"v3": "no frames"}


def test_an_unreadable_clip_can_be_tried_again(store, block):
    writable = TokenStore.open(store.path, writing=True)
    writable.reopen(np.array([6, 7]))
    assert writable.failures == {} and writable.unfinished_blocks() == [4]
    writable.write(block(4, 4))
    writable.finish()
    assert writable.tokens(range(10)).shape == (10, 4, 6)


def test_replaced_snapshot(store):
    writable = TokenStore.open(store.path, writing=True)
    videos = writable.snapshot.videos.assign(grade=[1.0, np.nan, 2.0, 0.0, 3.5])
    writable.replace_snapshot(Snapshot("test", videos, {"grade": {"kind": "regression"}}))
    writable.finish()
    again = TokenStore.open(store.path).snapshot
    pd.testing.assert_frame_equal(again.videos, videos, check_dtype=False)
    assert again.tasks == {"grade": {"kind": "regression"}}
    assert not list(store.path.glob("*.new")) and not list(store.path.glob("*.old"))


def test_touched_files(store):
    writable = TokenStore.open(store.path, writing=True)
    writable.record_mtimes(np.arange(10))
    assert TokenStore.open(store.path).group["source_mtime"][:].tolist() == list(range(10))


def test_copied_clips(store, create, tmp_path, block):
    larger = create(tmp_path / "larger.zarr", clips=14, block=3)
    assert copy_clips(store, larger) == 8
    np.testing.assert_array_equal(larger.tokens(GOOD), store.tokens(GOOD))
    np.testing.assert_array_equal(larger.pooled(GOOD), store.pooled(GOOD))
    np.testing.assert_array_equal(larger.previews(GOOD), store.previews(GOOD))
    for name in (*CLIP_ARRAYS, "video"):
        np.testing.assert_array_equal(larger.group[name][:][GOOD], store.group[name][:][GOOD])
    assert larger.failures == {} and larger.unfinished_blocks() == [6, 9, 12]
    assert copy_clips(store, create(tmp_path / "less.zarr", clips=4, preview=False)) == 4


def test_facts_of_the_videos(store, block):
    facts = store.video_facts
    assert facts.columns.tolist() == ["frames", "height", "width", "fps"] and facts.index.tolist()[:2] == ["v0", "v1"]
    np.testing.assert_array_equal(facts.loc["v1"], block(0, 4).video[2])


def test_a_store_made_before_there_were_facts(tmp_path, create, block):
    old = create(tmp_path / "old.zarr", video=False)
    for start, count in ((0, 4), (4, 4), (8, 2)):
        old.write(block(start, count))
    old.finish()
    opened = TokenStore.open(old.path)
    assert opened.video_facts is None and "video" not in opened.group and not verify(old.path).damages
    larger = create(tmp_path / "larger.zarr", clips=14, video=False)
    assert copy_clips(opened, larger) == 10
    export_store(old.path, tmp_path / "old.h5")
    assert import_store(tmp_path / "old.h5", tmp_path / "again.zarr").video_facts is None
