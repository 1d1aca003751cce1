"""Stratified folds that keep a patient (or source) together, each validated before anything is trained."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from echolung.errors import InputError

ATTEMPTS = 50
"""Seeds tried until every training fold holds every class: the greedy assignment of small data sometimes misses."""

BINS = 5
"""Numbers are stratified by quintile."""

INNER = 4
"""Folds within a training part, where that many can be made."""


@dataclass(frozen=True)
class Units:
    """What is to be divided.

    Attributes:
        strata: [v] class of each video (of numbers: their quintile).
        groups: [v] name of what each video must stay together with.
        kind: "patient", "source" or "video".
        classes: names of the strata; empty for numbers, whose quintiles are balanced where possible and never required.
    """

    strata: Int[np.ndarray, " v"]
    groups: np.ndarray
    kind: str
    classes: tuple[str, ...]

    @classmethod
    def of(cls, targets: np.ndarray, groups: np.ndarray, kind: str, classes: tuple[str, ...] = ()) -> "Units":
        """Return the units of class indices (int64) or numbers (float), numbers cut at their quintiles."""
        if targets.dtype.kind != "f":
            return cls(targets, groups, kind, classes)
        edges = np.quantile(targets, np.linspace(0, 1, BINS + 1)[1:-1])
        return cls(np.searchsorted(edges, targets, side="right"), groups, kind, ())

    def part(self, chosen: Bool[np.ndarray, " v"]) -> "Units":
        """Return the units of some of the videos."""
        return Units(self.strata[chosen], self.groups[chosen], self.kind, self.classes)

    @property
    def groups_per_class(self) -> dict[str, int]:
        """Class name -> number of groups that have a video of it; empty for numbers."""
        present = np.unique(self.strata) if self.classes else ()
        return {self.classes[c]: len(np.unique(self.groups[self.strata == c])) for c in present}

    @property
    def largest_k(self) -> int:
        """Number of folds beyond which it cannot work.

        Of patients and videos every class must have one a fold, so that each fold can score it. Classes live in few sources,
        so there only the training folds must hold every class: two sources a class will do.
        """
        groups = len(np.unique(self.groups))
        fewest = min(self.groups_per_class.values(), default=groups)
        if self.kind == "source":
            return groups if fewest >= 2 else 0
        return fewest


@dataclass(frozen=True)
class Folds:
    """A partition of the videos: `of` [v] is the fold that scores each, one of `count`; -1 is neither learnt from nor scored."""

    of: Int[np.ndarray, " v"]
    count: int

    def test(self, fold: int) -> Bool[np.ndarray, " v"]:
        """Return which videos fold `fold` scores."""
        return self.of == fold

    def train(self, fold: int) -> Bool[np.ndarray, " v"]:
        """Return which videos are learnt from when fold `fold` is scored."""
        return (self.of != fold) & (self.of >= 0)


def grouped_folds(units: Units, k: int, seed: int) -> Folds | None:
    """Return k folds with no group in two of them, classes as even as groups allow (scikit-learn's StratifiedGroupKFold).

    None where no such folds are found whose training parts all hold every class.
    """
    if not 2 <= k <= units.largest_k:
        return None
    from sklearn.model_selection import StratifiedGroupKFold

    # Fewer than k videos in every stratum cannot be stratified, and scikit-learn refuses to.
    strata = units.strata if np.bincount(units.strata).max() >= k else np.zeros_like(units.strata)
    for attempt in range(ATTEMPTS):
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed + 1000 * attempt)
        of = np.empty(len(units.strata), np.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "fewer members than n_splits": checked above, in groups
            for fold, (_, test) in enumerate(splitter.split(of, strata, units.groups)):
                of[test] = fold
        folds = Folds(of, k)
        if is_valid(folds, units):
            return folds
    return None


def is_valid(folds: Folds, units: Units) -> bool:
    """Whether no fold is empty, no group is in two folds, and every training fold holds every class."""
    for fold in range(folds.count):
        test, train = folds.test(fold), folds.train(fold)
        if not test.any() or set(units.groups[test]) & set(units.groups[train]):
            return False
        if not holds_every_class(units, train):
            return False
    return True


def holds_every_class(units: Units, part: Bool[np.ndarray, " v"]) -> bool:
    """Whether every class that the videos have is among those of `part`; of numbers, whether there are any."""
    return bool(part.any()) and (not units.classes or set(units.strata[part]) == set(units.strata))


def nested_folds(units: Units, k: int, seed: int) -> tuple[Folds, list[Folds]]:
    """Return k outer folds, and inner folds of each training part and then of everything (-1: outside the part).

    There are `INNER` inner folds, or as many as can be made.

    Raises:
        InputError: it cannot be done; says the largest k that can.
    """
    found = _nested(units, k, seed)
    if found is None:
        raise InputError(_refusal(units, k, seed))
    return found


def _nested(units: Units, k: int, seed: int) -> tuple[Folds, list[Folds]] | None:
    outer = grouped_folds(units, k, seed)
    if outer is None:
        return None
    parts = [outer.train(fold) for fold in range(k)] + [np.ones(len(units.groups), bool)]
    inner = []
    for i, part in enumerate(parts):
        folds = inner_folds(units.part(part), seed + 1 + i)
        if folds is None:
            return None
        of = np.full(len(part), -1)
        of[part] = folds.of
        inner.append(Folds(of, folds.count))
    return outer, inner


def inner_folds(units: Units, seed: int) -> Folds | None:
    """Return `INNER` folds, or as many as can be made; None where not even two can."""
    for k in range(min(INNER, units.largest_k), 1, -1):
        if (folds := grouped_folds(units, k, seed)) is not None:
            return folds
    return None


def holdout(units: Units, shares: tuple[int, ...], seed: int) -> Folds:
    """Return train, validation and test as folds 0, 1, 2 in the given shares (per cent).

    The shares are put together from equal folds: 60/20/20 is three, one and one of five.

    Raises:
        InputError: no such shares, or too few groups for that many equal folds.
    """
    text = "/".join(map(str, shares))
    if len(shares) != 3 or sum(shares) != 100 or min(shares) <= 0:
        raise InputError(f"--split {text} must be three whole numbers above 0 that add up to 100, such as 60/20/20.")
    part = math.gcd(*shares)
    bounds = np.cumsum([shares[2] // part, shares[1] // part])
    for attempt in range(ATTEMPTS):
        folds = grouped_folds(units, 100 // part, seed + attempt)
        if folds is None:
            break
        parts = Folds(2 - np.searchsorted(bounds, folds.of, side="right"), 3)
        needed = (0,) if units.kind == "source" else (0, 1, 2)
        if all(holds_every_class(units, parts.test(i)) for i in needed):
            return parts
    raise InputError(
        f"--split {text} is put together from {100 // part} equal parts, and these {units.kind}s ({_counts(units)}) cannot "
        "be divided so that each has its share of every class. Rounder shares need fewer parts (60/20/20: 5)."
    )


def _counts(units: Units) -> str:
    counts = units.groups_per_class or {"in all": len(np.unique(units.groups))}
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def _refusal(units: Units, k: int, seed: int) -> str:
    unit, counts = units.kind, _counts(units)
    works = (n for n in range(units.largest_k, 1, -1) if n != k and _nested(units, n, seed) is not None)
    limit = next(works, None)
    if limit is None:
        return (
            f"Cross-validation cannot keep these {unit}s together ({counts}): it needs three {unit}s of every class, one to "
            "be scored and two to choose a setting on. Use another --group, or --split official where the data has one."
        )
    if k < 2:
        return f"--cv {k}: cross-validation needs at least 2 folds; up to {limit} work here."
    if k < limit:
        return f"With {k} folds a training part keeps too few {unit}s to choose a setting on ({counts}). --cv {limit} works."
    return f"{k} folds cannot be made of these {unit}s ({counts}). The largest that works is {limit}: --cv {limit}."
