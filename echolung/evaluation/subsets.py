"""Who is learnt from: random shares of the patients of each outer training part, the smaller among the larger."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Bool

from echolung.errors import InputError
from echolung.evaluation.splits import Folds, Units, holds_every_class, inner_folds

MOST_SEEDS = 100


@dataclass(frozen=True)
class Subset:
    """The videos that one probe may learn from.

    Attributes:
        fraction: share of the groups (patients) of the outer training part that was asked for.
        seed: which draw of that share.
        fold: the outer fold that scores it.
        inner: the folds that its setting is chosen on; -1: not in the subset.
    """

    fraction: float
    seed: int
    fold: int
    inner: Folds

    @property
    def chosen(self) -> Bool[np.ndarray, " v"]:
        """Return which videos are in it."""
        return self.inner.of >= 0


def check_shares(fractions: Sequence[float | int], seeds: int) -> tuple[float, ...]:
    """Return the shares in rising order, with 1 at the end; InputError where one makes no sense or comes twice."""
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise InputError(f"--label-fractions {fraction:g}: a share of the patients is above 0 and at most 1.")
    if not fractions or len(set(fractions)) < len(fractions):
        given = ",".join(f"{fraction:g}" for fraction in fractions)
        raise InputError(f"--label-fractions {given or 'is empty'}: name each share once, such as 0.1,0.25,0.5,1.")
    if not 1 <= seeds <= MOST_SEEDS:
        raise InputError(f"--label-seeds {seeds} must be 1 to {MOST_SEEDS}; 5 to 20 draws show the spread well.")
    return tuple(sorted({*map(float, fractions), 1.0}))


def draw_subsets(
    units: Units, outer: Folds, inner: Sequence[Folds], fractions: Sequence[float], seeds: int, seed: int
) -> list[Subset]:
    """Return for every fraction, draw and outer fold a subset of its training part, in that order.

    Within a draw the groups of a smaller fraction are among those of a larger. A share too small for two inner folds is
    raised to the fewest groups that allow them. All (fraction 1) are drawn once, with the given `inner` folds.
    """
    return [
        _subset(units, Subset(fraction, draw, fold, inner[fold]), seed)
        if fraction < 1
        else Subset(1.0, 0, fold, inner[fold])
        for fraction in fractions
        for draw in range(seeds if fraction < 1 else 1)
        for fold in range(outer.count)
    ]


def _subset(units: Units, whole: Subset, seed: int) -> Subset:
    """Return the share of a whole training part."""
    part = units.part(whole.chosen)
    order = draw_order(part, np.random.default_rng((seed, whole.seed, whole.fold)))
    for n in range(max(2, round(whole.fraction * len(order))), len(order)):
        chosen = np.isin(part.groups, order[:n])
        folds = inner_folds(part.part(chosen), seed + 1 + whole.fold) if holds_every_class(part, chosen) else None
        if folds is not None:
            of = np.full(len(units.groups), -1)
            of[np.flatnonzero(whole.chosen)[chosen]] = folds.of
            return replace(whole, inner=Folds(of, folds.count))
    return whole


def draw_order(units: Units, random: np.random.Generator) -> np.ndarray:
    """Return the groups in the order in which they are taken: two of every class, then all classes at an even pace.

    This is systematic sampling: the j-th of the n groups of a class (most of whose videos are of it) comes at (j + u) / n, u
    the same for all of that class, so that the first groups hold the classes in the shares that all have.
    """
    names, member = np.unique(units.groups, return_inverse=True)
    counts = np.zeros((len(names), units.strata.max() + 1), int)
    np.add.at(counts, (member, units.strata), 1)
    main = counts.argmax(1)
    place = np.empty(len(names))
    for stratum in np.unique(main):
        own = random.permutation(np.flatnonzero(main == stratum))
        place[own] = (np.arange(len(own)) + random.uniform()) / len(own)
    order = np.argsort(place, kind="stable")
    needed = (
        [group for c in np.unique(units.strata) for group in order[counts[order, c] > 0][:2]] if units.classes else []
    )
    first = sorted(set(needed), key=lambda group: place[group])
    return names[list(dict.fromkeys([*first, *order]))]


def distinct(units: Units, subsets: Sequence[Subset]) -> tuple[list[Subset], list[str]]:
    """Return the subsets without those of a fraction that takes as many groups as the next, and a note for each."""
    sizes = _mean_groups(units, subsets)
    same = {small: large for small, large in pairwise(sizes) if sizes[large] - sizes[small] < 0.5}
    notes = [
        f"The share {small:g} comes to the same {units.kind}s as {same[small]:g}, and is left out." for small in same
    ]
    return [s for s in subsets if s.fraction not in same], notes


def _mean_groups(units: Units, subsets: Sequence[Subset]) -> dict[float, float]:
    """Return fraction -> groups in its subsets, on average, in rising order."""
    return {
        fraction: float(np.mean([len(np.unique(units.groups[s.chosen])) for s in subsets if s.fraction == fraction]))
        for fraction in sorted({s.fraction for s in subsets})
    }


def notes_of_raised(units: Units, subsets: Sequence[Subset]) -> list[str]:
    """Return a note for each fraction that takes more groups than it says."""
    sizes = _mean_groups(units, subsets)
    return [
        f"A share of {fraction:g} would be {fraction * sizes[1.0]:.1f} {units.kind}s; {size:.1f} are learnt from, the fewest "
        "that settings can be chosen on."
        for fraction, size in sizes.items()
        if size > fraction * sizes[1.0] + 0.5
    ]
