"""Optical flow of pictures whose motion is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from echolung.clips.flow import flow


def picture(side: int, seed: int = 0) -> np.ndarray:
    """Return smooth random texture, which tells where it is."""
    texture = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), 3)
    return ((texture - texture.min()) / np.ptp(texture) * 255).astype(np.uint8)


@settings(max_examples=10, deadline=None)
@given(right=st.integers(-2, 2), down=st.integers(-2, 2))
def test_a_shifted_picture_flows_alike_everywhere(right, down):
    whole = picture(100)
    frames = np.stack([whole[20 - i * down : 84 - i * down, 20 - i * right : 84 - i * right] for i in range(3)])
    field = flow(frames)[:, 8:-8, 8:-8]
    np.testing.assert_allclose(np.median(field, axis=(0, 1, 2)), [right, down], atol=0.05)
    assert np.abs(field - [right, down]).mean() < 0.1


def test_one_field_less_than_frames_each_of_its_own_pair():
    frames = np.stack([picture(28, seed) for seed in range(4)])
    fields = flow(frames)
    assert fields.shape == (3, 28, 28, 2)
    assert fields.dtype == np.float32
    for i in range(3):
        np.testing.assert_array_equal(fields[i], flow(frames[i : i + 2])[0])


@pytest.mark.parametrize("frames", [1, 2])
def test_nothing_moves(frames):
    still = np.repeat(picture(32)[None], frames, axis=0)
    fields = flow(still)
    assert fields.shape == (frames - 1, 32, 32, 2)
    # OpenCV's flow is not exactly zero at the lower and right edge, even between two equal frames.
    assert not np.abs(fields[:, 8:-8, 8:-8]).max(initial=0) > 1e-2
