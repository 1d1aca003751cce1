"""What pictures show: the right frames, and colours that mean what they say."""

import numpy as np

from echolung.explaining.explainer import Explained
from echolung.explaining.pictures import OUTLINE, chosen, small, strength, title

BOX = np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]])


def seen(values: np.ndarray, method: str = "grad-cam", **more: object) -> Explained:
    clip = np.full((*values.shape, 3), 60, np.uint8)
    return Explained("v1", clip, values.astype(np.float32), (2, 3, 3), method, "stage 4", 41.23, **more)


def test_traced_frames_are_among_those_shown() -> None:
    assert chosen(36, []).tolist() == [0, 5, 10, 15, 20, 25, 30, 35]
    assert chosen(36, [11, 13]).tolist() == [0, 5, 11, 13, 20, 25, 30, 35]
    assert chosen(4, [2]).tolist() == [0, 1, 2, 3]


def test_frames_are_coloured_where_the_map_is() -> None:
    values = np.zeros((4, 40, 40))
    values[2, :20, 20:] = 2
    frames = small(seen(values), np.arange(4), True)
    assert (frames[[0, 1, 3]] == 60).all()
    tinted = (frames[2] != 60).any(-1)
    assert tinted[:50, 62:].all()
    assert not tinted[62:].any()
    assert (small(seen(values), np.arange(4), False) == 60).all()


def test_an_outline_is_drawn_on_its_frame_alone() -> None:
    frames = small(seen(np.zeros((3, 40, 40)), outlines={1: BOX}, phase={1: ""}), np.arange(3), False)
    coloured = (np.abs(frames.astype(int) - OUTLINE).sum(-1) < 150).sum((1, 2))
    assert coloured[[0, 2]].tolist() == [0, 0]
    assert coloured[1] > 150


def test_nearly_even_attention_looks_even() -> None:
    values = np.ones((2, 8, 8))
    values[0, 0, 0] = 1.05
    assert strength(seen(values, "attention")).max() < 0.1
    values[0, 0, 0] = 20
    assert strength(seen(values, "attention")).max() == 1
    assert strength(seen(values)).min() > 0


def test_titles_say_what_is_known() -> None:
    assert title(seen(np.zeros((2, 8, 8)))) == (
        "v1 · predicted 41.2\nnothing in this clip raises the answer: the map is empty"
    )
    told = title(seen(np.ones((2, 40, 40)), truth=36.94, outlines={0: BOX}))
    assert told.startswith("v1 · truth 36.9, predicted 41.2\nof the map ")
    assert told.count("25 %") + told.count("24 %") + told.count("26 %") == 2
    assert title(seen(np.ones((2, 8, 8)), "rollout")).endswith("at most 1 × its even share")
