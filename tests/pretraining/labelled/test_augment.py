"""Clips moved over black, against one frame at a time with Pillow and numpy."""

import numpy as np
import pytest
import torch
from PIL import Image

from echolung.encoders.preprocess import normalise
from echolung.pretraining.labelled.augment import augment, draw_places
from echolung.pretraining.labelled.plans import ClipsPlan

PLAN = ClipsPlan(frames=3, size=24, shift=4)


def squares(sides: list[int]) -> torch.Tensor:
    """Return noise; the padding is bright, so that any of it in a result shows."""
    random = np.random.default_rng(0)
    padded = np.full((len(sides), 3, max(sides), max(sides)), 255, np.uint8)
    for clip, side in zip(padded, sides, strict=True):
        clip[:, :side, :side] = random.integers(0, 100, (3, side, side))
    return torch.from_numpy(padded)


def test_against_one_frame_at_a_time() -> None:
    sides = [24, 40, 24, 17]
    frames, samples = squares(sides), np.arange(4) + 10**9
    found = augment(frames, torch.tensor(sides), samples, PLAN, 3)
    for clip, side, (y, x) in zip(range(4), sides, draw_places(samples, 4, 3), strict=True):
        expected = np.zeros((1, 3, 24, 24, 3), np.uint8)
        for t in range(3):
            image = Image.fromarray(frames[clip, t, :side, :side].numpy())
            resized = np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR))
            expected[0, t] = np.pad(resized, 4)[y : y + 24, x : x + 24, None]
        difference = (found[clip] - normalise(torch.from_numpy(expected))[0]).abs().max()
        # Pillow rounds to whole grey levels, of which 57 are 1 here; clips of the right size are not resampled.
        assert difference < (1e-5 if side == 24 else 0.03)


def test_black_is_black_before_normalising() -> None:
    frames = torch.full((1, 3, 24, 24), 200, dtype=torch.uint8)
    sample = next(n for n in range(99) if tuple(draw_places(np.array([n]), 4, 0)[0]) == (0, 8))
    found = augment(frames, torch.tensor([24]), np.array([sample]), PLAN, 0)
    black = normalise(torch.zeros(1, 1, 1, 1, 3, dtype=torch.uint8))[0]
    assert torch.equal(found[0, :, :, :4], black.expand(3, 3, 4, 24))
    assert torch.equal(found[0, :, :, :, -4:], black.expand(3, 3, 24, 4))
    assert (found[0, :, :, 4:, :-4] > 1).all()


def test_every_place_comes_about_as_often_and_follows_from_seed_and_number() -> None:
    places = draw_places(np.arange(4000), 6, 0)
    assert np.array_equal(places[17:19], draw_places(np.array([17, 18]), 6, 0))
    assert not np.array_equal(places, draw_places(np.arange(4000), 6, 1))
    counts = np.bincount(places.ravel(), minlength=13)
    assert len(counts) == 13
    assert counts.min() > 500
    assert counts.max() < 740


@pytest.mark.parametrize("side", [24, 30])
def test_without_a_shift_nothing_moves(side: int) -> None:
    frames = squares([side])
    plan = ClipsPlan(frames=3, size=24, shift=0)
    one, other = (augment(frames, torch.tensor([side]), np.array([n]), plan, 0) for n in range(2))
    assert torch.equal(one, other)
