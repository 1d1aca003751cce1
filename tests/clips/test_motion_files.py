"""Masked datasets on disk: lossless, under their own names, resumed, refused when made otherwise."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from echolung.clips import decode
from echolung.clips.motion_dataset import mask_videos
from echolung.clips.motion_files import file_name, read_video, to_grey
from echolung.clips.motion_mask import MotionMask, find_region
from echolung.clips.plan import ClipPlan
from echolung.clips.workers import prepare_video
from echolung.datasets import Manifest, Task, load_manifest
from echolung.errors import InputError


def screen(seed=0, frames=6, text=True) -> np.ndarray:
    """Return a swaying textured square on black, with writing in a corner."""
    random = np.random.default_rng(seed)
    fine = cv2.GaussianBlur(random.random((96, 128)).astype(np.float32), (0, 0), 1.5)
    speckle = np.clip(128 + 40 * (fine - fine.mean()) / fine.std(), 0, 255).astype(np.uint8)
    video = np.zeros((frames, 96, 128), np.uint8)
    for t, frame in enumerate(video):
        frame[30:80, 40:100] = np.roll(speckle, 2 * (t % 3), 0)[30:80, 40:100]
        if text:
            cv2.putText(frame, "NAME", (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 240, 1)
    return video


def images(folder, frames):
    folder.mkdir(parents=True)
    for t, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{t}.png"), frame)
    return folder


@pytest.fixture
def cohort(tmp_path, write_video):
    """Return a dataset of folders of frames and one video, among them one that breaks and two with the same file name."""
    root = tmp_path / "data"
    for name, seed in (("one/scan", 0), ("two/scan", 1)):
        images(root / name, screen(seed, frames=12))
    write_video(root / "c.mkv", np.repeat(screen(2)[..., None], 3, -1), codec="ffv1", pixels="bgr0", fps=20)
    (root / "d.avi").write_text("no video")
    paths = ["one/scan", "two/scan", "c.mkv", "d.avi"]
    table = pd.DataFrame(
        {
            "video_id": ["one/scan", "two/scan", "c", "d"],
            "path": paths,
            "patient": ["a", "b", "c", "d"],
            "source": "",
            "split": ["TRAIN", "TEST", "VAL", "TRAIN"],
            "grade": ["1", "2", "", "3"],
            "ef": [55.5, np.nan, 30.0, 20.0],
            "same": "yes",
            "width": 128,
        }
    )
    tasks = {
        "grade": Task("classification", "grade", ("1", "2", "3"), ordinal=True),
        "ef": Task("regression", "ef"),
        "same": Task("classification", "same", ("yes",)),
    }
    return Manifest("mine", root, table, tasks)


def test_a_masked_dataset(cohort, tmp_path):
    out = tmp_path / "out"
    done = mask_videos(cohort, out, MotionMask(), pictures=1, workers=1)
    assert list(done.unreadable) == ["d"] and done.new == 3
    assert done.options == ("--kind grade=ordinal", "--drop-unlabelled") and "same is left out" in done.notes[0]
    assert done.facts["text_outside"].tolist() == [1, 1, 1] and not done.facts["text_inside"].any()
    assert sorted(p.name for p in (out / "pictures").iterdir()) == ["one%2Fscan.png"]

    for name, path in (("one/scan", "one/scan"), ("c", "c.mkv")):
        before, after = decode(cohort.root / path), decode(out / "videos" / file_name(name))
        keep = cv2.imread(str(out / "masks" / f"{file_name(name)}.png"), cv2.IMREAD_GRAYSCALE) > 0
        np.testing.assert_array_equal(after, before * keep[..., None])
        assert keep[30:80, 40:100].mean() > 0.9 and not keep[:14, :30].any()
        assert done.facts.set_index("video_id")["kept"][name] == pytest.approx(keep.mean(), abs=1e-4)

    read = load_manifest("table", out / "videos.csv", kinds={"grade": "ordinal"}, missing_labels="drop")
    assert read.videos["video_id"].tolist() == ["one/scan", "two/scan", "c"]
    assert read.videos["split"].tolist() == ["train", "test", "val"] and list(read.tasks) == ["grade", "ef"]
    assert read.tasks["grade"].ordinal and read.videos["patient"].tolist() == ["a", "b", "c"]


def test_colour_and_clock_survive(cohort, tmp_path, write_video):
    frames = np.stack([screen(2)] * 3, -1)
    frames[:, 30:80, 40:100, 0] //= 2
    write_video(cohort.root / "c.mkv", frames, codec="ffv1", pixels="bgr0", fps=20)
    one = Manifest("mine", cohort.root, cohort.videos.iloc[[2]].reset_index(drop=True), {})
    mask_videos(one, tmp_path / "out", MotionMask(), form="ffv1", workers=1)
    after, times = read_video(tmp_path / "out" / "videos" / "c.mkv", "auto", None)
    np.testing.assert_allclose(times, np.arange(6) / 20, atol=1e-3)
    keep = after.any(axis=(0, 3))
    np.testing.assert_array_equal(after[:, keep], decode(cohort.root / "c.mkv")[:, keep])
    folders = Manifest("mine", cohort.root, cohort.videos.iloc[[0]], {})
    with pytest.raises(InputError, match=r"The first: scan has no clock.*--format png"):
        mask_videos(folders, tmp_path / "other", MotionMask(), form="ffv1", workers=1)


def test_frames_in_their_natural_order(cohort):
    """Twelve frames named 0.png to 11.png: 10 comes after 9, not after 1."""
    frames, _ = read_video(cohort.root / "one" / "scan", "auto", None)
    np.testing.assert_array_equal(to_grey(frames), screen(0, frames=12))


def test_resumed(cohort, tmp_path):
    out = tmp_path / "out"
    begun = []
    first = mask_videos(cohort, out, MotionMask(), workers=1, start=lambda *counts: begun.append(counts))
    stamps = {p: p.stat().st_mtime_ns for p in (out / "videos").rglob("*.png")}
    tables = [(out / name).read_text() for name in ("videos.csv", "motion-mask.csv")]
    (out / "masks" / "c.json").unlink()
    (out / "videos" / ".partial-c").mkdir()
    images(cohort.root / "new", screen(5))
    (cohort.root / "two" / "scan" / "11.png").unlink()  # its source changed
    again = mask_videos(cohort, out, MotionMask(), workers=1, start=lambda *counts: begun.append(counts))
    assert begun == [(0, 4), (1, 4)] and (first.new, again.new) == (3, 2)
    kept = [p for p in stamps if "one%2Fscan" in str(p)]
    assert kept and all(p.stat().st_mtime_ns == stamps[p] for p in kept)
    assert len(list((out / "videos" / "two%2Fscan").iterdir())) == 11
    assert (out / "videos.csv").read_text() == tables[0]
    with pytest.raises(InputError, match="made with other settings: mask was method adaptive"):
        mask_videos(cohort, out, MotionMask.of("published"), workers=1)


def test_bad_input(cohort, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").touch()
    with pytest.raises(InputError, match="holds something else"):
        mask_videos(cohort, tmp_path / "full", MotionMask())
    with pytest.raises(InputError, match="--format mp4 must be one of png, ffv1"):
        mask_videos(cohort, tmp_path / "out", MotionMask(), form="mp4")
    images(cohort.root / "single", screen(frames=1))
    (cohort.root / "empty").mkdir()
    table = cohort.videos.iloc[:2].assign(path=["single", "empty"]).reset_index(drop=True)
    done = mask_videos(Manifest("mine", cohort.root, table, {}), tmp_path / "out", MotionMask(), workers=1)
    assert done.facts["whole"].tolist() == ["a single frame has no motion"]
    assert done.facts["text_inside"].tolist() == [1], "kept whole, so its text is, too"
    assert "holds no image" in done.unreadable["two/scan"]


def test_names():
    ids = ["a/b", "a%2Fb", "a.b", "..", "a b", "ä", "A", "x" * 3]
    made = [file_name(i) for i in ids]
    assert len(set(made)) == len(ids) and not any("/" in name or "." in name for name in made)


def test_masked_clips(cohort):
    plan = {"segments": 2, "frames": 4, "size": 64, "crop": "whole"}
    path = cohort.root / "one" / "scan"
    masked = prepare_video(path, "a", ClipPlan(**plan, mask=MotionMask()), "auto")
    bare = prepare_video(path, "a", ClipPlan(**plan), "auto")
    assert (
        bare.clips[:, :, :6, :4].any() or bare.clips[:, :, :, :2].any() or not np.array_equal(bare.clips, masked.clips)
    )
    keep = find_region(screen(0, frames=12), np.nan, MotionMask()).keep
    outside = ~cv2.dilate(keep[:, 16:112].astype(np.uint8), np.ones((5, 5))).astype(bool)[1::3, 1::3]
    small = masked.clips[:, :, 1:63:2, 1:63:2]
    assert not small[:, :, :5].any() and masked.note == "" and outside.any()
    still = images(cohort.root / "still", np.repeat(screen(0, frames=1), 4, axis=0))
    assert prepare_video(still, "a", ClipPlan(**plan, mask=MotionMask()), "auto").note == "not masked: nothing moves"


def test_grey_padding_stays(cohort):
    plan = ClipPlan(segments=1, frames=20, size=64, pad="grey", mask=MotionMask())
    read = prepare_video(cohort.root / "one" / "scan", "a", plan, "auto")
    assert (read.clips[0, 12:] == 33).all()


def test_settings_are_kept_beside(cohort, tmp_path):
    mask_videos(cohort, tmp_path / "out", MotionMask(), workers=1)
    how = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert how["mask"] == MotionMask().to_json() and how["dataset"] == "mine"
