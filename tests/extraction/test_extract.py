"""The store holds what a plain loop computes, and says what it could not read."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import zarr
from filelock import FileLock

from echolung.cache import TokenStore
from echolung.clips import ClipPlan, decode, sample
from echolung.clips.prepare import prepare, preview
from echolung.encoders import load_encoder, normalise
from echolung.errors import InputError, RunError
from echolung.extraction import run
from echolung.settings import home


def plain_loop(plan, block):
    """Decode, sample, crop, normalise, encode: nothing ahead, nothing parallel; the last batch is shorter."""
    encoder = load_encoder("random:vit_tiny")
    clips, frames = [], []
    for row, name in enumerate(plan.manifest.videos["video_id"]):
        video = decode(plan.manifest.file(row))
        for window in sample(len(video), plan.clips, name):
            clips.append(prepare(video[window.frames], window, plan.clips))
            frames.append(window.frames)
    tokens = []
    for start in range(0, len(clips), block):
        with torch.inference_mode():
            batch = torch.from_numpy(np.stack(clips[start : start + block]))
            tokens.append(encoder(normalise(batch)).numpy())
    return np.concatenate(tokens), np.stack(clips), np.stack(frames)


@pytest.mark.parametrize("views", [0, 1])
def test_against_a_plain_loop(dataset, extract, views):
    plan = dataset.plan(clips=ClipPlan(segments=2, frames=4, size=32, views=views))
    store = extract(plan, workers=2)
    tokens, clips, frames = plain_loop(plan, 3)
    everything = range(store.clips)
    assert store.clips == 10 * (1 + views) and store.grid == (2, 2, 2) and store.token_shape == (8, 192)
    np.testing.assert_array_equal(store.tokens(everything), tokens.astype(np.float16))
    np.testing.assert_array_equal(store.pooled(everything), tokens.mean(axis=1, dtype=np.float64).astype(np.float32))
    np.testing.assert_array_equal(store.previews(everything), [preview(clip) for clip in clips])
    np.testing.assert_array_equal(store.group["frames"][:], frames)
    assert np.ptp(tokens, axis=0).max() > 0.1  # the clips differ, so a mixed-up order would show
    sizes = [f.stat().st_size for f in sorted(dataset.folder.glob("*.mp4")) for _ in range(plan.clips.clips)]
    assert store.group["source_size"][:].tolist() == sizes
    assert store.rows["segment"].tolist() == [s for _ in range(5) for s in (0, 1) for _ in range(1 + views)]
    assert store.snapshot.videos["kind"].tolist() == list("ababa")
    assert store.path.parent == home() / "stores" and store.key == plan.key
    assert store.group.attrs["created_by"]["device"] == "cpu"


def test_number_of_workers_changes_nothing(dataset, extract, arrays, tmp_path):
    one, more = extract(dataset.plan(tmp_path / "1.zarr")), extract(dataset.plan(tmp_path / "2.zarr"), workers=3)
    expected, found = arrays(one.path), arrays(more.path)
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_no_preview(dataset, extract):
    assert "preview" not in extract(dataset.plan(), preview=False).group


def test_unreadable_videos(dataset, extract, arrays):
    (dataset.folder / "v1.mp4").write_text("no video")
    (dataset.folder / "v3.mp4").write_bytes((dataset.folder / "v3.mp4").read_bytes()[:900])
    said = []
    plan = dataset.plan()
    store = extract(plan, said)
    assert set(store.failures) == {"v1", "v3"}
    assert "v1.mp4" in store.failures["v1"]
    assert sum(line.startswith(("Left out v1: ", "Left out v3: ")) for line in said) == 2
    assert store.complete.tolist() == [True, True, False, False] * 2 + [True, True]
    with pytest.raises(InputError, match="hold no tokens"):
        store.tokens([0, 2])
    with pytest.raises(RunError, match="The video v1 cannot be read, and --strict was asked for"):
        extract(plan, strict=True)  # of an earlier run, too
    assert set(TokenStore.open(plan.path).failures) == {"v1", "v3"}


def test_strict(dataset, extract):
    (dataset.folder / "v1.mp4").write_text("no video")
    plan = dataset.plan()
    with pytest.raises(RunError, match=r"The video v1 cannot be read, and --strict was asked for: v1\.mp4"):
        extract(plan, strict=True)
    store = extract(plan)
    assert set(store.failures) == {"v1"} and store.complete.sum() == 8


def test_nothing_readable(dataset, extract):
    for file in dataset.folder.glob("*.mp4"):
        file.write_text("no video")
    plan = dataset.plan()
    for _ in range(2):
        with pytest.raises(RunError, match=r"None of the 5 videos could be read \(the first: v0\.mp4"):
            extract(plan)
        assert not plan.path.exists()  # an unfinished store would stand in the way of `probe`
    dataset.write_video("v2", seed=2)
    assert extract(plan).complete.sum() == 2


def test_an_encoder_that_does_not_load_leaves_nothing(dataset, extract, tmp_path):
    (tmp_path / "e.pt").write_text("no checkpoint")
    plan = dataset.plan(encoder=str(tmp_path / "e.pt"))
    with pytest.raises(InputError, match=r"e\.pt is no checkpoint"):
        extract(plan)
    assert not list(plan.path.parent.glob("*"))


def test_two_at_once(dataset, extract):
    plan = dataset.plan()
    plan.path.parent.mkdir(parents=True)
    with FileLock(plan.path.with_name(plan.path.name + ".lock")):
        # From another process: within one, the lock could be shared.
        script = (
            "import sys\nfrom echolung.clips import ClipPlan\nfrom echolung.datasets import load_manifest\n"
            "from echolung.encoders import identify\nfrom echolung.extraction import make_plan\n"
            "from echolung.extraction.run import extract\nfrom pathlib import Path\n"
            "plan = make_plan(load_manifest('table', sys.argv[1]), identify('random:vit_tiny'),"
            " ClipPlan(2, 4, size=32), precision='float32', path=Path(sys.argv[2]))\nextract(plan)"
        )
        arguments = [sys.executable, "-c", script, str(dataset.folder / "videos.csv"), str(plan.path)]
        result = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert f"InputError: Another process is writing {plan.path.name}. Wait for it" in result.stderr
    assert extract(plan).complete.all()


def test_other_weights_under_the_same_name(dataset, extract):
    plan = dataset.plan()
    store = extract(plan)
    zarr.open_group(store.path).attrs["weights_tensors"] = "sha256:" + "0" * 64
    (dataset.folder / "v0.mp4").unlink()
    dataset.write_video("v0", seed=9)
    with pytest.raises(InputError, match="was begun with other weights under the same name"):
        extract(plan)


def test_a_full_disk_ends_the_run_and_it_goes_on(dataset, extract, arrays, tmp_path, monkeypatch):
    expected = arrays(extract(dataset.plan(tmp_path / "whole.zarr")).path)
    plan = dataset.plan(tmp_path / "full.zarr")
    original, writes = zarr.storage.LocalStore.set, []

    async def full(self, key, value):
        writes.append(key)
        if "tokens/c/7" in key:
            raise OSError(28, "No space left on device")
        await original(self, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "set", full)
        began = time.monotonic()
        with pytest.raises(RunError, match=r"The disk is full: full\.zarr stopped at 6 of 10 clips, which are safe"):
            extract(plan, workers=1)
        assert time.monotonic() - began < 60
    found = arrays(extract(plan).path)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_a_batch_is_not_larger_than_the_dataset(dataset, extract):
    assert extract(dataset.plan(), batch=64).block == 10


def test_progress_counts_every_clip(dataset, extract):
    started, advanced = [], []
    progress = run.Progress(start=lambda *counts: started.append(counts), advance=advanced.append)
    extract(dataset.plan(), progress=progress)
    assert started == [(0, 10)] and sum(advanced) == 10
    assert progress.seconds["all"] >= progress.seconds["encode"] > 0
