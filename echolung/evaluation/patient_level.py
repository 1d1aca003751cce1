"""One prediction a patient, or a visit: the mean of what was predicted for its videos."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from echolung.datasets.manifest import Task
from echolung.evaluation import metrics
from echolung.evaluation.bootstrap import intervals

RANKS = ("auroc", "auprc", "auprc_macro", "sensitivity_at_90")
"""Metrics that compare scores of different patients, which only makes sense among those that one probe scored."""


class PatientLevel(NamedTuple):
    """Metric -> value, metric -> interval, and how many units were scored, and left out as their videos differ in class."""

    values: dict[str, float]
    interval: dict[str, tuple[float, float]]
    mixed: int
    units: int


def patient_level(
    truth: np.ndarray,
    scores: Float[np.ndarray, "v c"],
    folds: np.ndarray,
    repeats: np.ndarray,
    patients: np.ndarray,
    task: Task,
    seed: int = 0,
    units: np.ndarray | None = None,
) -> PatientLevel:
    """Return the metrics with one prediction a patient (or `unit`), and patient-bootstrap intervals of the main ones.

    All patients together, for repeated cross-validation the mean over repeats. Rank metrics are those of each fold,
    averaged; they are missing where videos of a patient are in several folds.

    Args:
        truth: [v] class indices (int), or numbers (float).
        scores: [v, c] probabilities, or predictions [v, 1].
        folds: [v] which fold's probe scored a video.
        repeats: [v] which repeat of cross-validation a row belongs to.
        patients: [v] who is drawn with replacement.
        task: what was asked.
        seed: of the resampling.
        units: [v] what gets one prediction, such as a visit; None: the patient.
    """
    units = patients if units is None else units
    table = pd.DataFrame(scores).assign(truth=truth, fold=folds, repeat=repeats, unit=units)
    grouped = table.groupby(["repeat", "unit"])
    each = grouped.mean().reset_index()
    each["patient"] = each["unit"].map(dict(zip(units, patients, strict=True)))
    mixed = 0
    if task.classes:
        pure = (grouped["truth"].nunique() == 1).to_numpy()
        mixed = each["unit"][~pure].nunique()
        each = each[pure]
    if each.empty:
        return PatientLevel({}, {}, mixed, 0)
    one_fold = bool((grouped["fold"].nunique() == 1).all())
    values = [_metrics(part, task, one_fold) for _, part in each.groupby("repeat")]
    means: dict[str, float] = {str(name): float(column.mean()) for name, column in pd.DataFrame(values).items()}
    labels, told = _arrays(each, task)
    found, _ = intervals(
        labels, told, each["fold"].to_numpy(), each["patient"].to_numpy(str), seed, ordinal=task.ordinal
    )
    known = {name: ends for name, ends in found.items() if name in means}
    return PatientLevel(means, known, mixed, each["unit"].nunique())


def _metrics(each: pd.DataFrame, task: Task, one_fold: bool) -> dict[str, float]:
    values = _measure(each, task)
    if each["fold"].nunique() == 1 or not task.classes:
        return values
    values = {name: value for name, value in values.items() if name not in RANKS}
    if one_fold:
        by_fold = pd.DataFrame([_measure(part, task) for _, part in each.groupby("fold")])
        values |= {name: float(by_fold[name].mean()) for name in RANKS if name in by_fold}
    return values


def _measure(each: pd.DataFrame, task: Task) -> dict[str, float]:
    labels, told = _arrays(each, task)
    return (
        metrics.classification(labels, told, task.ordinal) if task.classes else metrics.regression(labels, told[:, 0])
    )


def _arrays(each: pd.DataFrame, task: Task) -> tuple[np.ndarray, np.ndarray]:
    told: Any = each[list(range(len(task.classes) or 1))].to_numpy(np.float64)
    return each["truth"].to_numpy(np.int64 if task.classes else np.float64), told
