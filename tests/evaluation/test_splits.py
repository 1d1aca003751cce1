"""Folds of random tables: groups whole, none empty, every class in training, or an error that names what works."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echolung.errors import InputError
from echolung.evaluation.splits import Folds, Units, grouped_folds, holdout, is_valid, nested_folds

CLASSES = ("a", "b", "c", "d")


def units_of(strata, groups, kind="patient", classes=CLASSES):
    return Units(np.array(strata, np.int64), np.array(groups).astype(str), kind, classes)


@st.composite
def tables(draw, kind=None):
    videos = draw(st.integers(2, 30))
    classes = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 15))
    pure = draw(st.booleans())
    member = draw(st.lists(st.integers(0, groups - 1), min_size=videos, max_size=videos))
    label = (
        [m % classes for m in member]
        if pure
        else draw(st.lists(st.integers(0, classes - 1), min_size=videos, max_size=videos))
    )
    # plain lists: run-time type checks draw random numbers, which a strategy must not
    return label, member, kind or draw(st.sampled_from(["patient", "source", "video"]))


def check(folds: Folds, units: Units, part: np.ndarray) -> None:
    """Hold folds of a part against what the protocol promises, in plain words."""
    assert set(folds.of[part]) == set(range(folds.count)) and (folds.of[~part] == -1).all()
    homes = {}
    for group, fold in zip(units.groups[part], folds.of[part], strict=True):
        assert homes.setdefault(group, fold) == fold
    for fold in range(folds.count):
        train = [s for s, f, inside in zip(units.strata, folds.of, part, strict=True) if inside and f != fold]
        assert set(train) == set(units.strata[part]) if units.classes else train


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(2, 6), st.integers(0, 3))
def test_nested_folds_keep_their_promises_or_name_what_works(table, k: int, seed: int):
    units = units_of(*table)
    try:
        outer, inner = nested_folds(units, k, seed)
    except InputError as error:
        if named := re.search(r"largest that works is (\d+)|--cv (\d+) works", str(error)):
            nested_folds(units, int(named[1] or named[2]), seed)
        else:
            assert "three" in str(error)
        return
    everything = np.ones(len(units.strata), bool)
    assert outer.count == k and len(inner) == k + 1
    check(outer, units, everything)
    for fold, folds in enumerate(inner):
        part = outer.train(fold) if fold < k else everything
        assert 2 <= folds.count <= 4
        check(folds, units, part)


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from([(60, 20, 20), (50, 25, 25), (80, 10, 10), (50, 30, 20)]), st.integers(0, 3))
def test_a_holdout_keeps_groups_whole_and_classes_everywhere(table, shares, seed: int):
    units = units_of(*table)
    try:
        parts = holdout(units, shares, seed)
    except InputError as error:
        assert "Rounder shares" in str(error)
        return
    assert set(parts.of) == {0, 1, 2}
    for group in set(units.groups):
        assert len(set(parts.of[units.groups == group])) == 1
    assert set(units.strata[parts.of == 0]) == set(units.strata)
    if units.kind != "source":
        assert all(set(units.strata[parts.of == i]) == set(units.strata) for i in (1, 2))


def test_plenty_of_patients_always_work_and_are_even():
    groups = np.repeat(np.arange(60), 3)
    units = units_of(groups % 3, groups)
    outer, inner = nested_folds(units, 5, 0)
    for fold in range(5):
        assert np.bincount(units.strata[outer.test(fold)]).tolist() == [12, 12, 12]
    assert [folds.count for folds in inner] == [4] * 6
    other, _ = nested_folds(units, 5, 1)
    assert (outer.of != other.of).any() and (outer.of == nested_folds(units, 5, 0)[0].of).all()


def test_five_folds_of_three_patients_name_three():
    groups = np.arange(23)
    units = units_of([0] * 3 + [1] * 20, groups)
    with pytest.raises(
        InputError, match=r"5 folds cannot be made of these patients \(a: 3, b: 20\).*largest that works is 3: --cv 3"
    ):
        nested_folds(units, 5, 0)
    _, inner = nested_folds(units, 3, 0)
    assert [folds.count for folds in inner] == [2, 2, 2, 3]  # inner folds fall back


def test_two_patients_of_a_class_cannot_be_nested():
    units = units_of([0] * 2 + [1] * 20, np.arange(22))
    for k in (2, 5):
        with pytest.raises(InputError, match=r"three patients of every class.*Use another --group"):
            nested_folds(units, k, 0)


@pytest.mark.parametrize("k", [-1, 0, 1])
def test_fewer_than_two_folds(k: int):
    with pytest.raises(InputError, match=f"--cv {k}: cross-validation needs at least 2 folds; up to 10 work"):
        nested_folds(units_of(np.arange(20) % 2, np.arange(20)), k, 0)


def test_a_video_of_each_patient_and_class_in_two_sources():
    """Sources: classes live in few of them, so test folds may lack one, training folds never."""
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5, 5])
    units = units_of([0, 0, 0, 1, 0, 1, 1, 1, 0, 1], groups, "source")
    folds = grouped_folds(units, 6, 0)
    check(folds, units, np.ones(10, bool))
    assert grouped_folds(units, 7, 0) is None


def test_more_folds_than_videos_of_any_class():
    units = units_of([0, 0, 1, 1, 2, 2], np.arange(6), "source")
    check(grouped_folds(units, 6, 0), units, np.ones(6, bool))


def test_numbers_are_balanced_by_quintile_and_never_refused_for_it():
    random = np.random.default_rng(0)
    numbers, groups = random.normal(size=100).astype(np.float32), np.repeat(np.arange(50), 2)
    units = Units.of(numbers, groups.astype(str), "patient")
    assert np.bincount(units.strata).tolist() == [20] * 5
    outer, _ = nested_folds(units, 5, 0)
    check(outer, units, np.ones(100, bool))
    assert max(np.bincount(units.strata[outer.test(f)], minlength=5).max() for f in range(5)) <= 8
    few = Units.of(numbers[:8], np.arange(8).astype(str), "patient")
    check(nested_folds(few, 5, 0)[0], few, np.ones(8, bool))
    with pytest.raises(InputError, match="largest that works is 8"):
        nested_folds(few, 9, 0)
    constant = Units.of(np.ones(10, np.float32), np.arange(10).astype(str), "patient")
    check(nested_folds(constant, 5, 0)[0], constant, np.ones(10, bool))


@pytest.mark.parametrize(
    ("shares", "sizes"), [((60, 20, 20), [60, 20, 20]), ((80, 10, 10), [80, 10, 10]), ((50, 30, 20), [50, 30, 20])]
)
def test_holdout_shares(shares, sizes):
    units = units_of(np.arange(100) % 2, np.arange(100))
    assert np.bincount(holdout(units, shares, 0).of).tolist() == sizes


@pytest.mark.parametrize("shares", [(60, 20), (60, 20, 21), (100, 0, 0), (120, -10, -10)])
def test_shares_that_are_none(shares):
    with pytest.raises(InputError, match="three whole numbers above 0 that add up to 100"):
        holdout(units_of([0, 1], [0, 1]), shares, 0)


def test_is_valid_sees_every_fault():
    units = units_of([0, 0, 1, 1], [0, 1, 2, 3])
    assert is_valid(Folds(np.array([0, 1, 0, 1]), 2), units)
    assert not is_valid(Folds(np.array([0, 1, 0, 1]), 3), units)  # an empty fold
    assert not is_valid(Folds(np.array([0, 0, 1, 1]), 2), units)  # a training part without a class
    assert not is_valid(Folds(np.array([0, 1, 0, 1]), 2), units_of([0, 0, 1, 1], [0, 0, 2, 3]))  # a group in two
