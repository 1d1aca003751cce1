"""Leave-pair-out AUROC, for cohorts so small that pooled leave-one-out scores mislead (Airola et al. 2011).

A probe that learns without one patient knows one fewer of that patient's class, so it leans to the other: on pure noise the
pooled leave-one-out scores rank every patient on the wrong side. With a positive and a negative patient left out together, and
only those two compared, nothing leans.
"""

from collections.abc import Callable, Sequence
from math import lcm
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Pair = tuple[str, str]
"""A patient with a positive video, and another with a negative one."""


class LeavePairOut(NamedTuple):
    """The AUROC, and for each pair of patients how often the positive's videos scored above the negative's."""

    value: float
    pairs: list[Pair]
    in_order: np.ndarray


def pairs(truth: np.ndarray, groups: np.ndarray, most: int | None = None, seed: int = 0) -> list[Pair]:
    """Return pairs (patient with a positive video, another with a negative one).

    Args:
        truth: 1 (or True) of positive videos, 0 of the others.
        groups: the patient of each video.
        most: no more than so many pairs, drawn so that every patient is in as many as any other on its side, or one more.
        seed: of the draw.
    """
    random, names = np.random.default_rng(seed), groups.astype(str)
    sides = [random.permutation(np.unique(names[truth == label])).tolist() for label in (1, 0)]
    positive, negative = sides
    if not positive or not negative:
        return []
    # Walking along both lists at once, and moving one on by a place when the walk comes round, meets every pair once.
    p, n = len(positive), len(negative)
    walk = ((positive[t % p], negative[(t + t // lcm(p, n)) % n]) for t in range(p * n))
    return [pair for pair in walk if pair[0] != pair[1]][:most]


def auroc_of_pairs(
    truth: np.ndarray, groups: np.ndarray, left_out: Sequence[Pair], scores: Float[np.ndarray, "q v"]
) -> LeavePairOut:
    """Return the AUROC: the mean over pairs of patients of the share of their videos' comparisons in order, ties half.

    Every pair of patients counts the same, however many videos it has.

    Args:
        truth: 1 of positive videos, 0 of the others.
        groups: the patient of each video.
        left_out: from `pairs`.
        scores: [pairs, videos] how positive the probe that learnt without a pair took each video for. Only the videos of the
            pair are looked at.
    """
    names, shares = groups.astype(str), []
    for (one, other), row in zip(left_out, scores, strict=True):
        above, below = row[(names == one) & (truth == 1)][:, None], row[(names == other) & (truth == 0)]
        shares.append(float(((above > below) + 0.5 * (above == below)).mean()))
    value = float(np.mean(shares)) if shares else float("nan")
    return LeavePairOut(value, list(left_out), np.array(shares, np.float64))


def leave_pair_out(
    fit_predict: Callable[[np.ndarray, np.ndarray], np.ndarray],
    truth: np.ndarray,
    groups: np.ndarray,
    most: int | None = None,
    seed: int = 0,
) -> LeavePairOut:
    """Return the leave-pair-out AUROC of a way of learning.

    Args:
        fit_predict: (train, test) -> scores [test], places of videos in `truth`; it must look at the labels of train alone.
        truth: 1 of positive videos, 0 of the others.
        groups: the patient of each video.
        most: no more than so many pairs (see `pairs`); None: all.
        seed: of the draw of pairs.
    """
    names, left_out = groups.astype(str), pairs(truth, groups, most, seed)
    scores = np.full((len(left_out), len(truth)), np.nan)
    for row, pair in zip(scores, left_out, strict=True):
        out = np.isin(names, pair)
        row[out] = fit_predict(np.flatnonzero(~out), np.flatnonzero(out))
    return auroc_of_pairs(truth, groups, left_out, scores)
