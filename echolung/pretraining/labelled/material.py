"""A labelled dataset -> what is learnt from, and the videos that say when it is best."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from echolung.datasets import Manifest
from echolung.errors import InputError
from echolung.pretraining.labelled.labels import Labels, read_labels
from echolung.pretraining.pool import Pool

VALIDATION = ("val", "valid", "validation")

SHARE, SHARE_TAG = 0.15, 405
"""Patients kept for validation where a dataset has no split of its own; first counter after the seed of who they are."""

FEWEST = 2
"""Videos of either part."""


@dataclass(frozen=True)
class Material:
    """What a run learns from.

    Attributes:
        pool: the training videos that have a label.
        labels: theirs.
        validation: the table of the validation videos that have one.
        truth: the labels of those.
        notes: what was left out or decided, a sentence each.
    """

    pool: Pool
    labels: Labels
    validation: Manifest
    truth: Labels
    notes: tuple[str, ...]


def gather(manifest: Manifest, task: str, seed: int) -> Material:
    """Return a dataset's training and validation part: by its column `split`, or drawn by patient where it has none.

    Args:
        manifest: the dataset.
        task: of the dataset; "": its first.
        seed: of the draw.

    Raises:
        InputError: no such task, no labels, or too few videos in either part.
    """
    labels = read_labels(manifest, task or None)
    names = (manifest.name + "/" + manifest.videos["video_id"].astype(str)).tolist()
    known = np.array([name in labels.values for name in names])
    notes = []
    if not known.all():
        notes.append(f"{int((~known).sum()):,} of {len(known):,} videos have no label for {labels.task}: left out.")
    videos = manifest.videos[known].reset_index(drop=True)
    if "split" not in videos:
        videos = videos.assign(split=_draw(videos, seed))
        notes.append(
            f"{manifest.name} has no column `split`: {int((videos['split'] == 'val').sum())} videos, all of some patients, were "
            "drawn for validation. None is kept for a test: ask that of other data."
        )
    labelled = replace(manifest, videos=videos)
    words = videos["split"].fillna("").astype(str).str.strip().str.lower()
    held = words.isin(VALIDATION).to_numpy()
    if held.sum() < FEWEST or (words == "train").sum() < FEWEST:
        raise InputError(
            f"{manifest.name} has {int((words == 'train').sum())} labelled training and {int(held.sum())} validation videos; "
            f"learning takes {FEWEST} of each at least. The column `split` says which are which (train, val, test)."
        )
    pool = Pool.of([labelled])
    validation = replace(manifest, videos=videos[held].reset_index(drop=True))
    truth = labels.of((manifest.name + "/" + validation.videos["video_id"].astype(str)).tolist())
    own = labels.of(pool.names)
    if len(set(own.values.values())) == 1:
        raise InputError(f"Every training video of {manifest.name} has the same {labels.task}: nothing can be learnt.")
    return Material(pool, own, validation, truth, (*manifest.notes, *notes))


def _draw(videos: pd.DataFrame, seed: int) -> np.ndarray:
    """Return "val" for all videos of some patients, "train" for the others."""
    patients = videos["patient"].fillna("").astype(str)
    units = patients.where(patients != "", videos["video_id"])
    names = np.unique(units)
    kept = np.random.default_rng([seed, SHARE_TAG]).permutation(names)[: max(1, round(SHARE * len(names)))]
    return np.where(units.isin(kept), "val", "train")
