"""Which frames make a clip: properties for every length and plan, and a brute-force restatement of counting in time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echolung.clips import ClipPlan, sample
from echolung.clips.sample import random_window
from echolung.errors import InputError

PLANS = st.builds(
    ClipPlan,
    segments=st.integers(1, 5),
    frames=st.integers(1, 20),
    stride=st.integers(1, 6),
    views=st.integers(0, 3),
)
LENGTHS = st.integers(1, 200)
CLOCKS = st.lists(st.integers(5, 200), min_size=0, max_size=80).map(
    lambda gaps: np.concatenate([[0.0], np.cumsum(gaps)]) / 1000 + 0.54
)


@given(LENGTHS, PLANS)
def test_windows_lie_in_the_video(length, plan):
    windows = sample(length, plan, "video")
    assert len(windows) == plan.clips == len(plan.slots())
    for window in windows:
        assert window.frames.shape == (plan.frames,)
        assert window.frames.min() >= 0 and window.frames.max() < length
        steps = np.diff(window.frames)
        inside = window.frames[:-1] + plan.stride < length
        assert (steps[inside] == plan.stride).all()  # then the last frame, again and again
        assert (window.frames[1:][~inside] == length - 1).all()


@given(LENGTHS, PLANS)
def test_segments_span_the_video_evenly(length, plan):
    starts = [w.frames[0] for w, (_, view) in zip(sample(length, plan, "v"), plan.slots(), strict=True) if view == 0]
    slack = max(length - 1 - (plan.frames - 1) * plan.stride, 0)
    if plan.segments == 1:
        assert starts == [slack // 2]
        return
    assert starts[0] == 0
    assert starts[-1] == slack
    assert np.ptp(np.diff(starts)) <= 1


def test_seven_frames_make_sixteen():
    (window,) = sample(7, ClipPlan(segments=1))
    assert window.frames.tolist() == [0, 1, 2, 3, 4, 5, 6, *[6] * 9]


def nearest_frames(clock: np.ndarray, start: float, plan: ClipPlan) -> list[int]:
    """Look for the nearest frame one by one; halfway goes to the earlier."""
    picked = []
    for step in range(plan.frames):
        wanted = start + step / plan.fps
        distances = [abs(time - wanted) for time in clock]
        picked.append(next(i for i, d in enumerate(distances) if d <= min(distances) + 1e-6))
    return picked


@given(CLOCKS, st.floats(1.0, 60.0), st.integers(1, 20), st.integers(1, 4))
def test_counting_in_time(times, fps, frames, segments):
    plan = ClipPlan(segments=segments, frames=frames, fps=fps)
    clock = times - times[0]
    slack = max(clock[-1] - (frames - 1) / fps, 0.0)
    starts = [slack / 2] if segments == 1 else [slack * k / (segments - 1) for k in range(segments)]
    for window, start in zip(sample(times, plan), starts, strict=True):
        expected = nearest_frames(clock, start, plan)
        # A tie within rounding may go either way; everything else may not.
        for got, want, step in zip(window.frames, expected, range(frames), strict=True):
            wanted = start + step / fps
            assert abs(abs(clock[got] - wanted) - abs(clock[want] - wanted)) < 3e-6
        assert (np.diff(window.frames) >= 0).all()


def test_counting_in_time_ignores_the_frame_rate():
    plan = ClipPlan(segments=1, frames=8, fps=10.0)
    slow, fast = np.arange(40) / 20, np.arange(120) / 60  # two seconds each
    a, b = sample(slow, plan)[0].frames, sample(fast, plan)[0].frames
    np.testing.assert_allclose(slow[a] - slow[a[0]], fast[b] - fast[b[0]], atol=0.5 / 20)


@given(LENGTHS, st.text(min_size=1, max_size=8))
def test_views_depend_on_the_video_alone(length, name):
    plan = ClipPlan(segments=2, frames=4, views=3)
    first, second = sample(length, plan, name), sample(length, plan, name)
    for a, b in zip(first, second, strict=True):
        assert a.crop == b.crop and a.frames.tolist() == b.frames.tolist()
    crops = [w.crop for w in first if w.crop is not None]
    assert len(set(crops)) == len(crops) == 6
    for y, x, height, width in crops:
        assert y - height / 2 >= 0 and y + height / 2 <= 1 + 1e-12
        assert x - width / 2 >= 0 and x + width / 2 <= 1 + 1e-12
        assert 0.5 * 0.9 <= height * width <= 1 + 1e-12 and 0.89 < width / height < 1.12
    assert sample(length, plan, name + "x")[1].crop != first[1].crop
    # More views leave the ones there are as they were.
    assert sample(length, ClipPlan(segments=2, frames=4, views=1), name)[1].crop == first[1].crop


def test_views_spread_over_their_segment():
    plan = ClipPlan(segments=2, frames=4, views=50)
    windows = sample(204, plan, "video")
    slots = list(zip(windows, plan.slots(), strict=True))
    starts = [[w.frames[0] for w, (segment, view) in slots if segment == s and view] for s in (0, 1)]
    assert max(starts[0]) < 101 and min(starts[1]) >= 100
    assert np.ptp(starts[0]) > 80 and np.ptp(starts[1]) > 80


def test_no_clock():
    for times in (np.full(10, np.nan), 10):
        with pytest.raises(InputError, match="--fps needs a clock, and scan7 is a folder of images"):
            sample(times, ClipPlan(fps=10.0), "scan7")
    assert sample(np.full(10, np.nan), ClipPlan(segments=1, frames=4))[0].frames.tolist() == [3, 4, 5, 6]
    with pytest.raises(InputError, match="scan7 has no frame"):
        sample(0, ClipPlan(), "scan7")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segments": 0}, "--segments is 0; it must be at least 1"),
        ({"frames": -3}, "--frames is -3"),
        ({"stride": 0}, "--stride is 0"),
        ({"size": 0}, "--size is 0"),
        ({"views": -1}, "--views is -1"),
        ({"fps": 0.0}, "--fps is 0.0"),
        ({"fps": float("nan")}, "--fps is nan"),
        ({"fps": float("inf")}, "--fps is inf"),
    ],
)
def test_plans_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        ClipPlan(**options)


def test_plan_as_json_holds_what_matters():
    assert "fps" not in ClipPlan().to_json()
    assert "stride" not in ClipPlan(fps=10.0).to_json()
    assert ClipPlan(fps=10.0, stride=1).to_json() == ClipPlan(fps=10.0, stride=4).to_json()
    assert ClipPlan(stride=1).to_json() != ClipPlan(stride=2).to_json()
    assert ClipPlan(segments=2, views=1).slots() == [(0, 0), (0, 1), (1, 0), (1, 1)]


@given(CLOCKS, st.floats(1.0, 60.0), st.integers(1, 20), st.integers(0, 1000))
def test_random_windows(times, fps, frames, seed):
    indices = random_window(times, frames, fps, np.random.default_rng(seed))
    clock = times - times[0]
    start = np.random.default_rng(seed).uniform() * max(clock[-1] - (frames - 1) / fps, 0.0)
    assert indices.shape == (frames,) and (np.diff(indices) >= 0).all()
    for index, wanted in zip(indices, start + np.arange(frames) / fps, strict=True):
        assert abs(clock[index] - wanted) <= np.abs(clock - wanted).min() + 3e-6


def test_random_windows_start_anywhere_and_end_in_the_video():
    random = np.random.default_rng(0)
    starts = [random_window(np.arange(100) / 50, 11, 10.0, random)[0] for _ in range(2000)]  # 1 s of 2 s
    assert min(starts) == 0 and max(starts) == 49
    assert np.bincount(starts, minlength=50)[1:49].min() > 10
    short = random_window(np.arange(7) / 10, 12, 10.0, random)
    assert short.tolist() == [0, 1, 2, 3, 4, 5, 6, *[6] * 5]


def test_random_windows_without_a_clock():
    random = np.random.default_rng(0)
    starts = set()
    for _ in range(200):
        window = random_window(np.full(10, np.nan), 4, 8.0, random)
        assert (np.diff(window) == 1).all()
        starts.add(int(window[0]))
    assert starts == set(range(7))
    assert random_window(np.full(3, np.nan), 5, 8.0, random).tolist() == [0, 1, 2, 2, 2]
    with pytest.raises(InputError, match="no frame"):
        random_window(np.array([]), 4, 8.0, random)
