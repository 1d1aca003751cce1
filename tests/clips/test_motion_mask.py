"""The mask keeps what moves: known shapes, other sizes and frame rates, next to nothing moving."""

import cv2
import numpy as np
import pytest

from echolung.clips.motion_mask import MotionMask, Region, fill_hull, find_region, find_threshold, largest_region, otsu
from echolung.clips.plan import ClipPlan
from echolung.errors import InputError


def moving_disc(frames=16, height=240, width=320, radius=0.3, speed=1.0, noise=2.0, cursor=False, seed=0):
    """Return (grey frames [t, h, w], pixels that the disc ever covers): speckle sways in a disc, all else is still."""
    random = np.random.default_rng(seed)
    fine = cv2.GaussianBlur(random.random((height, width)).astype(np.float32), (0, 0), height / 100)
    speckle = np.clip(128 + 40 * (fine - fine.mean()) / fine.std(), 0, 255).astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (radius * height) ** 2
    video = np.zeros((frames, height, width), np.uint8)
    for t, frame in enumerate(video):
        shift = round(height / 40 * np.sin(speed * t))
        frame[disc] = np.roll(speckle, shift, 0)[disc]
        if cursor:
            column = 10 + (6 * t) % 40
            frame[10:16, column : column + 8] = 250
        grain = random.normal(0, noise, frame.shape)
        frame[...] = np.clip(frame + np.where(disc, grain, 0), 0, 255)
    return video, disc


def overlap(region: Region, disc: np.ndarray) -> float:
    return float((region.keep & disc).sum() / (region.keep | disc).sum())


@pytest.mark.parametrize(
    "settings", [MotionMask(), MotionMask.of("quantile", quantile=0.75), MotionMask.of("published", 1.0)]
)
def test_what_moves_is_kept(settings):
    video, disc = moving_disc()
    region = find_region(video, 25.0, settings)
    assert region.reason == "" and overlap(region, disc) > 0.7
    reach = cv2.dilate(disc.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (31, 31)))
    assert not (disc & ~region.keep).any() and not (region.keep & (reach == 0)).any()  # flow looks 15 pixels around
    assert region.share == pytest.approx(region.keep.mean()) and region.keep.shape == (240, 320)


def test_a_moving_cursor_widens_the_published_hull_alone():
    video, disc = moving_disc(cursor=True)
    assert overlap(find_region(video, 25.0, MotionMask()), disc) > 0.7
    assert overlap(find_region(video, 25.0, MotionMask.of("published", 1.0)), disc) < 0.6


def test_neither_frame_rate_nor_size_matter():
    first = moving_disc(frames=48, speed=0.25)[0]
    whole = find_region(first, 50.0, MotionMask())
    half = find_region(first[::2], 25.0, MotionMask())
    assert overlap(half, whole.keep) > 0.85
    large = np.stack([cv2.resize(frame, (960, 720), interpolation=cv2.INTER_CUBIC) for frame in first])
    back = find_region(large, 50.0, MotionMask()).keep[1::3, 1::3]
    assert overlap(whole, back) > 0.85
    # A number of pixels a frame is another one at half the frame rate.
    fixed = MotionMask.of("published", 1.2)
    assert find_region(first, 50.0, fixed).reason and not find_region(first[::2], 25.0, fixed).reason


def test_a_threshold_in_diagonals_a_second():
    speed = np.ones((4, 4), np.float32)
    settings = MotionMask(threshold=0.1)
    assert find_threshold(speed, 25 / 400, settings) == pytest.approx(1.6)  # 40 px a second at 25 frames a second
    assert find_threshold(speed, 50 / 400, settings) == pytest.approx(0.8)
    with pytest.raises(InputError, match="needs a clock"):
        find_threshold(speed, np.nan, settings)


def test_otsu_against_every_threshold():
    values = np.random.default_rng(0).gamma([[1.0]] * 30 + [[8.0]] * 10, size=(40, 50))

    def within(threshold):
        return sum(part.var() * part.size for part in (values[values <= threshold], values[values > threshold]))

    best = min(within(threshold) for threshold in np.unique(values)[:-1])
    assert within(otsu(values)) <= 1.002 * best
    assert otsu(7.5 * values) == pytest.approx(7.5 * otsu(values))
    assert otsu(np.zeros((3, 3))) == 0


def test_nothing_moves():
    video, _ = moving_disc(frames=1)
    for frames, reason in (
        (video, "a single frame has no motion"),
        (np.repeat(video, 6, axis=0), "nothing moves"),
    ):
        region = find_region(frames, 25.0, MotionMask())
        assert region.reason == reason and region.keep.all() and region.share == 1
    slow = find_region(moving_disc(noise=0)[0], 25.0, MotionMask.of("published", 90.0))
    assert slow.reason == "nothing moves as much as the threshold" and slow.keep.all()
    dot = np.zeros((8, 240, 320), np.uint8)
    for t, frame in enumerate(dot):
        frame[100:103, 100 + t : 103 + t] = 255
    region = find_region(dot, 25.0, MotionMask())
    assert "of the picture" in region.reason and region.keep.all()


def test_hull():
    moving = np.zeros((10, 20), bool)
    moving[2, 3] = moving[2, 15] = moving[7, 3] = moving[7, 15] = True
    keep, hull = fill_hull(moving, 10, 20)
    assert keep.sum() == 6 * 13 and keep[2:8, 3:16].all() and len(hull) == 4
    twice, _ = fill_hull(moving, 20, 40)
    assert abs(twice.mean() - keep.mean()) < 0.07
    line, _ = fill_hull(np.eye(10, 20, dtype=bool), 10, 20)
    assert line.sum() == 10


def test_parts_that_nearly_touch_are_one_region():
    moving = np.zeros((200, 200), bool)
    moving[50:90, 50:90] = moving[50:90, 96:120] = moving[150:160, 150:160] = True
    assert largest_region(moving).sum() == 40 * 40 + 40 * 24


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("otsu",), "no motion mask 'otsu'; there are adaptive, quantile, published"),
        (("publishd",), "Did you mean 'published'"),
        (("published", -1.0), "above 0"),
        (("quantile", 2.0), "has no threshold of its own"),
        (("quantile", None, 1.5), "between 0 and 1"),
        (("adaptive", None, 0.5), "does not read"),
    ],
)
def test_wrong_settings(arguments, text):
    with pytest.raises(InputError, match=text):
        MotionMask.of(*arguments)


def test_published_is_as_published():
    assert MotionMask.of("published") == MotionMask("published", 3.5, largest=False, edge=0)


def test_in_a_key():
    assert "mask" not in ClipPlan().to_json()
    plan = ClipPlan(mask=MotionMask.of("quantile"))
    assert plan.to_json()["mask"]["method"] == "quantile"
    assert ClipPlan.from_json(plan.to_json()) == plan and ClipPlan.from_json({"size": 64}) == ClipPlan(size=64)
