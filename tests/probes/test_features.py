"""What probes get from a store: pooled and full tokens, views, order, unreadable videos; held or streamed, the same."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echolung.datasets.manifest import Task
from echolung.errors import InputError, RunError
from echolung.probes import Features, load_features
from echolung.probes.features import BATCHES_AT_ONCE, PIECE


def store_of(write_store, unreadable=()):
    random = np.random.default_rng(0)
    values = random.normal(size=(5, 2, 3, 4, 6))  # videos, views, segments, tokens, dim
    names = ["v9", "v10", "a", "Z", "b"]
    videos = pd.DataFrame({"video_id": names, "patient": names, "source": "", "label": ["x", "y", "x", "y", "x"]})
    return values, write_store(values, videos, {"label": Task("classification", "label", ("x", "y"))}, unreadable)


def batch_of(features, *videos, views=None):
    (tokens,) = features.batches([(np.array(videos), None if views is None else np.array(views))])
    return tokens


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
    batch = batch_of(features, 4, 0)
    assert batch.dtype == torch.float32
    np.testing.assert_array_equal(batch, features.values[[4, 0], 0])
    np.testing.assert_array_equal(batch_of(features, 4, 0, views=[1, 0]), features.values[[4, 0], [1, 0]])
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


# ---- segments: early and late fusion ---------------------------------------------------------------------------------


def test_late_fusion_keeps_a_row_a_segment(write_store):
    values, store = store_of(write_store)
    late, early = load_features(store, pooled=True, fusion="late"), load_features(store, pooled=True)
    assert (late.segments, late.n, late.pooled) == (3, 3, True)
    assert (early.segments, early.n, early.pooled) == (1, 1, True)
    np.testing.assert_allclose(late.values, values.mean(3), atol=1e-6)
    np.testing.assert_allclose(late.values.mean(2), early.values[:, :, 0], atol=1e-6)


def test_late_fusion_cuts_tokens_where_segments_meet(write_store):
    values, store = store_of(write_store)
    late, early = load_features(store, pooled=False, fusion="late"), load_features(store, pooled=False)
    assert (late.segments, late.n, late.pooled) == (3, 12, False)
    assert (early.segments, early.n, early.pooled) == (1, 12, False)
    np.testing.assert_array_equal(late.values, early.values)
    batch = batch_of(late, 2, 4).unflatten(1, (late.segments, -1))
    np.testing.assert_allclose(batch, values[[2, 4], 0], atol=2e-3)


# ---- streaming -------------------------------------------------------------------------------------------------------

CLIP = 4 * 6 * 2  # bytes
VIDEO = 3 * CLIP  # of one view
BATCH = 2
ROOM = BATCHES_AT_ONCE * BATCH * VIDEO + PIECE * CLIP


def streamed(store, held: int, **options) -> Features:
    """Return the features with so many videos held."""
    return load_features(store, pooled=False, memory=float(ROOM + held * 2 * VIDEO), batch=BATCH, **options)


@pytest.fixture(scope="module")
def wide(write_store):
    """Return a store of 16 videos, 2 views and 3 segments each."""
    values = np.random.default_rng(0).normal(size=(16, 2, 3, 4, 6))
    names = [f"v{i}" for i in np.random.default_rng(1).permutation(16)]
    videos = pd.DataFrame({"video_id": names, "patient": names, "source": "", "label": "x"})
    return write_store(values, videos, {"label": Task("classification", "label", ("x", "y"))})


@pytest.fixture
def breakable(write_store):
    """Return a store of which a test damages what it likes."""
    values = np.random.default_rng(0).normal(size=(16, 2, 3, 4, 6))
    videos = pd.DataFrame({"video_id": [f"v{i}" for i in range(16)], "patient": "p", "source": "", "label": "x"})
    return write_store(values, videos, {"label": Task("classification", "label", ("x", "y"))})


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_streamed_batches_are_those_from_memory_bit_for_bit(wide, data):
    chosen = data.draw(st.permutations(range(16)))[: data.draw(st.integers(1, 16))]
    sizes = data.draw(st.lists(st.integers(1, BATCH), max_size=12))
    videos = [np.array([data.draw(st.integers(0, len(chosen) - 1)) for _ in range(size)]) for size in sizes]
    views = [data.draw(st.none() | st.just(np.array([data.draw(st.integers(0, 1)) for _ in v]))) for v in videos]
    plan = list(zip(videos, views, strict=True))
    whole = load_features(wide, pooled=False).select(np.array(chosen))
    part = streamed(wide, data.draw(st.integers(0, 11))).select(np.array(chosen))
    assert part.video_ids == whole.video_ids
    expected, found = list(whole.batches(plan)), list(part.batches(plan))
    assert len(found) == len(plan)
    for one, other, (drawn, seen) in zip(expected, found, plan, strict=True):
        assert one.dtype == other.dtype == torch.float16
        np.testing.assert_array_equal(other.numpy().view(np.uint16), one.numpy().view(np.uint16))
        np.testing.assert_array_equal(one, whole.values[drawn, 0 if seen is None else seen])
    assert not readers()


@pytest.mark.parametrize("held", [0, 1, 11])
def test_no_more_is_held_than_was_asked_for(wide, held, monkeypatch):
    asked = []
    tokens = wide.tokens
    monkeypatch.setattr(wide, "tokens", lambda rows: asked.append(len(rows)) or tokens(rows))
    part = streamed(wide, held)
    assert len(part.held) == held and asked == [6 * held] and not part.in_memory
    assert (len(part), part.n, part.dim, part.views, part.segments) == (16, 12, 6, 2, 1)
    with pytest.raises(ValueError, match="some of these videos are streamed"):
        _ = part.values
    list(part.batches([(np.arange(i, i + 2), None) for i in range(0, 16, 2)]))
    assert max(asked[1:]) <= PIECE and sum(asked[1:]) == 3 * (16 - held)


def test_a_bound_that_all_fit_into_holds_all(wide):
    whole = load_features(wide, pooled=False, memory=16.0 * 2 * VIDEO)
    assert whole.in_memory and whole.values.shape == (16, 2, 12, 6)
    assert load_features(wide, pooled=True, memory=1.0).in_memory


def test_batches_are_read_ahead_but_not_further_than_the_bound_allows(wide, monkeypatch):
    part = streamed(wide, 0)
    read, enough = [], threading.Semaphore(0)
    tokens = wide.tokens

    def noted(rows):
        read.append(len(rows))
        enough.release()
        return tokens(rows)

    monkeypatch.setattr(wide, "tokens", noted)
    stream = part.batches([(np.array([i]), None) for i in range(16)])
    next(stream)
    for _ in range(BATCHES_AT_ONCE - 1):  # what was taken, and what is read while the caller computes
        assert enough.acquire(timeout=10)
    assert not enough.acquire(timeout=0.2), "more than the bound allows"
    assert len(list(stream)) == 15 and len(read) == 16


def test_leaving_early_stops_the_reader(wide):
    part = streamed(wide, 0)
    plan = [(np.array([i]), None) for i in range(16)]
    for _ in part.batches(plan):
        break
    assert not readers()
    stream = part.batches(plan)
    next(stream)
    assert readers()
    stream.close()
    assert not readers()
    with pytest.raises(ZeroDivisionError):
        for _ in part.batches(plan):
            raise ZeroDivisionError
    assert not readers()


def test_selecting_reads_nothing(wide, monkeypatch):
    part, whole = streamed(wide, 5), load_features(wide, pooled=False)
    with monkeypatch.context() as patch:
        patch.setattr(wide, "tokens", lambda _: pytest.fail("read"))
        late = part.select(np.array([15, 0, 9, 4])).select(np.array([3, 0, 1]))
        within = part.select(np.array([4, 0]))
        np.testing.assert_array_equal(within.values, whole.values[[4, 0]])
        np.testing.assert_array_equal(batch_of(within, 1), whole.values[[0], 0])
    assert late.video_ids == tuple(whole.video_ids[i] for i in (4, 15, 0))
    np.testing.assert_array_equal(batch_of(late, 0, 1), whole.values[[4, 15], 0])


@pytest.mark.parametrize("harm", ["flipped", "missing"])
def test_damage_found_while_reading_ahead_reaches_the_caller(breakable, harm):
    part = streamed(breakable, 0)
    chunk = breakable.path / "tokens" / "c" / str(part.streamed.clips[9, 0, 1]) / "0" / "0"
    if harm == "flipped":
        chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    else:
        chunk.unlink()
    good = []
    with pytest.raises(RunError, match="damaged on disk" if harm == "flipped" else "are missing on disk"):
        good.extend(part.batches([(np.array([i]), None) for i in range(16)]))
    assert not readers()
    assert len(list(part.batches([(np.array([i]), None) for i in range(9)]))) == 9


def test_too_little_memory_says_how_much_is_needed(wide):
    with pytest.raises(InputError, match=r"leaves [\d.]+ kB .* too little: one .* must fit, [\d.]+ kB"):
        load_features(wide, pooled=False, memory=float(ROOM - 1), batch=BATCH)
    assert len(load_features(wide, pooled=False, memory=float(ROOM), batch=BATCH).held) == 0


def test_a_batch_larger_than_was_said(wide):
    part = streamed(wide, 0)
    with pytest.raises(InputError, match=r"A batch of 3 videos .* batches of 2 ahead\. Take smaller batches"):
        list(part.batches([(np.arange(3), None)]))


def test_a_store_of_means_has_no_tokens(wide, monkeypatch):
    monkeypatch.setattr(type(wide), "token_shape", (0, 6))
    with pytest.raises(InputError, match=r"has no tokens, only their means\. Use a probe on mean tokens"):
        load_features(wide, pooled=False)
    assert load_features(wide, pooled=True).values.shape == (16, 2, 1, 6)


def test_on_a_device_the_same_batches(wide):
    whole = load_features(wide, pooled=False)
    there = whole.to("cpu").select(np.arange(15, -1, -1))
    plan = [(np.array([3, 0]), np.array([1, 0])), (np.array([7]), None)]
    for one, other in zip(whole.select(np.arange(15, -1, -1)).batches(plan), there.batches(plan), strict=True):
        assert torch.equal(one, other)
    assert streamed(wide, 3).to("cpu").on is None
