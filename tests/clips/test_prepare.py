"""The square that an encoder sees, against the textbook's two steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from echolung.clips import ClipPlan, sample
from echolung.clips.prepare import crop_box, prepare, preview
from echolung.clips.sample import Window


def textbook(frame: np.ndarray, size: int) -> np.ndarray:
    """Resize the short side to int(size·256/224), then cut the middle (V-JEPA 2's evaluation transform)."""
    image = Image.fromarray(frame)
    short = int(size * 256 / 224)
    scale = short / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("size", [224, 112, 64])
@pytest.mark.parametrize(
    ("height", "width"), [(256, 256), (512, 512), (300, 420), (610, 380), (139, 139), (1080, 1080)]
)
def test_two_steps_in_one(height, width, size):
    y, x = np.mgrid[:height, :width] / min(height, width)
    grey = (128 + 60 * np.sin(6 * x) + 60 * np.cos(5 * y)).astype(np.uint8)
    frames = np.repeat(grey[None, ..., None], 3, axis=3)
    plan = ClipPlan(segments=1, frames=1, size=size)
    (ours,) = prepare(frames, Window(np.array([0])), plan)
    expected = textbook(frames[0], size).astype(int)
    assert ours.shape == (size, size, 3)
    # The two steps round the crop to whole pixels, up to half of one: under 4 grey levels of this picture at 64 pixels.
    assert np.abs(ours - expected).mean() < 256 / size
    # As the whole short side, without the crop, it would be another picture.
    whole = np.asarray(Image.fromarray(frames[0]).resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(ours - whole).mean() > 2 * 256 / size


def test_crop_is_the_central_seven_eighths():
    window, plan = Window(np.array([0])), ClipPlan(size=224)
    assert crop_box(window, plan, 256, 256) == (16, 16, 240, 240)
    assert crop_box(window, plan, 256, 356) == (66, 16, 290, 240)
    assert crop_box(window, plan, 512, 256) == (16, 144, 240, 368)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.text(max_size=5))
def test_any_size_and_any_view(height, width, size, name):
    plan = ClipPlan(segments=1, frames=2, size=size, views=2)
    video = np.full((3, height, width, 3), 77, np.uint8)
    for window in sample(3, plan, name):
        clip = prepare(video[window.frames], window, plan)
        assert clip.shape == (2, size, size, 3)
        assert (clip == 77).all()  # nothing from outside the picture


def test_grey_stays_grey_and_repeats_repeat(grey_frames):
    video = np.repeat(grey_frames(5, 60, 80)[..., None], 3, axis=3)
    plan = ClipPlan(segments=1, frames=8, size=32)
    (window,) = sample(5, plan)
    clip = prepare(video[window.frames], window, plan)
    assert (clip[..., 0] == clip[..., 1]).all() and (clip[..., 0] == clip[..., 2]).all()
    assert (clip[4:] == clip[4]).all() and (clip[3] != clip[4]).any()


def test_colour_stays_where_it_was():
    video = np.zeros((1, 32, 32, 3), np.uint8)
    video[..., 0], video[..., 2] = 200, 10
    (clip,) = prepare(video, Window(np.array([0])), ClipPlan(segments=1, frames=1, size=16))
    assert clip[8, 8].tolist() == [200, 0, 10]


@pytest.mark.parametrize("frames", [1, 7, 16, 40])
def test_preview(frames):
    clip = np.repeat(np.arange(frames, dtype=np.uint8), 20 * 20 * 3).reshape(frames, 20, 20, 3)
    small = preview(clip)
    assert small.shape == (8, 112, 112) and small.dtype == np.uint8
    assert small[0].max() == 0 and small[-1].min() == frames - 1
    assert (np.diff(small[:, 0, 0].astype(int)) >= 0).all()
