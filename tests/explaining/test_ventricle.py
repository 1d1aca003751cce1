"""Tracings come to lie on the clip's pixels that show what was traced, and shares are counted there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echolung.clips.plan import ClipPlan
from echolung.clips.prepare import prepare
from echolung.clips.sample import Window
from echolung.datasets.tracings import mask_of
from echolung.explaining.ventricle import place_outline, share_inside, start_for, traced_frames

BOX = np.array([[39.5, 19.5], [69.5, 19.5], [69.5, 60.5], [39.5, 60.5]])


@pytest.mark.parametrize("crop", ["centre", "whole"])
@pytest.mark.parametrize(("height", "width", "size"), [(112, 112, 112), (112, 112, 56), (101, 120, 96), (90, 131, 224)])
def test_an_outline_encloses_in_the_clip_what_it_did_in_the_video(
    crop: str, height: int, width: int, size: int
) -> None:
    plan = ClipPlan(segments=1, frames=1, size=size, crop=crop)
    bright = mask_of(BOX, height, width).astype(np.uint8) * 200
    clip = prepare(np.stack([np.stack([bright] * 3, -1)]), Window(np.array([0])), plan)[0, :, :, 0]
    inside = mask_of(place_outline(BOX, plan, height, width), size, size)
    shown = clip > 100
    rows, columns = (np.flatnonzero(shown.any(axis)) for axis in (1, 0))
    edge = 2 * (len(rows) + len(columns))
    assert (inside != shown).sum() <= edge  # at most the pixels of the rim
    for axis in (0, 1):
        centre, wanted = (np.mean(np.nonzero(mask)[axis]) for mask in (inside, shown))
        assert abs(centre - wanted) < 0.75 * max(1, size / min(height, width))


@given(st.floats(0.01, 100), st.floats(5, 30))
def test_an_even_map_scores_the_area(value: float, radius: float) -> None:
    angles = np.linspace(0, 6, 20)
    outline = np.stack([32 + radius * np.cos(angles), 30 + radius * np.sin(angles)], 1)
    mass, area = share_inside(np.full((5, 64, 64), value), {1: outline, 3: outline / 2})
    assert mass == pytest.approx(area, rel=1e-9)
    assert 0 < area < 1


def test_only_traced_frames_count_and_all_may_be_inside() -> None:
    values = np.zeros((4, 112, 112))
    values[0] = 1
    assert np.isnan(share_inside(values, {2: BOX})[0])  # the map is empty there
    values[2, 30:50, 45:65] = 3
    mass, area = share_inside(values, {2: BOX})
    assert mass == 1
    assert area == mask_of(BOX, 112, 112).mean()
    assert all(np.isnan(share_inside(values, {})))


def test_traced_frames_are_found_within_half_a_stride() -> None:
    frames = np.array([10, 14, 18, 22, -1, -1])
    outlines = {15: BOX, 20: BOX + 1, 25: BOX, 8: BOX + 2}
    found = traced_frames(outlines, frames)
    assert {at: number for at, (number, _) in found.items()} == {1: 15, 2: 20, 0: 8}
    assert traced_frames({0: BOX}, np.full(3, -1)) == {}


def test_a_clip_is_moved_only_where_traced_frames_are_not_in_it() -> None:
    frames = np.arange(20, 60, 2)
    assert start_for((25, 50), frames, 100) is None
    assert start_for((), frames, 100) is None
    assert start_for((5, 25), frames, 100) == 0
    assert start_for((60, 80), frames, 100) == 51  # in the middle of 39 frames
    assert start_for((90, 98), frames, 100) == 61  # the last that fits
    assert start_for((10, 90), frames, 100) == 10  # too far apart
