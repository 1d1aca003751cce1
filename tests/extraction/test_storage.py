"""Fewer tokens, no tokens, tokens in shards: what is kept is what the encoder gave, and everything goes on as ever."""

import re

import numpy as np
import pytest
import torch

from echolung.cache import TokenStore, key_digest
from echolung.clips import ClipPlan
from echolung.encoders import load_encoder
from echolung.errors import InputError
from echolung.extraction.parts import Part
from echolung.extraction.pooling import GridPool, pool_tokens, pooled_grid
from echolung.extraction.sources import finished_store

CLIPS = ClipPlan(segments=2, frames=4, size=64)  # a grid of 2 × 4 × 4


def test_pooled_tokens_are_the_mean_of_their_neighbours(dataset, extract):
    whole = extract(dataset.plan(clips=CLIPS, precision="float32"))
    lean = extract(dataset.plan(clips=CLIPS, token_pool=2))
    assert (whole.grid, lean.grid) == ((2, 4, 4), (2, 2, 2)) and lean.token_shape == (8, 192)
    tokens = whole.tokens(range(10)).astype(np.float64)
    expected = np.empty((10, 2, 2, 2, 192))
    for t, row, column in np.ndindex(2, 2, 2):
        places = [t * 16 + (2 * row + r) * 4 + 2 * column + c for r in (0, 1) for c in (0, 1)]
        expected[:, t, row, column] = tokens[:, places].mean(axis=1)
    np.testing.assert_allclose(lean.tokens(range(10)), expected.reshape(10, 8, 192), atol=4e-3)
    np.testing.assert_allclose(lean.pooled(range(10)), whole.pooled(range(10)), rtol=1e-5, atol=1e-6)
    assert lean.path != whole.path and lean.key == {**whole.key, "token_pool": 2} and whole.key["token_pool"] == 1
    assert lean.array("tokens").nbytes * 4 == whole.array("tokens").nbytes


def test_pooling_is_in_float32_before_float16(dataset):
    encoder = load_encoder("random:vit_tiny")
    frames = torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    tokens = encoder(frames)
    grid = tokens.reshape(2, 2, 2, 2, 2, 2, 192)
    expected = sum(grid[:, :, :, i, :, j] for i in (0, 1) for j in (0, 1)) / 4
    found = GridPool(encoder, (2, 4, 4), 2)(frames)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.reshape(2, 8, 192), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(pool_tokens(tokens, (2, 4, 4), 1), tokens)


@pytest.mark.parametrize(
    ("grid", "pool", "said"),
    [
        ((8, 14, 14), 3, "does not divide the encoder's token grid of 14 × 14; 2, 7, 14 would fit."),
        ((8, 7, 7), 2, "grid of 7 × 7; 7 would fit."),
        ((1, 1, 1), 2, "grid of 1 × 1; no other number would fit either: leave it out."),
        ((4, 6, 4), 4, "grid of 6 × 4; 2 would fit."),
    ],
)
def test_a_pool_that_does_not_fit(grid, pool, said):
    with pytest.raises(InputError, match=re.escape(f"--token-pool {pool} ") + ".*" + re.escape(said)):
        pooled_grid(grid, pool)


def test_a_pool_that_does_not_fit_leaves_nothing(dataset, extract):
    plan = dataset.plan(clips=CLIPS, token_pool=3)
    with pytest.raises(InputError, match="2, 4 would fit"):
        extract(plan)
    assert not plan.path.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tokens": "some"}, "--tokens some must be all, or none"),
        ({"token_pool": 0}, "--token-pool 0 must be 1 (all tokens) or more"),
        ({"tokens": "none", "token_pool": 2}, "--tokens none keeps no token that --token-pool 2 could pool"),
    ],
)
def test_bad_options(dataset, options, said):
    with pytest.raises(InputError, match=re.escape(said)):
        dataset.plan(**options)


def test_defaults_leave_keys_as_they_were(dataset):
    plan = dataset.plan()
    assert plan.key["token_pool"] == 1 and key_digest(plan.key) == key_digest(dataset.plan(token_pool=1).key)
    assert len({dataset.plan(**o).path for o in ({}, {"token_pool": 2}, {"tokens": "none"})}) == 3


@pytest.mark.parametrize("options", [{"tokens": "none"}, {"token_pool": 2}, {}])
@pytest.mark.parametrize("shard", [None, 4])
def test_in_every_form_changes_growth_and_unreadable_videos_work(dataset, extract, arrays, tmp_path, options, shard):
    (dataset.folder / "v3.mp4").write_text("no video")
    plan = dataset.plan(tmp_path / "a.zarr", **options)
    store = extract(plan, batch=2, shard=shard)
    assert set(store.failures) == {"v3"} and store.block == (shard or 2) and store.batch == 2
    with pytest.raises(InputError, match="hold no pooled"):
        store.pooled([6])
    assert finished_store(plan) is not None
    dataset.write_video("v1", seed=8)
    dataset.write_video("v3", seed=3)  # mended
    dataset.write_video("v5", seed=5)
    dataset.labels["v5"] = "b"
    dataset.write_table()
    plan = dataset.plan(plan.path, **options)
    store = extract(plan, batch=2, shard=shard)
    assert store.complete.all() and store.clips == 12 and store.block == (shard or 2)
    dataset.write_video("v2", seed=9)
    store = extract(plan)  # keeps batch and shard
    fresh = extract(dataset.plan(tmp_path / "fresh.zarr", **options), batch=2, shard=shard)
    found, expected = arrays(store.path), arrays(fresh.path)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_shards_are_storage_not_numbers(dataset, extract, arrays, tmp_path):
    plan = dataset.plan(tmp_path / "a.zarr")
    files, shards = extract(plan, batch=2), extract(dataset.plan(tmp_path / "b.zarr"), batch=2, shard=3)
    assert shards.key == files.key and shards.block == 4  # whole batches
    assert len(list((shards.path / "tokens" / "c").iterdir())) == 3
    found, expected = arrays(shards.path), arrays(files.path)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert extract(dataset.plan(tmp_path / "c.zarr"), batch=2, shard=1000).block == 10


def test_a_store_keeps_its_shards_and_says_so(dataset, extract, tmp_path):
    said: list[str] = []
    plan = dataset.plan(tmp_path / "a.zarr")
    extract(plan, said, batch=2, shard=3, part=Part(1, 2))
    for shard, expected in ((3, 0), (4, 0), (6, 1), (None, 1)):
        extract(plan, said, shard=shard, part=Part(1, 2))
        assert sum("a.zarr was begun with shards of 4 clips and keeps to it" in line for line in said) == expected
    other = dataset.plan(tmp_path / "b.zarr")
    extract(other, said, batch=2, part=Part(1, 2))
    extract(other, said, shard=4)
    assert "b.zarr was begun with one file a clip and keeps to it; --shard 4 is for a new store." in said
    assert not TokenStore.open(other.path).sharded


def test_pooled_rows_only_are_those_of_the_whole_store(dataset, extract):
    whole, lean = extract(dataset.plan()), extract(dataset.plan(tokens="none"))
    np.testing.assert_array_equal(lean.pooled(range(10)), whole.pooled(range(10)))
    assert lean.token_shape == (0, 192) and lean.key["token_pool"] == "none" and lean.size < whole.size
    with pytest.raises(InputError, match="holds pooled rows only"):
        lean.tokens([0])
    with pytest.raises(InputError, match="token_pool: is 'none', expected 1"):
        finished_store(dataset.plan(lean.path))
