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
        classes: names of the strata, for messages.
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
        names = tuple(f"quintile {i + 1}" for i in range(BINS))
        return cls(np.searchsorted(edges, targets, side="right"), groups, kind, names)

    def part(self, chosen: Bool[np.ndarray, " v"]) -> "Units":
        """Return the units of some of the videos."""
        return Units(self.strata[chosen], self.groups[chosen], self.kind, self.classes)

    @property
    def groups_per_class(self) -> dict[str, int]:
        """Class name -> number of groups that have a video of it."""
        return {self.classes[c]: len(np.unique(self.groups[self.strata == c])) for c in np.unique(self.strata)}

    @property
    def largest_k(self) -> int:
        """Largest number of folds that can work.

        Of patients and videos every class must have one a fold, so that each fold can score it. Classes live in few sources,
        so there only the training folds must hold every class: two sources a class will do.
        """
        fewest = min(self.groups_per_class.values())
        if self.kind == "source":
            return len(np.unique(self.groups)) if fewest >= 2 else 0
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


def grouped_folds(units: Units, k: int, seed: int) -> Folds:
    """Return k folds with no group in two of them, classes as even as groups allow (scikit-learn's StratifiedGroupKFold).

    Raises:
        InputError: it cannot be done; says the largest k that can.
    """
    if not 2 <= k <= units.largest_k:
        raise InputError(_refusal(units, k))
    from sklearn.model_selection import StratifiedGroupKFold

    for attempt in range(ATTEMPTS):
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed + 1000 * attempt)
        of = np.empty(len(units.strata), np.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "fewer members than n_splits": checked above, in groups
            for fold, (_, test) in enumerate(splitter.split(of, units.strata, units.groups)):
                of[test] = fold
        folds = Folds(of, k)
        if is_valid(folds, units):
            return folds
    raise InputError(
        f"In {ATTEMPTS} attempts no way was found to make {k} folds whose training parts all hold every class: the "
        f"{len(np.unique(units.groups))} {units.kind}s are too uneven. Use a smaller --cv."
    )


def is_valid(folds: Folds, units: Units) -> bool:
    """Whether no fold is empty, no group is in two folds, and every training fold holds every class."""
    everything = set(np.unique(units.strata))
    for fold in range(folds.count):
        test, train = folds.test(fold), folds.train(fold)
        if not test.any() or set(units.groups[test]) & set(units.groups[train]):
            return False
        if set(np.unique(units.strata[train])) != everything:
            return False
    return True


def inner_folds(units: Units, seed: int, most: int = INNER) -> Folds:
    """Return folds within a training part: `most`, or as many as can be made.

    Raises:
        InputError: not even two.
    """
    for k in range(min(most, units.largest_k), 1, -1):
        try:
            return grouped_folds(units, k, seed)
        except InputError:
            continue
    raise InputError(
        f"A training part has too few {units.kind}s to choose a setting inside it ({_counts(units)}; two of each class are "
        "needed). Use a smaller --cv, or another --group."
    )


def holdout(units: Units, shares: tuple[int, ...], seed: int) -> Folds:
    """Return train, validation and test as folds 0, 1, 2 in the given shares (per cent).

    The shares are put together from equal folds: 60/20/20 is three, one and one of five.
    """
    if len(shares) != 3 or sum(shares) != 100 or min(shares) <= 0:
        text = "/".join(map(str, shares))
        raise InputError(f"--split {text} must be three whole numbers above 0 that add up to 100, such as 60/20/20.")
    part = math.gcd(*shares)
    folds = grouped_folds(units, 100 // part, seed)
    bounds = np.cumsum([shares[2] // part, shares[1] // part])
    return Folds(2 - np.searchsorted(bounds, folds.of, side="right"), 3)


def _counts(units: Units) -> str:
    return ", ".join(f"{name}: {count}" for name, count in units.groups_per_class.items())


def _refusal(units: Units, k: int) -> str:
    limit, unit = units.largest_k, units.kind
    if k < 2:
        return f"--cv {k}: cross-validation needs at least 2 folds; up to {limit} work here."
    if limit < 2:
        return f"Cross-validation needs at least two {unit}s in every class, and there are {_counts(units)}."
    return f"{k} folds cannot be made of these {unit}s ({_counts(units)}). The largest that works is {limit}: --cv {limit}."
