"""Run again: nothing to do without torch; what changed is encoded again and nothing else; no old token is reused."""

import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr

from echolung.cache import TokenStore
from echolung.clips import ClipPlan
from echolung.clips.workers import CRASHED, TIMED_OUT
from echolung.errors import DecodeError, InputError
from echolung.extraction import run
from echolung.extraction.sources import finished_store

CLIPS = ClipPlan(segments=2, frames=4, size=32)

LOOK = """
import sys
from pathlib import Path
from echolung.clips import ClipPlan
from echolung.datasets import load_manifest
from echolung.encoders.identity import identify
from echolung.extraction import make_plan
from echolung.extraction.sources import finished_store
path = Path(sys.argv[2]) if len(sys.argv) > 2 else None
plan = make_plan(
    load_manifest("table", sys.argv[1]), identify("random:vit_tiny"), ClipPlan(2, 4, size=32), precision="auto", path=path
)
store = finished_store(plan)
print(store is not None, plan.precision, "torch" in sys.modules)
"""


@pytest.fixture
def encoded(monkeypatch):
    """Return a list that collects how many clips that are not black each batch held."""
    counts, original = [], run.encode

    def counting(encoder, clips, precision):
        counts.append(int(clips.any(axis=(1, 2, 3, 4)).sum()))
        return original(encoder, clips, precision)

    monkeypatch.setattr(run, "encode", counting)
    return counts


@pytest.mark.parametrize("named", [False, True])
def test_nothing_to_do_and_no_torch(dataset, extract, tmp_path, named):
    path = tmp_path / "named.zarr" if named else None
    plan = dataset.plan(path)
    extract(plan)
    arguments = [sys.executable, "-c", LOOK, str(dataset.folder / "videos.csv"), *([str(path)] if named else [])]
    answer = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert answer == ["True", "float32", "False"]


def test_nothing_is_encoded_twice(dataset, extract, encoded):
    plan = dataset.plan()
    extract(plan)
    assert sum(encoded) == 10
    extract(plan)
    assert sum(encoded) == 10
    assert finished_store(plan) is not None and finished_store(plan, rehash=True) is not None


def test_touched_is_not_changed(dataset, extract, encoded):
    plan = dataset.plan()
    store = extract(plan)
    os.utime(dataset.folder / "v2.mp4", ns=(1, 1))
    assert finished_store(plan) is None  # to write down the new time
    extract(plan)
    assert sum(encoded) == 10
    assert TokenStore.open(store.path).group["source_mtime"][4:6].tolist() == [1, 1]
    assert finished_store(plan) is not None


def test_a_changed_file_alone_is_encoded_again(dataset, extract, encoded, arrays, tmp_path):
    plan = dataset.plan(tmp_path / "a.zarr")
    before = arrays(extract(plan).path)
    del encoded[:]
    dataset.write_video("v2", seed=8)
    said = []
    extract(plan, said)
    assert sum(encoded) == 2 and "Changed on disk, so encoded again: v2." in said
    after, fresh = arrays(plan.path), arrays(extract(dataset.plan(tmp_path / "fresh.zarr")).path)
    for name in fresh:
        np.testing.assert_array_equal(after[name], fresh[name], err_msg=name)
    assert (after["tokens"][4] != before["tokens"][4]).any()
    assert finished_store(plan) is not None


def test_another_set_of_videos_under_the_same_names(dataset, extract, encoded, arrays):
    plan = dataset.plan()
    before = arrays(extract(plan).path)
    for name, seed in (("v0", 6), ("v1", 7)):
        dataset.write_video(name, seed)
    assert extract(plan).complete.all() and sum(encoded) == 14  # two of five may well have been mended
    before = arrays(plan.path)
    for name in ("v2", "v3", "v4"):
        dataset.write_video(name, seed=9)
    refused = r"another set of videos under the same names .*: 3 of 5 .*\(first: v2\)\. Name another store with --store"
    with pytest.raises(InputError, match=refused):
        extract(plan)
    dataset.write_video("v5", seed=5)  # nor are they mixed where the other set is larger
    dataset.labels["v5"] = "b"
    dataset.write_table()
    with pytest.raises(InputError, match=refused):
        extract(dataset.plan(plan.path))
    after = arrays(plan.path)
    assert after.keys() == before.keys() and sum(encoded) == 14
    for name in before:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)


def test_the_only_video_may_change(dataset, extract, encoded):
    (dataset.folder / "videos.csv").write_text("path\nv0.mp4\n")
    plan = dataset.plan()
    extract(plan)
    dataset.write_video("v0", seed=9)
    assert extract(plan).complete.all() and sum(encoded) == 4


def test_grown_and_changed(dataset, extract, encoded):
    plan = dataset.plan()
    old = extract(plan).tokens(range(10))
    dataset.write_video("v0", seed=9)
    dataset.write_video("v5", seed=5)
    dataset.labels["v5"] = "b"
    dataset.write_table()
    store = extract(dataset.plan(plan.path))
    assert store.complete.all() and sum(encoded) == 14
    assert (store.tokens([0]) != old[0]).any()
    np.testing.assert_array_equal(store.tokens(range(2, 10)), old[2:])


def test_rehash_sees_what_size_and_time_hide(dataset, extract, encoded):
    plan = dataset.plan()
    store = extract(plan)
    file = dataset.folder / "v1.mp4"
    stat, data = file.stat(), bytearray(file.read_bytes())
    data[-10] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert finished_store(plan) is not None
    assert finished_store(plan, rehash=True) is None
    old = store.group["source_digest"][2]
    extract(plan, rehash=True)
    assert sum(encoded) == 12
    assert TokenStore.open(plan.path).group["source_digest"][2] != old


def test_a_mended_video_is_read_again(dataset, extract, encoded):
    file, whole = dataset.folder / "v1.mp4", (dataset.folder / "v1.mp4").read_bytes()
    file.write_bytes(whole[:500])
    plan = dataset.plan()
    assert set(extract(plan).failures) == {"v1"}
    assert finished_store(plan) is not None and finished_store(plan, strict=True) is None
    assert finished_store(plan, retry=True) is None
    file.write_bytes(whole)
    assert finished_store(plan) is None
    assert extract(plan).failures == {}
    assert sum(encoded) == 10 and finished_store(plan, strict=True) is not None


def test_retry(dataset, extract, encoded):
    (dataset.folder / "v1.mp4").write_text("no video")
    plan = dataset.plan()
    extract(plan)
    said = []
    assert set(extract(plan, said, retry=True).failures) == {"v1"}
    assert any(line.startswith("Left out v1") for line in said) and sum(encoded) == 8


@pytest.mark.parametrize("fault", ["hang", "crash"])
def test_what_may_be_the_machines_fault_is_tried_again(dataset, extract, encoded, monkeypatch, fault):
    (dataset.folder / "v1.mp4").write_text("no video")
    reason = {"hang": f"{TIMED_OUT} 120 s and was ended", "crash": f"{CRASHED} (exit code -9)"}[fault]
    tried, original = [], run.prepare_video

    def failing(path, video, *rest):
        tried.append(video)
        if video == "v2":
            raise DecodeError(reason)
        return original(path, video, *rest)

    plan = dataset.plan()
    monkeypatch.setattr(run, "prepare_video", failing)
    store = extract(plan)
    assert set(store.failures) == {"v1", "v2"} and finished_store(plan) is None
    del tried[:]
    assert extract(plan).failures == store.failures and tried == ["v2"]  # once a run, and not v1
    monkeypatch.setattr(run, "prepare_video", original)
    assert set(extract(plan).failures) == {"v1"} and sum(encoded) == 8
    assert finished_store(plan) is not None


def test_the_dataset_grew(dataset, extract, encoded, arrays, tmp_path):
    plan = dataset.plan(tmp_path / "a.zarr")
    before = arrays(extract(plan).path)
    dataset.write_video("v5", seed=5)
    dataset.labels = {"v5": "a", **dataset.labels}  # in front: every row moves
    dataset.write_table()
    plan = dataset.plan(plan.path)
    assert finished_store(plan) is None
    said = []
    store = extract(plan, said)
    assert "The dataset grew from 5 to 6 videos; 10 clips are kept." in said
    assert sum(encoded) == 12 and store.complete.all()
    assert store.rows["video_id"][0] == "v5"
    after, fresh = arrays(plan.path), arrays(extract(dataset.plan(tmp_path / "fresh.zarr")).path)
    np.testing.assert_array_equal(after["tokens"][2:], before["tokens"])
    for name in fresh.keys() - {"tokens", "pooled"}:
        np.testing.assert_array_equal(after[name], fresh[name], err_msg=name)
    np.testing.assert_allclose(after["pooled"], fresh["pooled"], atol=1e-4)  # another batch, other last bits
    assert not list(tmp_path.glob("*.grown")) and not list(tmp_path.glob("*.replaced"))


def test_killed_while_growing(dataset, extract, tmp_path):
    plan = dataset.plan(tmp_path / "a.zarr")
    extract(plan)
    plan.path.rename(tmp_path / "a.zarr.replaced")
    shutil.copytree(tmp_path / "a.zarr.replaced", tmp_path / "a.zarr.grown")
    assert extract(plan).complete.all()
    assert not (tmp_path / "a.zarr.replaced").exists()


def test_the_dataset_shrank(dataset, extract, encoded):
    plan = dataset.plan()
    store = extract(plan)
    old = store.tokens(range(10))
    (dataset.folder / "v1.mp4").unlink()
    del dataset.labels["v1"]
    dataset.labels["v4"] = "b"
    dataset.write_table()
    dataset.write_video("v0", seed=7)  # v0 and v1 share a block
    plan = dataset.plan(plan.path)
    said = []
    again = extract(plan, said)
    assert "No longer on disk, their tokens stay in the store: v1." in said
    np.testing.assert_array_equal(again.tokens(range(2, 10)), old[2:])
    assert (again.tokens([0]) != old[0]).any()
    labels = again.snapshot.videos.set_index("video_id")["kind"].to_dict()
    assert labels == {"v0": "a", "v1": "b", "v2": "a", "v3": "b", "v4": "b"}
    assert finished_store(plan) is not None


def test_shrunk_before_it_was_finished(dataset, extract, monkeypatch):
    plan = dataset.plan()

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "encode", stop)
        with pytest.raises(KeyboardInterrupt):
            extract(plan)
    (dataset.folder / "v1.mp4").unlink()
    del dataset.labels["v1"]
    dataset.write_table()
    store = extract(dataset.plan(plan.path))
    assert set(store.failures) == {"v1"} and store.complete.sum() == 8


def test_grown_and_shrunk_is_refused(dataset, extract):
    plan = dataset.plan()
    extract(plan)
    dataset.labels = {"v9": "a", **{name: label for name, label in dataset.labels.items() if name != "v1"}}
    dataset.write_video("v9", seed=9)
    dataset.write_table()
    with pytest.raises(InputError, match="drifted apart: the store alone has v1, the dataset alone v9"):
        extract(dataset.plan(plan.path))


def test_new_labels_need_no_encoding(dataset, extract, encoded):
    plan = dataset.plan()
    store = extract(plan)
    dataset.labels["v0"] = "b"
    dataset.write_table()
    plan = dataset.plan(store.path)
    assert finished_store(plan) is None
    again = extract(plan)
    assert sum(encoded) == 10
    assert again.snapshot.videos["kind"].tolist() == list("bbaba")
    assert finished_store(plan) is not None


OTHERS = {
    "clips.size: is 32, expected 48": {"clips": ClipPlan(2, 4, size=48)},
    "clips.stride: is 1, expected 2": {"clips": ClipPlan(2, 4, stride=2, size=32)},
    "clips.segments: is 2, expected 3": {"clips": ClipPlan(3, 4, size=32)},
    "clips.fps: is 'absent', expected 10.0": {"clips": ClipPlan(2, 4, size=32, fps=10.0)},
    "encoder.seed: is 0, expected 1": {"encoder": "random:vit_tiny@1"},
    "precision: is 'float32', expected 'bfloat16'": {"precision": "bfloat16"},
    "decoder..mp4: is 'decord": {"decoder": "av"},
    "dataset.transducer: is 'absent', expected 'linear'": {"options": {"transducer": "linear"}},
}
"""What the error says -> what is asked for."""


def test_no_old_token_under_another_key(dataset, extract):
    plan = dataset.plan()
    extract(plan)
    for field, options in OTHERS.items():
        other = dataset.plan(**options)
        assert other.path != plan.path and finished_store(other) is None
        named = dataset.plan(plan.path, **options)
        for look in (finished_store, extract):
            with pytest.raises(InputError, match=f"was made with another key;.*{re.escape(field)}"):
                look(named)


def test_another_checkpoint_of_the_same_name(dataset, tmp_path):
    from echolung.encoders import load_encoder, save_encoder

    plans = []
    for seed in (0, 1):
        save_encoder(tmp_path / "mine.safetensors", load_encoder(f"random:vit_tiny@{seed}"))
        time.sleep(0.01)
        plans.append(dataset.plan(encoder=str(tmp_path / "mine.safetensors")))
    assert plans[0].path != plans[1].path
    assert plans[0].key["encoder"]["weights"] != plans[1].key["encoder"]["weights"]


def test_precision_of_a_store_begun(dataset, extract, tmp_path):
    plan = dataset.plan(tmp_path / "a.zarr")
    store = extract(plan)
    zarr.open_group(store.path).attrs["finished"] = False  # as one that was killed
    assert dataset.plan(plan.path, precision="auto").precision == "float32"
    assert extract(dataset.plan(plan.path, precision="auto")).finished
    assert dataset.plan(plan.path, precision="auto").precision == "float32"


def test_unknown_precision(dataset):
    with pytest.raises(InputError, match="no precision 'half'; there are auto, float32 and bfloat16"):
        dataset.plan(precision="half")


def test_a_path_that_is_something_else(dataset, extract, tmp_path):
    (tmp_path / "mine" / "photos.old").mkdir(parents=True)
    plan = dataset.plan(tmp_path / "mine")
    for look in (finished_store, extract):
        with pytest.raises(InputError, match="There is no token store at"):
            look(plan)
    assert (tmp_path / "mine" / "photos.old").exists()
