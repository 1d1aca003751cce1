"""What probes get from a store: pooled and full tokens, views, order, unreadable videos."""

import numpy as np
import pandas as pd
import pytest
import torch

from echolung.datasets.manifest import Task
from echolung.errors import InputError
from echolung.probes import load_features


def store_of(write_store, unreadable=()):
    random = np.random.default_rng(0)
    values = random.normal(size=(5, 2, 3, 4, 6))  # videos, views, segments, tokens, dim
    names = ["v9", "v10", "a", "Z", "b"]
    videos = pd.DataFrame({"video_id": names, "patient": names, "source": "", "label": ["x", "y", "x", "y", "x"]})
    return values, write_store(values, videos, {"label": Task("classification", "label", ("x", "y"))}, unreadable)


def test_pooled_and_full_tokens_agree_and_keep_the_stores_order(write_store):
    values, store = store_of(write_store)
    full, pooled = load_features(store, pooled=False), load_features(store, pooled=True)
    assert full.video_ids == pooled.video_ids == ("v9", "v10", "a", "Z", "b")
    assert full.values.shape == (5, 2, 12, 6) and full.values.dtype == np.float16
    assert pooled.values.shape == (5, 2, 1, 6) and pooled.values.dtype == np.float32
    np.testing.assert_allclose(full.values, values.reshape(5, 2, 12, 6), atol=2e-3)
    np.testing.assert_allclose(pooled.values[:, :, 0], values.mean((2, 3)), atol=1e-6)
    assert (full.dim, full.views, len(full)) == (6, 2, 5)


def test_rows_in_any_order_make_the_same_videos(write_store, monkeypatch):
    _, store = store_of(write_store)
    expected = load_features(store, pooled=False)
    shuffled = np.random.default_rng(1).permutation(store.clips)
    rows, tokens = store.rows, store.tokens
    monkeypatch.setitem(store.__dict__, "rows", rows.iloc[shuffled].reset_index(drop=True))
    monkeypatch.setattr(store, "tokens", lambda wanted: tokens(shuffled[np.asarray(wanted)]))
    found = load_features(store, pooled=False)
    for name, value in zip(found.video_ids, found.values, strict=True):
        np.testing.assert_array_equal(value, expected.values[expected.video_ids.index(name)])


def test_batches_are_of_the_fixed_view_or_of_one_view_each(write_store):
    _, store = store_of(write_store)
    features = load_features(store, pooled=True)
    batch = features.batch(np.array([4, 0]))
    assert batch.dtype == torch.float32
    np.testing.assert_array_equal(batch, features.values[[4, 0], 0])
    np.testing.assert_array_equal(features.batch(np.array([4, 0]), np.array([1, 0])), features.values[[4, 0], [1, 0]])
    chosen = features.select(np.array([3, 1]))
    assert chosen.video_ids == ("Z", "v10")
    np.testing.assert_array_equal(chosen.values, features.values[[3, 1]])


@pytest.mark.parametrize("pooled", [True, False])
def test_unreadable_videos_are_left_out(write_store, pooled):
    values, store = store_of(write_store, ["v9", "Z"])
    features = load_features(store, pooled=pooled)
    assert features.video_ids == ("v10", "a", "b")
    np.testing.assert_allclose(features.values[0].mean(1), values[1].mean((1, 2)), atol=1e-3)


def test_a_video_that_lacks_a_clip_is_left_out(write_store, monkeypatch):
    _, store = store_of(write_store)
    complete = store.complete.copy()
    complete[7] = False
    monkeypatch.setitem(store.__dict__, "complete", complete)
    assert load_features(store, pooled=True).video_ids == ("v9", "a", "Z", "b")


def test_nothing_readable_is_an_error(write_store):
    _, store = store_of(write_store, ["v9", "v10", "a", "Z", "b"])
    with pytest.raises(InputError, match=r"No video of synthetic\.zarr could be read"):
        load_features(store, pooled=True)
