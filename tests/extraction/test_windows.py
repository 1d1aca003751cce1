"""Padding, stored starts and spans, from the videos to the store and back: nothing on the way misreads a padded frame."""

import pickle
import sys

import numpy as np
import pandas as pd
import pytest
import zarr

from echolung.cache import TokenStore
from echolung.cache.hdf5 import export_store, import_store
from echolung.cache.verify import verify
from echolung.cli import app
from echolung.clips import ClipPlan, decode
from echolung.clips.starts import COLUMN, read_starts, starts_column, write_starts
from echolung.datasets import load_manifest
from echolung.encoders import identify
from echolung.errors import DecodeError, InputError
from echolung.extraction import make_plan, run
from echolung.extraction.predicting import plan_like
from echolung.extraction.rebuild import plan_of
from echolung.extraction.repair import repair
from echolung.extraction.sources import finished_store
from echolung.extraction.windows import describe_padding, stored_starts

PADDED = ClipPlan(segments=3, frames=6, stride=3, size=32, pad="black", crop="whole", views=1)
"""Needs 18 frames; the videos have 10 to 14."""


@pytest.fixture
def typed(monkeypatch, capsys):
    """Return what runs echolung in this process, as typed: words -> (exit code, stdout, stderr), each in one line."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["echolung", *map(str, words)])
        monkeypatch.setattr(app, "_debug", False)
        with pytest.raises(SystemExit) as left:
            app.main()
        out, err = (" ".join(text.split()) for text in capsys.readouterr())
        return int(left.value.code or 0), out, err

    return call


def spanned(dataset, spans, **options):
    """Return the plan of a dataset, of which `spans` says which frames of the files are the videos."""
    first, last = zip(*(spans.get(f"v{i}", (np.nan, np.nan)) for i in range(5)), strict=True)
    manifest = load_manifest("table", dataset.folder / "videos.csv")
    manifest = manifest.__class__(
        manifest.name, manifest.root, manifest.videos.assign(first_frame=first, last_frame=last), manifest.tasks
    )
    return make_plan(
        manifest, identify("random:vit_tiny"), options.pop("clips", PADDED), precision="float32", **options
    )


def test_as_typed(dataset, typed, tmp_path, monkeypatch):
    def in_process(function, jobs, arguments, *_):
        for job in jobs:
            try:
                yield job, function(*arguments(job))
            except DecodeError as error:
                yield job, error

    monkeypatch.setattr(run, "run_in_workers", in_process)
    starts = {
        "v0.mp4": [3, 0, 2],
        "v1.mp4": [1, 1, 3],
        "v3.mp4": [0, 12, 4],
        "v4.mp4": [2, 99, 0],
        "more.mp4": [7, 8, 9],
    }
    (tmp_path / "published.pkl").write_bytes(pickle.dumps({name: np.array(of) for name, of in starts.items()}))
    how = "--encoder random:vit_tiny --frames 6 --stride 3 --size 32 --device cpu --precision float32"
    words = ["extract", *how.split(), "--dataset", dataset.folder / "videos.csv", "--pad", "black", "--square", "whole"]
    store, written = tmp_path / "a.zarr", tmp_path / "starts.csv"
    code, _, err = typed(
        *words, "--store", store, "--starts", tmp_path / "published.pkl", "--write-starts", written, "--json"
    )
    assert code == 0, err
    assert "note: 1 of 5 videos have no clip start in published.pkl; their 3 clips are evenly spaced." in err
    assert "Left out v4: The stored clip start 99 lies past the end of v4, which has 14 frames" in err
    opened = TokenStore.open(store)
    frames = opened.array("frames")[:].reshape(5, 3, 6)
    assert frames[0].tolist() == [[3, 6, 9, -1, -1, -1], [0, 3, 6, 9, -1, -1], [2, 5, 8, -1, -1, -1]]
    assert frames[2][:, 0].tolist() == [0, 1, 2] and frames[3][1].tolist() == [12, -1, -1, -1, -1, -1]
    assert (frames[4] == -1).all()
    padding = (frames[:4] < 0).mean()
    assert (
        f"note: 4 of 4 videos are shorter than a clip; {100 * padding:.1f} % of all frames are padding (--pad black)."
        in err
    )
    assert not verify(store).damages
    again = read_starts(written)
    assert again.of == {"v0": (3, 0, 2), "v1": (1, 1, 3), "v2": (0, 1, 2), "v3": (0, 12, 4)}
    assert opened.key["clips"]["starts"] == read_starts(tmp_path / "published.pkl").digest != again.digest
    code, _, err = typed(*words, "--starts", written, "--segments", 2)
    assert code == 2 and "--segments is 2, and starts.csv has 3 clip starts a video. Leave --segments out." in err
    code, _, err = typed(*words, "--starts", written, "--window", "first")
    assert code == 2 and "both say where clips begin" in err


def test_pixels_of_a_padded_store(dataset, extract, monkeypatch):
    seen, original = [], run.encode
    monkeypatch.setattr(run, "encode", lambda e, clips, p: seen.append(clips.copy()) or original(e, clips, p))
    store = extract(dataset.plan(clips=PADDED), batch=30)
    frames = store.array("frames")[:]
    for clip, indices in zip(seen[0], frames, strict=True):
        assert (clip.any(axis=(1, 2, 3)) == (indices >= 0)).all()
    assert stored_starts(store)["v0"] == (0, 1, 2)
    share = 100 * (frames < 0).mean()
    assert describe_padding(store, PADDED) == (
        f"5 of 5 videos are shorter than a clip; {share:.1f} % of all frames are padding (--pad black)."
    )


def test_padding_is_described(dataset, extract):
    def said(**options) -> str | None:
        clips = ClipPlan(segments=1, frames=4, size=32, **options)
        return describe_padding(extract(dataset.plan(clips=clips)), clips)

    assert said(stride=3) is None  # 10 frames, and the shortest video has so many
    # 13 frames: three videos of five lack the last of four.
    assert said(stride=4) == "3 of 5 videos are shorter than a clip; 15.0 % of all frames are padding (--pad repeat)."
    assert said(fps=25 / 4, pad="loop") == (
        "3 of 5 videos are shorter than a clip; 15.0 % of all frames are padding (--pad loop)."
    )
    # 12 frames, counted as CoReEcho does: the one clip of 10 and of 11 starts at 1, and only the first lacks its last.
    assert "2 of 5 videos are shorter than a clip; 5.0 %" in str(said(stride=3, pad="grey"))


def test_spans_are_extracted_and_noticed(dataset, extract):
    plan = spanned(dataset, {"v0": (8, 2), "v1": (5, 5)})
    store = extract(plan)
    frames = store.array("frames")[:].reshape(5, 6, 6)
    assert (
        frames[0, 0].tolist() == [8, 5, 2, -1, -1, -1]
        and (frames[1, :, 0] == 5).all()
        and (frames[1, :, 1:] == -1).all()
    )
    assert store.array("video")[:, 0].reshape(5, 6)[:, 0].tolist() == [7, 1, 12, 13, 14]
    assert stored_starts(store)["v0"] == (0, 1, 2) and stored_starts(store)["v1"] == (0, 0, 0)
    assert finished_store(plan) is not None and not verify(store.path).damages
    # Another span of the same file is another video.
    other = spanned(dataset, {"v0": (2, 8), "v1": (5, 5)}, path=plan.path)
    assert finished_store(other) is None
    said = []
    changed = extract(other, said)
    assert "Changed on disk, so encoded again: v0." in " ".join(said)
    assert changed.array("frames")[0].tolist() == [2, 5, 8, -1, -1, -1] and finished_store(other) is not None
    fresh = extract(spanned(dataset, {"v0": (2, 8), "v1": (5, 5)}, path=plan.path.with_name("fresh.zarr")))
    np.testing.assert_array_equal(changed.tokens(np.arange(30)), fresh.tokens(np.arange(30)))


def test_spans_that_are_not_there_cost_a_video(dataset, extract):
    store = extract(spanned(dataset, {"v0": (0, 10)}))
    assert (
        "Frames 0 to 10 of v0.mp4 were asked for (first_frame, last_frame, from 0), and it has 10."
        in store.failures["v0"]
    )
    assert len(store.failures) == 1


def with_starts(dataset, file, **options):
    write_starts(file, {"v0": (3, 0, 2), "v2": (0, 1, 2)})
    starts = read_starts(file)
    manifest = load_manifest("table", dataset.folder / "videos.csv")
    table = manifest.videos.assign(**{COLUMN: starts_column(starts, manifest.videos)})
    manifest = manifest.__class__(manifest.name, manifest.root, table, manifest.tasks)
    clips = ClipPlan(**{**PADDED.__dict__, "starts": starts.digest})
    return make_plan(manifest, identify("random:vit_tiny"), clips, precision="float32", **options)


def test_repair_of_a_padded_store(dataset, extract, arrays, tmp_path, monkeypatch):
    def in_process(function, jobs, arguments, *_):
        for job in jobs:
            yield job, function(*arguments(job))

    monkeypatch.setattr("echolung.extraction.repair.run_in_workers", in_process)
    plan = with_starts(dataset, tmp_path / "starts.csv", path=tmp_path / "a.zarr")
    before = arrays(extract(plan).path)
    for name in ("frames", "preview", "tokens"):
        chunk = next(file for file in sorted((plan.path / name / "c").rglob("*")) if file.is_file())
        content = bytearray(chunk.read_bytes())
        content[len(content) // 2] ^= 0x10
        chunk.write_bytes(content)
    found = verify(plan.path)
    assert {damage.array for damage in found.damages} == {"frames", "preview", "tokens"}
    repair(found, extract, data=dataset.folder / "videos.csv")
    assert not verify(plan.path).damages
    after = arrays(plan.path)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)
    # A clip that lost its frames is still found.
    array = zarr.open_group(plan.path)["frames"]
    array[0] = -1
    assert any(damage.array == "frames" for damage in verify(plan.path).damages)


def test_a_plan_made_from_its_key(dataset, extract, tmp_path):
    plan = with_starts(dataset, tmp_path / "starts.csv", path=tmp_path / "a.zarr")
    store = extract(plan)
    attributes = dict(store.group.attrs)
    table = dataset.folder / "videos.csv"
    assert plan_of(store.path, attributes, store.snapshot, data=table).key == plan.key
    with pytest.raises(
        InputError, match=r"extracted with stored clip starts, and its table.*Extract again with --starts"
    ):
        plan_of(store.path, attributes, None, data=table)
    new = plan_like(store.key, "random:vit_tiny", plan.manifest, tmp_path / "new.zarr")
    assert new.clips.to_json() == {**plan.clips.to_json(), "views": 0}


def test_hdf5_keeps_the_padding(dataset, extract, tmp_path):
    store = extract(dataset.plan(tmp_path / "a.zarr", clips=PADDED))
    export_store(store.path, tmp_path / "a.h5")
    opened = import_store(tmp_path / "a.h5", tmp_path / "b.zarr")
    np.testing.assert_array_equal(opened.array("frames")[:], store.array("frames")[:])
    assert (opened.array("frames")[:] < 0).any() and not verify(opened.path).damages


def test_images_and_nifti_in_a_table(tmp_path, extract):
    import nibabel
    from PIL import Image

    frames = np.random.default_rng(0).integers(0, 256, (9, 40, 48), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "images" / f"{number}.png")
    nibabel.save(nibabel.Nifti1Image(frames.transpose(2, 1, 0).astype(np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(decode(tmp_path / "images"), decode(tmp_path / "a.nii.gz"))
    table = pd.DataFrame({"path": ["images", "a.nii.gz"], "patient": ["p", "q"], "ef": [50.0, 60.0]})
    table.to_csv(tmp_path / "videos.csv", index=False)
    manifest = load_manifest("table", tmp_path / "videos.csv")
    store = extract(make_plan(manifest, identify("random:vit_tiny"), PADDED, precision="float32"))
    assert not store.failures
    fixed = np.flatnonzero(store.rows["view"] == 0)
    one, other = fixed[:3], fixed[3:]
    np.testing.assert_array_equal(store.previews(one), store.previews(other))
