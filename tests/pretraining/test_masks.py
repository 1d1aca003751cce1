"""Masks against the published rules, restated on sets of places."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echolung.errors import InputError
from echolung.pretraining.masks import draw_masks
from echolung.pretraining.plans import MaskPlan

GRIDS = st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(2, 9))
GENERATORS = st.lists(st.tuples(st.integers(1, 10), st.floats(0.001, 1)), min_size=1, max_size=2)
PLANS = st.fixed_dictionaries(
    {
        "generators": GENERATORS,
        "aspect": st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)).map(sorted),
        "truncate": st.sampled_from(["random", "first"]),
    }
)
CASES = {"grid": GRIDS, "plan": PLANS, "seed": st.integers(0, 2**31 - 1), "step": st.integers(0, 10**9)}
ECHO = (8, 14, 14)


def draw(grid, plan, seed, step, samples, **rows):
    return draw_masks(grid, plan, seed, step, np.asarray(samples), **rows)


def plan_of(drawn):
    blocks, scale = zip(*drawn["generators"], strict=True)
    return MaskPlan(blocks, scale, tuple(drawn["aspect"]), drawn["truncate"])


def places(ids, grid):
    """Return {slot: set of (row, column)} of the tokens of one clip."""
    _, height, width = grid
    found = {slot: set() for slot in range(grid[0])}
    for token in ids.tolist():
        found[token // (height * width)].add((token % (height * width) // width, token % width))
    return found


def in_blocks(hidden, size, grid):
    """Return the places of `hidden` that lie in a block of this size which is hidden as a whole."""
    rows, columns = size
    covered = set()
    for top in range(grid[1] - rows + 1):
        for left in range(grid[2] - columns + 1):
            block = {(top + i, left + j) for i in range(rows) for j in range(columns)}
            covered |= block if block <= hidden else set()
    return covered


def spelt_out_size(grid, scale, ratio):
    area = int(grid[1] * grid[2] * scale)
    rows = min(max(round((area * ratio) ** 0.5), 1), grid[1])
    columns = min(max(round((area / ratio) ** 0.5), 1), grid[2])
    if (rows, columns) == grid[1:]:  # nothing would be visible
        return (rows - 1, columns) if rows > columns else (rows, columns - 1)
    return rows, columns


@settings(deadline=None, max_examples=60)
@given(**CASES, sample=st.integers(0, 10**9))
def test_one_sample_is_hidden_by_whole_blocks_through_all_slots(grid, plan, seed, step, sample):
    plan = plan_of(plan)
    everything = {(row, column) for row in range(grid[1]) for column in range(grid[2])}
    for index, masks in enumerate(draw(grid, plan, seed, step, [sample])):
        context, target = places(masks.context[0], grid), places(masks.target[0], grid)
        hidden = target[0]
        assert all(target[slot] == hidden and context[slot] == everything - hidden for slot in target)
        assert 0 < len(hidden) < len(everything)
        # With one block the target is that block; with more, the same size covers the union and nothing else.
        alone = replace(plan, blocks=tuple(1 for _ in plan.blocks))
        block = places(draw(grid, alone, seed, step, [sample])[index].target[0], grid)[0]
        size = tuple(1 + max(axis) - min(axis) for axis in zip(*block, strict=True))
        assert len(block) == size[0] * size[1]
        assert in_blocks(hidden, size, grid) == hidden
        assert len(hidden) <= plan.blocks[index] * len(block)
        attainable = {spelt_out_size(grid, plan.scale[index], ratio) for ratio in np.linspace(*plan.aspect, 2000)}
        assert size in attainable


@settings(deadline=None, max_examples=60)
@given(**CASES, first=st.integers(0, 10**9), batch=st.integers(2, 9))
def test_a_batch_is_its_samples_cut_to_the_least(grid, plan, seed, step, first, batch):
    plan, samples = plan_of(plan), np.arange(first, first + batch)
    alone = [draw(grid, plan, seed, step, [sample]) for sample in samples]
    for index, masks in enumerate(draw(grid, plan, seed, step, samples)):
        for name in ("context", "target"):
            whole, cut = [getattr(one[index], name)[0] for one in alone], getattr(masks, name)
            least = min(map(len, whole))
            assert cut.shape == (batch, least)
            assert cut.dtype == np.int64
            for before, after in zip(whole, cut, strict=True):
                if plan.truncate == "first":
                    assert after.tolist() == before.tolist()[:least]
                    continue
                assert after.tolist() == sorted(set(after.tolist()) & set(before.tolist()))
                slots = places(after, grid)
                assert all(slots[slot] == slots[0] for slot in slots)


@settings(deadline=None, max_examples=30)
@given(**CASES, ranks=st.integers(1, 3))
def test_the_same_masks_however_the_batch_is_split(grid, plan, seed, step, ranks):
    plan, samples = plan_of(plan), np.arange(step * 6, step * 6 + 6)
    whole = draw(grid, plan, seed, step, samples)
    share = 6 // ranks
    for rank in range(ranks):
        rows = slice(rank * share, (rank + 1) * share)
        for one, part in zip(whole, draw(grid, plan, seed, step, samples, rows=rows), strict=True):
            assert np.array_equal(one.context[rows], part.context)
            assert np.array_equal(one.target[rows], part.target)


def test_a_sample_draws_the_same_in_any_order_and_another_each_step():
    samples = np.array([5, 3, 900, 4])
    turned = samples[::-1]
    for one, other in zip(draw(ECHO, MaskPlan(), 1, 2, samples), draw(ECHO, MaskPlan(), 1, 2, turned), strict=True):
        assert np.array_equal(one.context, other.context[::-1])
    drawn = {
        draw(ECHO, MaskPlan(), seed, step, [sample])[generator].context.tobytes()
        for seed in (0, 1) for step in (0, 1) for sample in (0, 1) for generator in (0, 1)
    }  # fmt: skip
    assert len(drawn) == 16


def slot_means(truncate, batch, steps=150):
    """Return the mean number of context tokens of each generator and slot."""
    plan = MaskPlan(truncate=truncate)
    total = np.zeros((2, 8))
    for step in range(steps):
        for row, masks in zip(total, draw(ECHO, plan, 0, step, np.arange(batch) + step * batch), strict=True):
            row += np.bincount((masks.context // 196).ravel(), minlength=8) / batch
    return total / steps


def test_truncation_to_the_first_starves_late_slots_as_published():
    short, long = slot_means("first", batch=16)
    np.testing.assert_allclose(short, [73, 73, 73, 66, 49, 27, 11.5, 4.8], atol=6)
    np.testing.assert_allclose(long, [38, 35, 24, 15, 7, 4, 2.6, 2.2], atol=6)


def test_random_truncation_treats_slots_alike_and_keeps_as_many_tokens():
    random, first = slot_means("random", batch=16), slot_means("first", batch=16)
    np.testing.assert_allclose(random.sum(1), first.sum(1))
    assert np.ptp(random, axis=1).max() < 1e-9


def test_random_truncation_prefers_no_place():
    ranks = []
    for step in range(30):
        masks = draw(ECHO, MaskPlan(), 0, step, np.arange(16))[0]
        for sample in range(16):
            before = draw(ECHO, MaskPlan(), 0, step, [sample])[0].context[0]
            before = np.unique(before % 196)
            after = np.unique(masks.context[sample] % 196)
            if len(after) < len(before):
                ranks.append(np.searchsorted(before, after).mean() / (len(before) - 1))
    assert abs(np.mean(ranks) - 0.5) < 4 * np.std(ranks) / len(ranks) ** 0.5


def test_every_place_of_a_block_is_as_likely():
    grid, plan = (1, 6, 6), MaskPlan((1,), (0.25,), (1.0, 1.0))
    corners = Counter(draw(grid, plan, 0, 0, [sample])[0].target[0, 0] for sample in range(3200))
    assert len(corners) == 16
    assert max(abs(count - 200) for count in corners.values()) < 5 * 200**0.5


def test_published_aspects_are_all_drawn():
    sizes = set()
    for step in range(200):
        target = draw((1, 14, 14), MaskPlan((1,), (0.15,)), 0, step, [0])[0].target[0]
        sizes.add((len(set(target // 14)), len(set(target % 14))))
    assert sizes == {spelt_out_size((1, 14, 14), 0.15, ratio) for ratio in np.linspace(0.75, 1.5, 2000)}


@pytest.mark.parametrize("grid", [(4, 4, 4), (2, 1, 2), (2, 2, 1), (8, 3, 2)])
def test_many_large_blocks_on_a_small_frame_leave_something_visible(grid):
    for step in range(20):
        for masks in draw(grid, MaskPlan((100, 2), (1.0, 0.7)), 0, step, np.arange(4)):
            assert masks.context.shape[1] >= grid[0]


def test_a_frame_of_one_patch_says_what_to_do():
    with pytest.raises(InputError, match=r"4 × 1 × 1 tokens cannot be masked.*Raise clips\.size"):
        draw((4, 1, 1), MaskPlan(), 0, 0, [0])
