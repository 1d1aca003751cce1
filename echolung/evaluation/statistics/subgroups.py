"""Metrics of women and men, the young and the old, of short and long, slow and fast videos, by image quality: where known."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from echolung.datasets.manifest import Task
from echolung.evaluation.bootstrap import draw_predictions, percentiles
from echolung.evaluation.result import score_columns
from echolung.evaluation.statistics import weighted

FEWEST = 5
"""A group of fewer patients is named, and gets no number."""

BANDS = {"< 40": (0, 40), "40–59": (40, 60), "60–79": (60, 80), "80 +": (80, np.inf)}
"""Age bands in years; low ≤ age < high."""

UNKNOWN = "unknown"

METRICS = ("accuracy", "balanced_accuracy", "auroc", "qwk", "mae", "r2", "pearson")

WORDS = {"sex": "sex", "quality_group": "image quality", "view": "view", "padded": "padding"}
"""Column of names -> what groups are called by."""

NUMBERS = {"frames": "length, frames", "fps": "frames a second"}
"""Column of numbers -> what groups are called by: terciles of the scored videos."""


@dataclass(frozen=True)
class Subgroup:
    """A part of the patients.

    Attributes:
        by: "age", or a value of `WORDS` or `NUMBERS`.
        name: "female", "40–59", …, or "unknown".
        videos: how many were scored.
        patients: of how many patients (videos, where the patient is not known).
        per_class: class -> scored videos: much of what groups differ in.
        values: metric -> value of the pooled predictions (AUROC: mean over the folds in which the group has every class).
        interval: metric -> 95 % patient-bootstrap interval.
        note: why there is no number; "" where there is.
    """

    by: str
    name: str
    videos: int
    patients: int
    per_class: dict[str, int]
    values: dict[str, float] = field(default_factory=dict)
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    note: str = ""


def subgroups(
    predictions: pd.DataFrame, videos: pd.DataFrame, task: Task, fewest: int = FEWEST, seed: int = 0
) -> list[Subgroup]:
    """Return the metrics by sex, age band, image quality, view, length and frame rate; nothing by what is not known.

    Groups differ in more than what they are named for (source, device, how ill), and nobody drew them at random.

    Args:
        predictions: of a result.
        videos: video_id, and where known `age` (years or NaN), the columns of `WORDS` (such as `sex`: "female", "male" or
            "") and of `NUMBERS` (NaN where unknown): see `evaluation.facts.facts_of`.
        task: what was asked.
        fewest: a group of fewer patients gets no number.
        seed: of the bootstrap.
    """
    known = videos.set_index("video_id").reindex(predictions["video_id"])
    names = {}
    if "sex" in known:
        names["sex"] = _words(known["sex"])
    if "age" in known:
        names["age"] = age_bands(_numbers(known["age"]))
    more = {title: _words(known[column]) for column, title in WORDS.items() if column in known and column != "sex"}
    more |= {title: terciles(_numbers(known[column]).round()) for column, title in NUMBERS.items() if column in known}
    # Of one group only there is nothing to compare: it is the whole.
    names |= {by: of_row for by, of_row in more.items() if len(set(of_row) - {UNKNOWN}) > 1}
    found = []
    for by, of_row in names.items():
        if (of_row == UNKNOWN).all():
            continue
        groups = sorted(set(of_row.tolist()), key=lambda name: (name == UNKNOWN, _first(name), name))
        found += [_subgroup(by, name, predictions[of_row == name], task, fewest, seed) for name in groups]
    return found


def _words(column: "pd.Series[Any]") -> np.ndarray:
    return column.fillna("").astype(str).replace("", UNKNOWN).to_numpy(str)


def _numbers(column: "pd.Series[Any]") -> Float[np.ndarray, " v"]:
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64)


def age_bands(ages: np.ndarray) -> np.ndarray:
    """Return the band of each age: those of `BANDS`, or terciles where all known ages lie in one; NaN is "unknown"."""
    known = ages[~np.isnan(ages)]
    if len(known) and sum(bool(((low <= known) & (known < high)).any()) for low, high in BANDS.values()) < 2:
        return terciles(ages)
    return _named(ages, BANDS)


def terciles(values: Float[np.ndarray, " v"]) -> np.ndarray:
    """Return the third of each value, cut at whole numbers: two groups, or one, where many are alike; NaN is "unknown"."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.full(len(values), UNKNOWN)
    edges = [0.0, *np.unique(np.quantile(known, [1 / 3, 2 / 3]).round()).tolist(), np.inf]
    return _named(values, {_title(low, high): (low, high) for low, high in pairwise(edges) if low < high})


def _named(values: Float[np.ndarray, " v"], bands: dict[str, Any]) -> np.ndarray:
    names = np.full(len(values), UNKNOWN, dtype=object)
    for name, (low, high) in bands.items():
        names[(low <= values) & (values < high)] = name
    return names.astype(str)


def _title(low: float, high: float) -> str:
    if low == 0:
        return f"< {high:g}"
    return f"{low:g} +" if high == np.inf else f"{low:g}–{high - 1:g}"


def _first(name: str) -> float:
    """Return the age that a band begins with, so that bands sort as people expect; 0 of other names."""
    start = name.split("–")[0].removesuffix(" +")
    return float(start) if start.isdigit() else 0.0


def _subgroup(by: str, name: str, table: pd.DataFrame, task: Task, fewest: int, seed: int) -> Subgroup:
    patients = table["patient"].astype(str).where(table["patient"].astype(str) != "", table["video_id"]).to_numpy(str)
    once = table.drop_duplicates("video_id")["truth"].astype(str)
    sizes = (len(once), len(np.unique(patients)), {label: int((once == label).sum()) for label in task.classes})
    if sizes[1] < fewest:
        return Subgroup(by, name, *sizes, note=f"fewer than {fewest} patients")
    scores, folds = table[score_columns(task)].to_numpy(np.float64), table["fold"].to_numpy()
    if task.classes:
        truth = table["truth"].map({label: i for i, label in enumerate(task.classes)}).to_numpy(np.int64)
    else:
        truth = table["truth"].to_numpy(np.float64)
    weights, _ = draw_predictions(truth, scores, folds, patients, seed)
    values, ends = {}, {}
    for metric in (name for name in weighted.names(not task.classes, task.ordinal) if name in METRICS):
        value = weighted.value(metric, truth, scores, folds)
        if not np.isnan(value):
            values[metric] = value
            ends[metric] = percentiles(weighted.measure(metric, truth, scores, folds, weights))
    return Subgroup(by, name, *sizes, values, ends, _note(values, sizes[1]))


def _note(values: dict[str, float], patients: int) -> str:
    if values.get("accuracy") != 1:
        return ""
    least = 0.025 ** (1 / patients)  # Clopper and Pearson's lower end where nothing went wrong
    least_of = f"{100 * least:.0f} %"
    return f"no mistake, so resampling shows no spread; with {patients} patients a true accuracy of {least_of} is not excluded"
