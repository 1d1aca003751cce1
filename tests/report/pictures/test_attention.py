"""Attention over clips: the right token over the right frame, for any grid, fusion and number of segments."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from echolung.report.pictures import attention
from echolung.report.pictures.attention import choose, draw_attention
from echolung.report.pictures.clips import clip_rows, judged
from echolung.report.pictures.overlay import Looked, colour_scale, half_on, look_at, overlay, upper_end


def looked(times: np.ndarray, frames: int = 8) -> Looked:
    steps = times.shape[2]
    shown = np.stack([np.zeros(frames, int), np.arange(frames) * steps // frames], 1)
    return Looked(times.astype(np.float32), np.full((frames, 112, 112), 100, np.uint8), shown)


def test_a_token_lies_over_its_part_of_its_frames_and_the_rest_is_bare():
    times = np.full((1, 1, 4, 2, 2), 0.5)
    times[0, 0, 2, 1, 0] = 8  # the third quarter of the time, bottom left
    video = looked(times)
    frames = overlay(video.mean, video, np.arange(8), colour_scale(8)).astype(int)
    changed = (frames != 100).any(-1)
    assert changed.any((1, 2)).tolist() == [False] * 4 + [True] * 2 + [False] * 2
    assert changed[4, 84, 28] and not changed[4, :30].any() and not changed[4, :, 82:].any()
    strongest = frames[4, 100, 10]
    assert strongest[0] > 200 and strongest[2] < strongest[0]  # a warm colour


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(8, [0, 1, 2, 3, 4, 5, 6, 7]), (16, [0, 2, 4, 6, 9, 11, 13, 15]), (2, [0, 0, 0, 0, 1, 1, 1, 1]), (1, [0] * 8)],
)
def test_every_preview_lies_under_the_token_of_its_time(make_run, steps, expected):
    run, store = make_run(grid=(steps, 3, 2), segments=3)
    name = store.rows["video_id"][0]
    seen = look_at(run.result.probe, store, name, clip_rows(store, [name])[name], "early")
    assert seen.times.shape == (4, 3, steps, 3, 2) and len(seen.frames) == 24
    assert seen.shown_at[:, 1].tolist() == expected * 3 and seen.shown_at[:, 0].tolist() == [0] * 8 + [1] * 8 + [2] * 8
    np.testing.assert_allclose(seen.times.mean((1, 2, 3, 4)), 1, rtol=1e-4)
    assert len(seen.over_time()) == 3 * steps and seen.over_time().mean() == pytest.approx(1, rel=1e-4)


def test_late_fusion_gives_each_segment_its_own_even_share(make_run):
    run, store = make_run(fusion="late")
    name = store.rows["video_id"][0]
    rows = clip_rows(store, [name])[name]
    late = look_at(run.result.probe, store, name, rows, "late")
    np.testing.assert_allclose(late.times.mean((2, 3, 4)), 1, rtol=1e-4)
    early = look_at(run.result.probe, store, name, rows, "early")
    assert np.abs(early.times.mean((2, 3, 4)) - 1).max() > 1e-3
    ratio = early.times / late.times  # within a segment the same up to a factor
    np.testing.assert_allclose(ratio.std((2, 3, 4)), 0, atol=1e-3)


def test_half_of_the_attention():
    assert half_on(np.ones(100)) == pytest.approx(0.5) and half_on(np.eye(10)[0]) == pytest.approx(0.1)


def test_the_scale_ends_at_a_power_of_two_above_what_is_seen():
    assert upper_end([looked(np.ones((1, 1, 2, 2, 2)))]) == 2
    assert upper_end([looked(np.full((1, 1, 2, 2, 2), 5.0)), looked(np.ones((1, 1, 2, 2, 2)))]) == 8


def test_the_best_and_the_worst_of_each_class_are_shown(make_run):
    table = judged(make_run()[0].result)
    chosen = choose(table, ("healthy", "ill", "very ill"))
    assert len(chosen) == 6 and not chosen["video_id"].duplicated().any()
    for name, part in table.groupby("truth"):
        own = chosen.loc[chosen["truth"] == name, "loss"]
        assert {own.min(), own.max()} == {part["loss"].min(), part["loss"].max()}, name
    numbers = judged(make_run("number")[0].result)
    assert {10.0, 21.0} <= set(choose(numbers, ())["truth"])


@pytest.mark.parametrize("probe", ["attentive", "attentive-lite"])
@pytest.mark.parametrize(("grid", "segments", "fusion"), [((16, 7, 7), 1, "early"), ((2, 3, 3), 14, "late")])
def test_files_of_any_store(make_run, tmp_path, monkeypatch, probe, grid, segments, fusion):
    monkeypatch.setattr(attention, "CLIPS", 3)
    run, store = make_run(probe=probe, grid=grid, segments=segments, fusion=fusion)
    paths = draw_attention(run, store, tmp_path)
    assert [path.name for path in paths] == [*(f"attention-{i}.png" for i in range(1, 4)), "attention.webp"]
    with Image.open(paths[-1]) as image:
        assert image.n_frames == 8 * segments and image.info["loop"] == 0


def test_nothing_without_an_attentive_probe(make_run, tmp_path):
    run, store = make_run(probe=None)
    assert draw_attention(run, store, tmp_path) == []
    lite = make_run()[0].result.probe
    linear = replace(run, result=replace(run.result, probe=replace(lite, kind="linear")))
    assert draw_attention(linear, store, tmp_path) == []
