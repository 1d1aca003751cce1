"""Crops of the whole batch at once against one crop at a time, written out; what is drawn keeps to the plan."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from echolung.encoders.preprocess import MEAN, STD, normalise
from echolung.pretraining import augment as module
from echolung.pretraining.augment import augment, draw_crops
from echolung.pretraining.plans import ClipsPlan

WHOLE = ClipsPlan(frames=2, size=32, scale=(1.0, 1.0), aspect=(1.0, 1.0))


def squares(sides: list[int], frames: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise squares; the padding is bright, so that any of it in a result shows."""
    random = np.random.default_rng(seed)
    padded = np.full((len(sides), frames, max(sides), max(sides)), 255, np.uint8)
    for clip, side in zip(padded, sides, strict=True):
        clip[:, :side, :side] = random.integers(0, 100, (frames, side, side))
    return torch.from_numpy(padded), torch.tensor(sides)


def grey(normalised: torch.Tensor) -> torch.Tensor:
    """Return the grey levels behind the first of three channels."""
    return normalised[:, 0] * STD[0] * 255 + MEAN[0] * 255


def bilinear(frame: np.ndarray, y: float, x: float) -> float:
    """Return the grey level at a point in pixels, pixel (0, 0) being around (0.5, 0.5); edges go on outwards."""
    last = len(frame) - 1
    y, x = np.clip(y - 0.5, 0, last), np.clip(x - 0.5, 0, last)
    top, left = int(y), int(x)
    below, right = min(top + 1, last), min(left + 1, last)
    upper = frame[top, left] * (1 - (x - left)) + frame[top, right] * (x - left)
    lower = frame[below, left] * (1 - (x - left)) + frame[below, right] * (x - left)
    return float(upper * (1 - (y - top)) + lower * (y - top))


@pytest.mark.parametrize("flip", [False, True])
def test_against_one_pixel_at_a_time(flip):
    sides = [40, 23, 17, 40]
    frames, lengths = squares(sides)
    plan, samples = ClipsPlan(frames=2, size=16, scale=(0.2, 1.0), aspect=(0.5, 2.0), flip=flip), np.arange(4) + 10**9
    found = grey(augment(frames, lengths, samples, plan, 3))
    boxes, mirrored = draw_crops(samples, plan, 3)
    assert bool(mirrored.any()) == flip
    for clip, side in enumerate(sides):
        cy, cx, height, width = (boxes[clip].double() * side).tolist()
        for i in range(16):
            for j in range(16):
                across = 15 - j if mirrored[clip] else j
                y, x = cy + height * ((i + 0.5) / 16 - 0.5), cx + width * ((across + 0.5) / 16 - 0.5)
                expected = bilinear(frames[clip, 1, :side, :side].numpy().astype(float), y, x)
                assert abs(found[clip, 1, i, j] - expected) < 0.02
    assert found.max() < 101  # none of the padding


def test_the_whole_square_is_resized_as_torch_does():
    frames, sides = squares([48, 48])
    expected = F.interpolate(frames.float(), (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(grey(augment(frames, sides, np.arange(2), WHOLE, 0)), expected, atol=0.01, rtol=0)


def test_a_square_of_the_size_wanted_is_only_normalised():
    frames, sides = squares([32, 32])
    expected = normalise(frames[..., None].expand(-1, -1, -1, -1, 3))
    torch.testing.assert_close(augment(frames, sides, np.arange(2), WHOLE, 0), expected, atol=1e-4, rtol=0)


def test_what_is_drawn_depends_on_the_clip_alone():
    frames, sides = squares([30, 30, 30, 30])
    plan = ClipsPlan(frames=2, size=16, flip=True)
    together = augment(frames, sides, np.arange(4) + 8, plan, 1)
    halves = [augment(frames[i : i + 2], sides[i : i + 2], np.arange(2) + 8 + i, plan, 1) for i in (0, 2)]
    torch.testing.assert_close(together, torch.cat(halves), atol=0, rtol=0)
    assert not torch.equal(together, augment(frames, sides, np.arange(4) + 8, plan, 2))
    assert not torch.equal(together, augment(frames, sides, np.arange(4) + 12, plan, 1))
    # Padding to another size moves nothing.
    wider = F.pad(frames, (0, 5, 0, 5), value=255)
    torch.testing.assert_close(augment(wider, sides, np.arange(4) + 8, plan, 1), together, atol=1e-3, rtol=0)


def test_what_is_remembered_serves_training_too():
    module.normalisation.cache_clear()
    frames, sides = squares([32, 32])
    with torch.inference_mode():
        expected = augment(frames, sides, np.arange(2), WHOLE, 0)
    weight = torch.ones((), requires_grad=True)
    found = augment(frames, sides, np.arange(2), WHOLE, 0)
    assert torch.equal(found, expected)
    (module.normalisation(frames.device)[0] * weight).sum().backward()
    assert module.normalisation.cache_info().misses == 1


@given(
    st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted),
    st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)).map(sorted),
)
def test_crops_keep_to_the_plan(scale, aspect):
    plan = ClipsPlan(scale=tuple(scale), aspect=tuple(aspect))
    boxes = draw_crops(np.arange(50), plan, 0)[0].double()
    centre, extent = boxes[:, :2], boxes[:, 2:]
    assert (centre - extent / 2 > -1e-6).all() and (centre + extent / 2 < 1 + 1e-6).all()
    area, ratio = extent.prod(1), extent[:, 1] / extent[:, 0]
    uncut = (extent < 1).all(1)
    assert (area < scale[1] + 1e-5).all() and (area[uncut] > scale[0] - 1e-5).all()
    assert (ratio[uncut] > aspect[0] - 1e-4).all() and (ratio[uncut] < aspect[1] + 1e-4).all()


def test_areas_and_aspects_are_spread_evenly():
    plan = ClipsPlan(scale=(0.3, 0.6), aspect=(0.8, 1.25), flip=True)
    boxes, mirrored = draw_crops(np.arange(4000), plan, 0)
    area, ratio = (boxes[:, 2] * boxes[:, 3]).numpy(), np.log((boxes[:, 3] / boxes[:, 2]).numpy())
    assert abs(area.mean() - 0.45) < 0.005 and abs(area.std() - 0.3 / 12**0.5) < 0.005
    assert abs(ratio.mean()) < 0.01 and abs(ratio.std() - 2 * np.log(1.25) / 12**0.5) < 0.005
    assert abs(mirrored.float().mean() - 0.5) < 0.03
    assert not draw_crops(np.arange(100), ClipsPlan(), 0)[1].any()
