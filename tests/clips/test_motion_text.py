"""Burned-in text is found where it is, whatever the codec, and not where there is none."""

import cv2
import numpy as np
import pytest

from echolung.clips.motion_files import read_video, to_grey
from echolung.clips.motion_text import find_text
from echolung.datasets import phantom_heart
from echolung.datasets.heart_image import render


@pytest.fixture(scope="module")
def heart() -> np.ndarray:
    """Return a heart phantom in the middle of a screen."""
    random = phantom_heart.video_random(0, 1, 0)
    video = render(phantom_heart.draw_patient(1, 0), phantom_heart.draw_scene(random), random, 8, 176, 25.0)
    return np.pad(video, ((0, 0), (40, 24), (72, 72)))


def written(video: np.ndarray, *lines: tuple[str, int, int]) -> np.ndarray:
    video = video.copy()
    for frame in video:
        for text, x, y in lines:
            cv2.putText(frame, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 230, 1, cv2.LINE_AA)
    return video


def test_lines(heart):
    assert find_text(heart) == []
    found = find_text(written(heart, ("DOE JANE 1950", 8, 20), ("City Hospital", 200, 225)))
    assert len(found) >= 2
    assert {(text.top < 25, text.left < 130) for text in found} == {(True, True), (False, False)}
    assert min(text.left for text in found) < 20 and sum(text.marks for text in found) > 8
    assert [text.top for text in found] == sorted(text.top for text in found)


def test_inside_or_outside_of_what_is_kept(heart):
    (text,) = find_text(written(heart, ("MEIER", 8, 20)))
    keep = np.zeros(heart.shape[1:], bool)
    assert not text.touches(keep)
    keep[text.bottom - 1, text.right - 1] = True
    assert text.touches(keep)


@pytest.mark.parametrize(("suffix", "codec", "pixels"), [(".mp4", "libx264", "yuv420p"), (".avi", "mjpeg", "yuvj420p")])
def test_through_lossy_codecs(heart, tmp_path, write_video, suffix, codec, pixels):
    path = write_video(tmp_path / f"a{suffix}", written(heart, ("DOE JANE", 8, 20)), codec=codec, pixels=pixels)
    assert find_text(to_grey(read_video(path, "auto", None)[0]))
    bare = write_video(tmp_path / f"b{suffix}", heart, codec=codec, pixels=pixels)
    assert find_text(to_grey(read_video(bare, "auto", None)[0])) == []


def test_moving_text_and_scales_are_none(heart):
    moving = heart.copy()
    for t, frame in enumerate(moving):
        cv2.putText(frame, "ABCDEF", (8 + 6 * t, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 230, 1)
    assert find_text(moving) == []
    scale = heart.copy()
    scale[:, 20:220:20, 300:306] = 230  # ticks of a depth scale
    scale[:, 20:200, 310:318] = np.linspace(0, 255, 180, dtype=np.uint8)[:, None]  # a grey wedge
    assert find_text(scale) == []
