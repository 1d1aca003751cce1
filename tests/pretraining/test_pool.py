"""Which videos a run learns from, and the endless order they come in: coverage, shares, a function of the place alone."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echolung.datasets import Manifest
from echolung.errors import InputError
from echolung.pretraining.pool import Pool, parse_mix


def manifest(name: str, count: int, root: str = "/data", split: list[str] | None = None) -> Manifest:
    ids = [f"{i:04}" for i in range(count)]
    videos = pd.DataFrame({"video_id": ids, "path": [f"{i}.avi" for i in ids], "patient": "", "source": ""})
    return Manifest(name, Path(root) / name, videos if split is None else videos.assign(split=split), {})


def rows(pool: Pool, seed: int, begin: int, end: int) -> list[int]:
    return pool.order(seed, np.arange(begin, end)).tolist()


@given(st.integers(1, 60), st.integers(0, 9), st.integers(0, 50))
def test_without_weights_each_round_is_every_video_once(count, seed, number):
    pool = Pool.of([manifest("a", count)])
    assert sorted(rows(pool, seed, number * count, (number + 1) * count)) == list(range(count))


def test_rounds_and_seeds_differ():
    pool = Pool.of([manifest("a", 50)])
    assert rows(pool, 0, 0, 50) != rows(pool, 0, 50, 100)
    assert rows(pool, 0, 0, 50) != rows(pool, 1, 0, 50)


@given(
    st.lists(st.tuples(st.integers(1, 25), st.floats(0.1, 10)), min_size=1, max_size=4),
    st.integers(0, 5),
    st.integers(1, 8),
)
def test_weights(datasets, seed, rounds):
    manifests = [manifest(f"d{i}", count) for i, (count, _) in enumerate(datasets)]
    pool = Pool.of(manifests, {f"d{i}": weight for i, (_, weight) in enumerate(datasets)})
    total, share = sum(count for count, _ in datasets), np.array([weight for _, weight in datasets])
    share /= share.sum()
    names = pool.videos["dataset"].to_numpy()
    stream = rows(pool, seed, 0, rounds * total)
    for i, (count, _) in enumerate(datasets):
        mine = [row for row in stream if names[row] == f"d{i}"]
        assert len(mine) >= rounds
        # One up or down for rounding, and what the others need to come at all.
        assert abs(len(mine) / rounds - share[i] * total) <= len(datasets)
        for begin in range(0, len(mine), count):  # each once before any comes twice
            assert len(set(mine[begin : begin + count])) == len(mine[begin : begin + count])
    for begin in range(0, len(stream), total):  # and the share holds in each round
        assert Counter(names[stream[begin : begin + total]]) == Counter(names[stream[:total]])


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.booleans())
def test_a_place_says_it_all(positions, weighted):
    pool = Pool.of([manifest("a", 20), manifest("b", 7)], {"a": 1, "b": 2} if weighted else None)
    whole = rows(pool, 3, 0, 301)
    assert pool.order(3, np.array(positions)).tolist() == [whole[p] for p in positions]


def test_two_to_one():
    pool = Pool.of([manifest("a", 30), manifest("b", 60)], {"a": 2, "b": 1})
    assert Counter(pool.videos["dataset"].to_numpy()[rows(pool, 0, 0, 90)]) == {"a": 60, "b": 30}
    assert pool.describe() == ["a: 30 videos, 67% of the clips", "b: 60 videos, 33% of the clips"]


def test_validation_and_test_stay_out():
    split = ["TRAIN", "VAL", "Test", " train ", "validation", ""]
    pool = Pool.of([manifest("a", 6, split=split), manifest("b", 2)])
    assert pool.names == ["a/0000", "a/0003", "b/0000", "b/0001"]
    assert pool.describe() == ["a: 2 videos, 4 left out", "b: 2 videos"]
    assert pool.notes == ("a: 1 videos with an empty `split` are left out.",)
    assert pool.videos["path"][0] == "/data/a/0000.avi"
    everything = Pool.of([manifest("a", 6, split=split), manifest("b", 2)], all_splits=True)
    assert len(everything.videos) == 8
    (note,) = everything.notes
    assert note.startswith("a: the 4 videos for validation and test") and "published" in note


def test_the_digest_is_of_the_videos_not_of_where_they_lie():
    one = Pool.of([manifest("a", 5), manifest("b", 3)])
    assert one.digest == Pool.of([manifest("b", 3, root="/elsewhere"), manifest("a", 5)]).digest
    others = [
        Pool.of([manifest("a", 5)]),
        Pool.of([manifest("a", 5), manifest("c", 3)]),
        Pool.of([manifest("a", 5), manifest("b", 3)], {"a": 2}),
        Pool.of([manifest("a", 5), manifest("b", 3)], {"a": 3}),
    ]
    assert len({one.digest, *(pool.digest for pool in others)}) == 5


def test_bad_pools():
    with pytest.raises(InputError, match=r"The pool is empty: looked at a \(2 videos under /data/a, all left out\)"):
        Pool.of([manifest("a", 2, split=["val", "test"])])
    with pytest.raises(InputError, match="The pool is empty: looked at no dataset"):
        Pool.of([])
    with pytest.raises(InputError, match="has the dataset a twice"):
        Pool.of([manifest("a", 2), manifest("a", 3)])
    with pytest.raises(InputError, match="weight for b, and the pool holds a"):
        Pool.of([manifest("a", 2)], {"b": 1})
    with pytest.raises(InputError, match="`split` of a holds 'fold 3'; it must say train, val or test"):
        Pool.of([manifest("a", 1, split=["fold 3"])])


def test_mixes():
    assert parse_mix("echonet-dynamic:2, echonet-pediatric:1") == {"echonet-dynamic": 2.0, "echonet-pediatric": 1.0}
    assert parse_mix("a,b:.5") == {"a": None, "b": 0.5}
    assert parse_mix("C:\\my\\videos.csv,d/e.csv:3") == {"C:\\my\\videos.csv": None, "d/e.csv": 3.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:0", "The weight in 'a:0' must be a number above 0, such as a:2"),
        ("a:-1", "above 0"),
        ("a:nan", "above 0"),
        ("a:inf", "above 0"),
        ("a:two", "The weight in 'a:two'"),
        ("a:", "must be NAME or NAME:WEIGHT"),
        (":2", "must be NAME or NAME:WEIGHT"),
        ("a,,b", "must be NAME or NAME:WEIGHT"),
        ("", "must be NAME or NAME:WEIGHT"),
        ("a,b,a:2", "names a twice"),
    ],
)
def test_mixes_that_are_none(text, message):
    with pytest.raises(InputError, match=message):
        parse_mix(text)
