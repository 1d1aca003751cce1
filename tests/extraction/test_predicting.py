"""Which videos are meant, what they are called, and how their tokens are to be made."""

from pathlib import Path

import pytest

from echolung.cache.key import differences
from echolung.clips import ClipPlan
from echolung.errors import InputError
from echolung.extraction.predicting import find_videos, plan_like


@pytest.fixture
def folder(tmp_path):
    for name in ("a/clip.mp4", "b/clip.MP4", "b/deep/er/clip.avi", "b/notes.txt", "b/.hidden.mp4", ".trash/x.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(*paths):
    manifest = find_videos(paths)
    assert all(manifest.file(row).exists() for row in range(len(manifest.videos)))
    assert manifest.videos["video_id"].equals(manifest.videos["path"])
    return manifest.videos["video_id"].tolist()


def test_a_folder_is_searched_all_the_way_down(folder):
    assert names(folder) == ["a/clip.mp4", "b/clip.MP4", "b/deep/er/clip.avi"]
    assert names(folder / "b") == ["clip.MP4", "deep/er/clip.avi"]


def test_names_begin_where_all_that_was_named_lies(folder):
    assert names(folder / "a/clip.mp4") == ["clip.mp4"]
    assert names(folder / "b/clip.MP4", folder / "a") == ["b/clip.MP4", "a/clip.mp4"]
    assert names(folder / "b/notes.txt") == ["notes.txt"], "a file that is named is tried whatever its suffix"


def test_each_video_once(folder, monkeypatch):
    monkeypatch.chdir(folder / "a")
    assert names(Path("clip.mp4"), folder / "a", Path("../a/clip.mp4")) == ["clip.mp4"]


def test_a_link_keeps_the_name_it_was_given(folder):
    (folder / "a/linked.mp4").symlink_to(folder / "b/clip.MP4")
    assert names(folder / "a") == ["clip.mp4", "linked.mp4"]


def test_folders_of_images_are_videos_where_there_is_no_other(tmp_path):
    for name in ("v1/frame_1.png", "v1/frame_2.png", "deep/v2/1.jpg", "readme.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path) == ["deep/v2", "v1"]
    assert names(tmp_path / "v1") == ["v1"]
    (tmp_path / "clip.gif").write_bytes(b"x")
    assert names(tmp_path) == ["clip.gif"]


def test_what_is_not_there(folder):
    with pytest.raises(InputError, match=r"no video or folder at .*/c, .*gone\.mp4"):
        find_videos([folder / "c", folder / "a", folder / "gone.mp4"])
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=r"no video in the folder .*empty"):
        find_videos([folder / "empty"])


@pytest.mark.parametrize("options", [{}, {"token_pool": 2}, {"tokens": "none"}, {"decoder": "av"}])
def test_tokens_are_made_as_the_stores_were(dataset, tmp_path, options):
    of_store = dataset.plan(tmp_path / "old.zarr", clips=ClipPlan(3, 4, stride=2, size=32, views=2), **options)
    new = find_videos([dataset.folder])
    plan = plan_like(of_store.key, "random:vit_tiny@0", new, tmp_path / "new.zarr")
    fields = [line.partition(":")[0] for line in differences(of_store.key, plan.key)]
    assert fields == ["clips.views", "dataset.name"]
    pooled = plan_like(of_store.key, "random:vit_tiny@0", new, tmp_path / "new.zarr", pooled=True)
    assert pooled.key["token_pool"] == "none" and pooled.key["clips"] == plan.key["clips"]


def test_other_weights_show_in_the_key(dataset, tmp_path):
    key = dataset.plan(tmp_path / "old.zarr").key
    new = find_videos([dataset.folder])
    plan = plan_like(key, "random:vit_tiny@0", new, tmp_path / "new.zarr", weights="random:vit_tiny@3")
    assert any(line.startswith("encoder.weights: is") for line in differences(plan.key, key))


def test_a_checkpoint_that_is_gone_is_named(dataset, tmp_path):
    key = dataset.plan(tmp_path / "old.zarr").key
    with pytest.raises(InputError, match=r"gone.*--encoder"):
        plan_like({**key, "encoder": {"kind": "checkpoint"}}, "gone", find_videos([dataset.folder]), tmp_path / "x")
