"""Who is drawn: whole patients of the training part, the smaller share among the larger, classes in their shares."""

from itertools import pairwise

import numpy as np
import pytest

from echolung.errors import InputError
from echolung.evaluation.splits import Units, nested_folds
from echolung.evaluation.subsets import check_shares, draw_order, draw_subsets


@pytest.fixture(scope="module")
def store(write_classes):
    return write_classes(36)


def units_of(store, task="label"):
    videos = store.snapshot.videos
    patients = videos["patient"].to_numpy()
    if task == "number":
        return Units.of(videos["number"].to_numpy(np.float32), patients, "patient")
    classes = tuple(sorted(set(videos["label"])))
    return Units.of(np.array([classes.index(label) for label in videos["label"]]), patients, "patient", classes)


def drawn(units, fractions, seeds=3, seed=0, cv=3):
    outer, inner = nested_folds(units, cv, seed)
    return outer, draw_subsets(units, outer, inner, fractions, seeds, seed)


@pytest.mark.parametrize("task", ["label", "number"])
def test_subsets_are_whole_patients_of_the_training_part_and_nested(store, task):
    units = units_of(store, task)
    fractions = (0.1, 0.4, 0.7, 1.0)
    outer, subsets = drawn(units, fractions)
    of = {(s.fraction, s.seed, s.fold): s.chosen for s in subsets}
    assert len(of) == len(subsets) == 3 * 3 * 3 + 3
    for subset in subsets:
        assert not (subset.chosen & outer.test(subset.fold)).any()
        assert not set(units.groups[subset.chosen]) & set(units.groups[~subset.chosen])
        for fold in range(subset.inner.count):
            train, test = subset.inner.train(fold), subset.inner.test(fold)
            assert not set(units.groups[train]) & set(units.groups[test])
            assert not units.classes or set(units.strata[train]) == set(units.strata)
    for (small, large), draw, fold in ((p, d, f) for p in pairwise(fractions) for d in range(3) for f in range(3)):
        bigger = of[large, draw if large < 1 else 0, fold]
        assert (of[small, draw, fold] <= bigger).all() and of[small, draw, fold].sum() < bigger.sum()
    for fold in range(3):
        assert (of[1.0, 0, fold] == outer.train(fold)).all()
        assert any((of[0.4, 0, fold] != of[0.4, d, fold]).any() for d in (1, 2)), "draws differ"


def test_a_share_is_that_share_of_every_class():
    strata = np.repeat([0, 1, 2], [60, 30, 10])
    units = Units(strata, np.arange(100).astype(str), "patient", ("a", "b", "c"))
    for seed in range(20):
        order = draw_order(units, np.random.default_rng(seed)).astype(int)
        assert sorted(order) == list(range(100))
        for n in (20, 30, 50, 80):
            shares = np.bincount(strata[order[:n]], minlength=3) - n * np.array([0.6, 0.3, 0.1])
            assert np.abs(shares).max() <= 2
        assert (np.bincount(strata[order[:6]]) == 2).all(), "two of every class come first"
    drawn_ = [set(draw_order(units, np.random.default_rng(s))[:50]) for s in range(200)]
    often = np.array([sum(str(i) in d for d in drawn_) for i in range(100)]) / 200
    assert np.abs(often - 0.5).max() < 0.16, "no patient is preferred"


@pytest.mark.parametrize(
    ("fractions", "seeds", "message"),
    [
        ((0.0,), 5, "--label-fractions 0: a share of the patients is above 0 and at most 1"),
        ((1.5,), 5, "--label-fractions 1.5: a share"),
        ((float("nan"),), 5, "--label-fractions nan: a share"),
        ((0.5, 0.5), 5, "name each share once"),
        ((), 5, "is empty"),
        ((0.5,), 101, "--label-seeds 101 must be 1 to 100"),
    ],
)
def test_shares_that_make_no_sense(fractions, seeds, message):
    with pytest.raises(InputError, match=message):
        check_shares(fractions, seeds)
