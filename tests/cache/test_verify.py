"""Whatever byte of a store is altered, whichever file is gone or cut short: `verify` says so, and says where."""

import json
import math

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echolung.cache import TokenStore
from echolung.cache.hdf5 import export_store, import_store
from echolung.cache.verify import verify
from echolung.errors import InputError

KEY = {"encoder": {"weights": "sha256:1"}, "clips": {"size": 32, "fps": None, "frames": 5}}
KINDS = {
    "plain": {},
    "sharded": {"sharded": True},
    "no preview": {"preview": False},
    "pooled only": {"tokens": 0, "grid": (0, 0, 0)},
}


@pytest.fixture(scope="module")
def stores(create, block, tmp_path_factory):
    """Return a finished store of each kind and an unfinished one: clips 6 and 7 are of an unreadable video."""
    made = {}
    for name, options in {**KINDS, "unfinished": {}}.items():
        store = create(tmp_path_factory.mktemp("store") / "a.zarr", key=KEY, **options)
        for start, count in ((0, 4), (4, 4), (8, 2)):
            if (name, start) != ("unfinished", 8):
                store.write(block(start, count, errors=["", "", "no frames", "no frames"] if start == 4 else None))
        if name != "unfinished":
            store.finish()
        made[name] = store.path
    return made


def files_of(path):
    return sorted(file for file in path.rglob("*") if file.is_file())


def nothing_changed(before, after):
    """Whether two texts of a zarr.json say the same, but for what changes no number."""

    def told(text):
        document = json.loads(text)
        for name in ("created_by", "seal"):
            document.get("attributes", {}).pop(name, None)
        return document

    try:
        old, new = told(before), told(after)
    except (ValueError, AttributeError):
        return False
    return old.items() <= new.items() and old["attributes"].items() <= new["attributes"].items()


def test_a_sound_store(stores):
    for name, path in stores.items():
        counted, begun = [], []
        found = verify(path, lambda *counts, b=begun: b.append(counts), counted.append)
        assert found.damages == ()
        assert (found.clips, found.complete) == (10, 6 if name == "unfinished" else 8)
        assert found.bytes == sum(file.stat().st_size for file in files_of(path))
        assert begun == [(0, 10)] and sum(counted) == (0 if name == "pooled only" else 10)
        assert any("Unfinished: 6 of 10" in note for note in found.notes) == (name == "unfinished")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from([*KINDS, "unfinished"]),
    file=st.floats(0, 1, exclude_max=True),
    place=st.floats(0, 1, exclude_max=True),
    mask=st.integers(1, 255),
)
def test_any_byte_altered_is_found_and_named(stores, kind, file, place, mask):
    path = stores[kind]
    files = files_of(path)
    chosen = files[math.floor(file * len(files))]
    before = chosen.read_bytes()
    altered = bytearray(before)
    altered[math.floor(place * len(before))] ^= mask
    chosen.write_bytes(altered)
    try:
        damages = verify(path).damages
    finally:
        chosen.write_bytes(before)
    name = str(chosen.relative_to(path))
    if not damages:
        assert chosen.name == "zarr.json" and nothing_changed(before, bytes(altered)), name
    elif chosen.name != "zarr.json" or chosen.parent != path:
        assert any(damage.array and name.startswith(damage.array) for damage in damages), (name, damages)


@pytest.mark.parametrize("how", ["gone", "cut", "longer", "empty"])
@pytest.mark.parametrize("kind", ["plain", "sharded"])
def test_any_file_gone_or_of_another_length(stores, kind, how):
    path = stores[kind]
    for file in files_of(path):
        before = file.read_bytes()
        file.unlink()
        if how != "gone":
            file.write_bytes({"cut": before[: len(before) // 2], "longer": before + b"!!", "empty": b""}[how])
        try:
            assert verify(path).damages, file
        finally:
            file.write_bytes(before)


def test_the_clip_and_the_video_are_named(stores):
    path = stores["sharded"]
    shard = path / "tokens" / "c" / "1" / "0" / "0"
    before = shard.read_bytes()
    altered = bytearray(before)
    altered[4 * 6 * 2 + 4 + 10] ^= 1  # in the second clip of the shard
    shard.write_bytes(altered)
    (damage,) = verify(path).damages
    shard.write_bytes(before)
    assert (damage.array, damage.rows, damage.videos) == ("tokens", (5,), ("v2",))
    assert "checksum does not match" in damage.what


def test_wrong_values_under_right_checksums(store):
    tokens, pooled = store.array("tokens"), store.array("pooled")
    values = tokens[1]
    values[2, 3] = np.inf
    tokens[1] = values
    tokens[3] = tokens[3] + np.float16(0.1)
    pooled[8] = pooled[8] * np.float32(1.01)
    store.array("frames")[9] = -1
    found = {(damage.array, damage.rows) for damage in verify(store.path).damages}
    assert found == {("tokens", (1,)), ("pooled", (3, 8)), ("frames", (9,))}


def test_the_mean_of_large_and_small_tokens_is_within_rounding(create, block, tmp_path):
    from dataclasses import replace

    random = np.random.default_rng(0)
    for number, scale in enumerate((1e-7, 1e-4, 1.0, 1e4)):
        store = create(tmp_path / f"{number}.zarr", clips=4)
        tokens = (scale * random.normal(size=(4, 4, 6))).astype(np.float32)
        store.write(replace(block(0, 4), tokens=tokens))
        store.finish()
        assert not verify(store.path).damages


def test_tables_and_states_that_contradict_each_other(stores, create, block, tmp_path):
    store = create(tmp_path / "a.zarr", clips=4)
    store.write(block(0, 4))
    store.finish()
    store.array("error")[:] = np.array(["", "bad", "", ""], object)
    store.group["rows/video_id"][:] = np.array(["v0", "v0", "v0", "v1"], object)
    found = {damage.array: damage.what for damage in verify(store.path).damages}
    assert "marked as unreadable" in found["complete"]
    assert "same video, segment and view" in found["rows"]


@pytest.mark.parametrize("kind", ["plain", "sharded"])
def test_black_clips_are_not_lost_ones(create, block, tmp_path, kind):
    from dataclasses import replace

    store = create(tmp_path / "a.zarr", key=KEY, **KINDS[kind])
    for start, count in ((0, 4), (4, 4), (8, 2)):
        black = replace(block(start, count), previews=np.zeros((count, 8, 112, 112), np.uint8))
        store.write(black if start == 4 else block(start, count))
    store.finish()
    assert not verify(store.path).damages
    export_store(store.path, tmp_path / "a.h5")
    assert not verify(import_store(tmp_path / "a.h5", tmp_path / "b.zarr").path).damages
    (store.path / "preview" / "c" / "1" / "0" / "0" / "0").unlink()
    found = verify(store.path).damages
    assert {damage.array for damage in found} == {"preview"}
    assert sorted(row for damage in found for row in damage.rows) == [4, 5, 6, 7]


def test_a_store_from_before_there_were_seals(store, tmp_path):
    for name in ("", "rows", "manifest"):
        group = zarr.open_group(store.path / name)
        new = ("seal", "batch", "sharded")
        group.attrs.put({name: value for name, value in group.attrs.items() if name not in new})
    (store.path / "rows" / "view" / "c" / "0").unlink()  # nothing but zeros, which had no file
    (store.path / "preview" / "c" / "2" / "0" / "0" / "0").unlink()  # as of black clips
    found = verify(store.path)
    assert not found.damages
    assert any("rows/view holds nothing but zeros" in note for note in found.notes)
    assert any("no preview" in note for note in found.notes)
    export_store(store.path, tmp_path / "a.h5")
    back = import_store(tmp_path / "a.h5", tmp_path / "b.zarr")
    assert dict(back.group.attrs) == dict(TokenStore.open(store.path).group.attrs)
    assert (back.batch, back.sharded) == (4, False) and not verify(back.path).damages


def test_files_that_belong_to_nothing(store):
    for name in ("notes.txt", "tokens/c/99/0/0", "tokens/c/1/0/0.partial"):
        (store.path / name).parent.mkdir(parents=True, exist_ok=True)
        (store.path / name).write_text("x")
    damages = verify(store.path).damages
    assert {damage.array for damage in damages} == {"notes.txt", "tokens/c/99/0/0", "tokens/c/1/0/0.partial"}
    assert {damage.kind for damage in damages} == {"stray"}


def test_no_store(tmp_path):
    with pytest.raises(InputError, match="There is no token store"):
        verify(tmp_path)
    zarr.create_group(tmp_path / "foreign.zarr")
    with pytest.raises(InputError, match=r"There is no token store|no token store of schema version"):
        verify(tmp_path / "foreign.zarr")


def test_a_key_that_was_edited(store):
    group = zarr.open_group(store.path)
    group.attrs["key"] = {**group.attrs["key"], "layer": "first"}
    (damage,) = verify(store.path).damages
    assert damage.kind == "attributes"
    assert TokenStore.open(store.path).key["layer"] == "first"
