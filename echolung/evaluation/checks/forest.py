"""A forest that sees no pixel: how well a label can be told from a few columns alone (Breiman 2001)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from echolung.evaluation.checks.subject import Subject
from echolung.evaluation.splits import Folds, grouped_folds

TREES = 100
SEED = 42
MOST = 2000
"""Videos that one tree is grown on at most: 10,000 would take minutes and say the same."""

DRAWS = 3
"""Folds drawn where there is no run whose folds could be taken: one draw moves the score by some points."""

LUCK = 2.0
"""Standard errors above guessing that a forest must be for its score to be more than luck (2.3 % of forests are)."""


@dataclass(frozen=True)
class Blind:
    """What a forest without pixels came to.

    Attributes:
        scores: accuracy and balanced_accuracy (of numbers: mae, r2), over folds as a run's are.
        pooled: the same of all predictions together.
        guess: balanced accuracy (of numbers: r2) of guessing.
        limit: up to where guessing comes by luck (of numbers: in Pearson's r).
        beats: whether the forest is beyond that limit.
    """

    scores: dict[str, float]
    pooled: dict[str, float]
    guess: float
    limit: float
    beats: bool


def columns_that_vary(videos: pd.DataFrame, wanted: Sequence[str]) -> list[str]:
    """Return the wanted columns that are there, known of half of the videos at least, and not the same for all."""
    there = [name for name in wanted if name in videos]
    known = {name: videos[name].replace("", np.nan) for name in there}
    return [name for name in there if known[name].notna().mean() >= 0.5 and known[name].nunique() > 1]


def features(videos: pd.DataFrame, columns: Sequence[str]) -> Float[np.ndarray, "v f"]:
    """Return the columns as numbers, words one-hot; what is unknown is NaN, which a tree may send either way."""
    words = [name for name in columns if not pd.api.types.is_numeric_dtype(videos[name])]
    numbers = videos[[name for name in columns if name not in words]].to_numpy(np.float64)
    return np.hstack([numbers, pd.get_dummies(videos[words]).to_numpy(np.float64)] if words else [numbers])


def blind(subject: Subject, columns: Sequence[str], folds: Folds) -> Blind:
    """Return what a forest on the `columns` alone scores in the given folds."""
    x, truth = features(subject.videos, columns), subject.targets
    predicted = np.full(len(truth), -1, truth.dtype)
    order = [fold for fold in range(folds.count) if folds.test(fold).any() and folds.train(fold).any()]
    for fold in order:
        test, train = folds.test(fold), folds.train(fold)
        predicted[test] = (
            _forest(bool(subject.task.classes), int(train.sum())).fit(x[train], truth[train]).predict(x[test])
        )
    scored = np.isin(folds.of, order)
    by_fold = [_scores(subject, truth[folds.test(fold)], predicted[folds.test(fold)]) for fold in order]
    means = {name: _mean([scores[name] for scores in by_fold]) for name in by_fold[0]}
    pooled = _scores(subject, truth[scored], predicted[scored])
    return Blind(means, pooled, *_beyond_luck(subject, scored, predicted, pooled))


def _mean(values: Sequence[float]) -> float:
    """Return the mean over the folds in which a metric is defined; NaN where it is in none, as R² of a single visit."""
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def blind_at(subject: Subject, columns: Sequence[str], level: str) -> Blind | None:
    """Return the mean over several draws of 5 folds that keep `level` together; None where no folds can be made."""
    units = subject.units(level)
    if units is None:
        return None
    k = min(5, units.largest_k)
    drawn = [folds for seed in range(DRAWS) if (folds := grouped_folds(units, k, SEED + seed)) is not None]
    if not drawn:
        return None
    each = [blind(subject, columns, folds) for folds in drawn]
    pooled, scores = (
        {name: float(np.mean([getattr(one, kind)[name] for one in each])) for name in each[0].pooled}
        for kind in ("pooled", "scores")
    )
    beats = sum(one.beats for one in each) > len(each) / 2
    return Blind(scores, pooled, each[0].guess, each[0].limit, beats)


def _forest(classes: bool, count: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestClassifier if classes else RandomForestRegressor
    return kind(TREES, random_state=SEED, max_samples=MOST if count > MOST else None)


def _scores(subject: Subject, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    if not subject.task.classes:
        total = ((truth - truth.mean()) ** 2).sum()
        r2 = 1 - ((truth - predicted) ** 2).sum() / total if total > 0 else np.nan
        return {"mae": float(np.abs(truth - predicted).mean()), "r2": float(r2)}
    right = truth == predicted
    recall = [right[truth == c].mean() for c in np.unique(truth)]
    return {"accuracy": float(right.mean()), "balanced_accuracy": float(np.mean(recall))}


def _beyond_luck(
    subject: Subject, scored: np.ndarray, predicted: np.ndarray, pooled: dict[str, float]
) -> tuple[float, float, bool]:
    """Return (what guessing scores, up to where by luck, whether the forest is beyond it).

    One patient counts once, however many videos it has: the standard error of balanced accuracy under guessing is
    √(Σ p(1-p)/n_c) / C, with p = 1/C and n_c patients of class c.
    """
    truth, groups = subject.targets[scored], subject.groups(subject.level)
    assert groups is not None
    groups = groups[scored]
    if not subject.task.classes:
        limit = LUCK / np.sqrt(len(set(groups)))
        varied = np.ptp(truth) > 0 and np.ptp(predicted[scored]) > 0
        r = float(np.corrcoef(truth, predicted[scored])[0, 1]) if varied else 0.0
        return 0.0, float(limit), bool(r > limit and pooled["r2"] > 0)
    counts = np.array([len(set(groups[truth == c])) for c in np.unique(truth)])
    p = 1 / len(counts)
    limit = p + LUCK * float(np.sqrt((p * (1 - p) / counts).sum())) / len(counts)
    return p, limit, pooled["balanced_accuracy"] > limit
