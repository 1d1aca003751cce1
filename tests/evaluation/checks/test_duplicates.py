"""Copies are found whatever was done to them; clips that merely come from one scanner are not taken for copies."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from echolung.evaluation.checks.duplicates import alike_pictures, alike_tokens


def scans(count, seed=0, frames=8, size=112):
    """Return smooth moving clips under the fan that all of them share."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    fan = (np.abs(x - 0.5) < 0.1 + 0.4 * y) * 120.0
    clips = {}
    for number in range(count):
        blobs = random.uniform(0, 1, (12, 4))
        drift = random.uniform(-0.01, 0.01, (12, 2))
        clip = []
        for time in range(frames):
            at = blobs[:, :2] + drift * time
            bright = [
                b[3] * np.exp(-((x - c[0]) ** 2 + (y - c[1]) ** 2) / 0.008) for b, c in zip(blobs, at, strict=True)
            ]
            clip.append(fan * (0.3 + sum(bright)))
        clips[f"v{number}"] = np.clip(np.stack(clip), 0, 255).astype(np.uint8)
    return clips


def pairs(found):
    return {frozenset((pair.first, pair.second)) for pair in found}


def test_scans_of_one_scanner_are_no_copies():
    assert alike_pictures(scans(40)) == []


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(["brighter", "noisier", "later", "reversed", "squeezed"]), st.integers(0, 5))
def test_copies_are_found(how, seed):
    random = np.random.default_rng(seed)
    clips = scans(12, seed)
    clip = clips["v3"].astype(float)
    changed = {
        "brighter": clip * 1.3 + 10,
        "noisier": clip + random.normal(0, 8, clip.shape),
        "later": np.concatenate([clip[3:], clip[-1:].repeat(3, 0)]),
        "reversed": clip[::-1],
        "squeezed": clip[:, ::2, ::2].repeat(2, 1).repeat(2, 2),
    }[how]
    clips["copy"] = np.clip(changed, 0, 255).astype(np.uint8)
    found = alike_pictures(clips)
    assert pairs(found) == {frozenset(("v3", "copy"))} and 0.9 <= found[0].alike <= 1


def test_black_clips_and_few_videos():
    black = {f"b{i}": np.zeros((4, 28, 28), np.uint8) for i in range(2)}
    assert frozenset(("b0", "b1")) in pairs(alike_pictures({**scans(12, size=28), **black}))
    assert alike_pictures(black) == []
    assert all(
        np.isfinite(p.alike) for p in alike_pictures({f"b{i}": np.zeros((4, 28, 28), np.uint8) for i in range(9)})
    )


def test_tokens_that_share_a_direction():
    random = np.random.default_rng(0)
    common = 100 * random.normal(size=200)
    tokens = {f"v{i}": (common + random.normal(size=200)).astype(np.float32) for i in range(80)}
    assert alike_tokens(tokens) == []  # though every plain cosine is above 0.999
    tokens["copy"] = tokens["v7"] + np.float32(0.05) * random.normal(size=200).astype(np.float32)
    assert pairs(alike_tokens(tokens)) == {frozenset(("v7", "copy"))}


def test_tokens_of_which_nothing_can_be_told():
    random = np.random.default_rng(0)
    assert alike_tokens({f"v{i}": random.normal(size=9).astype(np.float32) for i in range(31)}) == []
    assert alike_tokens({f"v{i}": np.ones(9, np.float32) for i in range(40)}) == []
    assert alike_tokens({f"v{i}": random.normal(size=3).astype(np.float32) for i in range(40)}) == []
