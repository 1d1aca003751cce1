"""Divisions that come with the data: the published study's folds, a dataset's own train, validation and test."""

import numpy as np
import pandas as pd

from echolung.errors import InputError
from echolung.evaluation.splits import Folds, Units, holds_every_class

PARTS = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
"""What a column `split` may say, in any case."""


FEWEST = 5
"""Folds of any published study here: a copy that lacks the videos of the last one does not have fewer."""


def published_folds(units: Units, videos: pd.DataFrame, cv: int) -> tuple[Folds, str]:
    """Return the folds of the published study and a sentence on where they are from.

    They are the column `published_fold` where there is one (and then `cv` must be their number); else what the study of
    POCUS does with any data: scikit-learn's StratifiedKFold over the sorted videos, random_state 42.

    Raises:
        InputError: too few videos of a class.
    """
    if "published_fold" in videos and videos["published_fold"].notna().any():
        published = videos["published_fold"].to_numpy(np.float64)
        count = max(FEWEST, int(np.nanmax(published)) + 1)
        if cv != count:
            raise InputError(
                f"--cv {cv}: the published study has {count} folds of these videos. Use --cv {count}, or --protocol nested."
            )
        outside = int(np.isnan(published).sum())
        left_out = f" {outside} videos that the study did not have are left out." if outside else ""
        folds = Folds(np.nan_to_num(published, nan=-1).astype(np.int64), count)
        if not all(folds.test(i).any() and holds_every_class(units, folds.train(i)) for i in range(count)):
            raise InputError(
                f"The {len(videos)} videos here are too few for the {count} published folds: one is empty, or what remains for "
                "its training lacks a class. Use --protocol nested."
            )
        return folds, f"Folds are the published ones.{left_out}"
    from sklearn.model_selection import StratifiedKFold

    of = np.empty(len(videos), np.int64)
    order = np.argsort(videos["video_id"].to_numpy(str), kind="stable")
    strata = units.strata[order]
    fewest = int(np.bincount(strata)[np.unique(strata)].min())
    if not 2 <= cv <= fewest:
        raise InputError(f"--cv {cv} must be from 2 to {fewest}, the number of videos in the smallest class.")
    for fold, (_, test) in enumerate(StratifiedKFold(cv, shuffle=True, random_state=42).split(strata, strata)):
        of[order[test]] = fold
    how = "Folds are by video, not by patient, as published for POCUS: StratifiedKFold with random_state 42."
    return Folds(of, cv), how


def official_split(units: Units, videos: pd.DataFrame) -> Folds:
    """Return train, validation and test as folds 0, 1, 2, as the column `split` has them.

    Raises:
        InputError: no such column, it says something else, or a part is missing.
    """
    if "split" not in videos:
        raise InputError("--split official needs a column `split` (train, val, test), and the dataset has none.")
    words = videos["split"].astype(str).str.strip().str.lower()
    if unknown := sorted(set(words) - set(PARTS)):
        raise InputError(
            f"The column `split` holds {', '.join(map(repr, unknown[:5]))}; it must say train, val or test."
        )
    folds = Folds(words.map(PARTS).to_numpy(np.int64), 3)
    if absent := [name for i, name in enumerate(("train", "val", "test")) if not folds.test(i).any()]:
        raise InputError(f"The column `split` names no video for {' and '.join(absent)}.")
    if not holds_every_class(units, folds.test(0)):
        raise InputError("The column `split` leaves a class without any video in train, so it cannot be learnt.")
    return folds
