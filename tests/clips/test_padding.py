"""Windows past a video's end, against a literal restatement of CoReEcho's dataset and of a loop over the frames."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echolung.clips import ClipPlan, sample
from echolung.clips.plan import PADS
from echolung.clips.prepare import prepare
from echolung.clips.sample import BLACK, GREY, VIEW_SHIFT, Window, random_window
from echolung.errors import DecodeError, InputError

LEVEL = {"black": BLACK, "grey": GREY}


def coreecho(length: int, frames: int, stride: int) -> list[list[int]]:
    """Return the clip of each start that CoReEcho draws from, -1 where its zero frames are (dataset.py)."""
    padded = list(range(length)) + [-1] * max(frames * stride - length, 0)
    starts = range(len(padded) - (frames - 1) * stride)
    return [[padded[start + stride * i] for i in range(frames)] for start in starts]


@settings(max_examples=300)
@given(
    st.integers(1, 400), st.integers(1, 40), st.integers(1, 6), st.integers(1, 4), st.sampled_from(["black", "grey"])
)
def test_filled_windows_are_coreechos(length, frames, stride, segments, pad):
    plan = ClipPlan(segments=segments, frames=frames, stride=stride, pad=pad, views=2)
    theirs = {tuple(clip) for clip in coreecho(length, frames, stride) if clip[0] >= 0}
    for window in sample(length, plan, "v"):
        assert tuple(np.where(window.frames == LEVEL[pad], -1, window.frames).tolist()) in theirs
        assert window.frames[0] >= 0


@pytest.mark.parametrize("length", [28, 100, 141, 143, 144, 145, 150])
def test_every_start_is_drawn(length):
    plan = ClipPlan(segments=1, frames=36, stride=4, pad="black", views=400)
    drawn = np.bincount([window.frames[0] for window in sample(length, plan, "v")[1:]])
    starts = len(coreecho(length, 36, 4))
    assert len(drawn) == starts == (4 if length <= 144 else length - 140) and drawn.min() > 0.6 * 400 / starts
    random = np.random.default_rng(0)
    ours = [random_window(np.arange(length) / 50, 36, 8, random, stride=4, pad="black") for _ in range(400)]
    assert {tuple(clip.tolist()) for clip in ours} == {tuple(clip) for clip in coreecho(length, 36, 4)}


def test_padding_counted_by_hand():
    (window,) = sample(100, ClipPlan(segments=1, frames=36, stride=4, pad="black", window="first"))
    assert window.frames.tolist() == [*range(0, 100, 4), *[-1] * 11]
    starts = [w.frames[0] for w in sample(100, ClipPlan(segments=3, frames=36, stride=4, pad="black"))]
    assert starts == [0, 1, 3]


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 6), st.integers(1, 3))
def test_a_loop_goes_round(length, frames, stride, segments):
    plan = ClipPlan(segments=segments, frames=frames, stride=stride, pad="loop", views=1)
    usual = sample(length, ClipPlan(segments=segments, frames=frames, stride=stride, views=1), "v")
    for window, other in zip(sample(length, plan, "v"), usual, strict=True):
        start = window.frames[0]
        assert window.frames.tolist() == [(start + stride * i) % length for i in range(frames)]
        assert start == other.frames[0]


@given(st.integers(1, 60), st.floats(5, 60), st.integers(1, 30), st.floats(2, 40), st.sampled_from(PADS))
def test_padding_in_time(length, rate, frames, fps, pad):
    times = np.arange(length) / rate + 0.3
    gap = 1 / rate if length > 1 else 1 / fps
    for window in sample(times, ClipPlan(segments=2, frames=frames, fps=fps, pad=pad), "v"):
        start = times[window.frames[0]] - 0.3
        for step, index in enumerate(window.frames.tolist()):
            wanted = start + step / fps
            late = wanted - (length - 1) * gap
            if pad == "repeat" or late < -gap:
                assert 0 <= index < length
            elif pad == "loop":
                assert abs((index * gap - wanted + length * gap / 2) % (length * gap) - length * gap / 2) < 1.1 * gap
            elif late > 1.1 * gap:
                assert index == LEVEL[pad]
            assert index >= 0 or late > -0.1 * gap  # the window starts up to half a gap beside its first frame


def test_a_timed_video_that_is_as_long_as_its_clip_needs_no_padding():
    for pad in ("black", "grey", "loop"):
        plan = ClipPlan(segments=1, frames=16, fps=25.0, pad=pad, window="first")
        assert sample(np.arange(16) / 25, plan)[0].frames.tolist() == list(range(16))
        expected = list(range(12)) + ([0, 1, 2, 3] if pad == "loop" else [LEVEL[pad]] * 4)
        assert sample(np.arange(12) / 25, plan)[0].frames.tolist() == expected


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 6), st.sampled_from(PADS), st.integers(0, 99))
def test_the_first_frame_is_first(length, frames, stride, pad, seed):
    plan = ClipPlan(segments=1, frames=frames, stride=stride, pad=pad, views=3, window="first", crop="whole")
    assert all(window.frames[0] == 0 for window in sample(length, plan, str(seed)))
    window = random_window(np.full(length, np.nan), frames, 8, np.random.default_rng(seed), first=True, pad=pad)
    assert window[0] == 0


def test_stored_starts():
    plan = ClipPlan(segments=3, frames=36, stride=4, pad="black", starts="digest")
    windows = sample(100, plan, "v", (3, 0, 2))
    assert [window.frames.tolist() for window in windows] == [coreecho(100, 36, 4)[start] for start in (3, 0, 2)]
    assert sample(100, plan, "v")[1].frames[0] == 1  # of a video without any: evenly spaced
    with pytest.raises(DecodeError, match="The stored clip start 100 lies past the end of v, which has 100 frames"):
        sample(100, plan, "v", (3, 100, 2))
    assert sample(100, plan, "v", (99, 0, 2))[0].frames.tolist() == [99, *[-1] * 35]
    timed = sample(np.arange(100) / 50 + 1, ClipPlan(segments=1, frames=4, fps=10.0), "v", (7,))
    assert timed[0].frames.tolist() == [7, 12, 17, 22]


def test_old_keys_stay():
    old = {"segments": 2, "frames": 16, "stride": 1, "size": 224, "views": 0, "crop": "centre"}
    assert ClipPlan().to_json() == old
    del old["stride"]
    assert ClipPlan(fps=10.0, views=3).to_json() == {**old, "fps": 10.0, "views": 3}
    new = ClipPlan(segments=1, pad="black", crop="whole", window="first", starts="").to_json()
    assert (new["pad"], new["crop"], new["window"], "starts" in new) == ("black", "whole", "first", False)
    assert ClipPlan(**new).to_json() == new and ClipPlan(starts="abc").to_json()["starts"] == "abc"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pad": "white"}, "--pad is 'white'; it must be one of repeat, loop, black, grey"),
        ({"crop": "all"}, "--square is 'all'; it must be one of centre, whole"),
        ({"window": "last"}, "--window is 'last'"),
        ({"window": "first"}, "--window first is one window a video, not 2"),
    ],
)
def test_plans_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        ClipPlan(**options)


# ---- the whole square -------------------------------------------------------------------------------------------------


def test_shifted_views_are_crops_of_a_black_margin():
    video = np.random.default_rng(0).integers(1, 256, (3, 112, 112, 3), dtype=np.uint8)
    plan = ClipPlan(segments=1, frames=3, size=112, views=60, crop="whole")
    padded = np.pad(video, ((0, 0), (6, 6), (6, 6), (0, 0)))
    fixed, *views = sample(3, plan, "v")
    np.testing.assert_array_equal(prepare(video[fixed.frames], fixed, plan), video)
    shifts = set()
    for window in views:
        down, right = (round(share * 112) for share in window.shift)
        shifts |= {down, right}
        expected = padded[window.frames, 6 - down : 118 - down, 6 - right : 118 - right]
        np.testing.assert_array_equal(prepare(video[window.frames], window, plan), expected)
    assert shifts == set(range(-VIEW_SHIFT, VIEW_SHIFT + 1)) and fixed.shift == (0.0, 0.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.text(max_size=5))
def test_the_whole_square_of_any_picture(height, width, size, name):
    plan = ClipPlan(segments=1, frames=2, size=size, views=2, crop="whole")
    video = np.zeros((2, height, width, 3), np.uint8)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    video[:, top : top + side, left : left + side] = 90
    for window in sample(2, plan, name):
        clip = prepare(video, window, plan)
        assert clip.shape == (2, size, size, 3)
        down, right = (round(share * size) for share in window.shift)
        seen = (size - abs(down)) * (size - abs(right))
        assert (clip[0, ..., 0] == 90).sum() == seen and (clip == 0).sum() == 6 * (size**2 - seen)


def test_padding_keeps_its_level():
    frames = np.zeros((3, 20, 30, 3), np.uint8)
    frames[0], frames[2] = 200, 33
    for crop in ("centre", "whole"):
        clip = prepare(frames, Window(np.array([4, BLACK, GREY])), ClipPlan(frames=3, size=16, crop=crop))
        assert [np.unique(frame).tolist() for frame in clip] == [[200], [0], [33]]
