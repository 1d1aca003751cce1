"""What a result comes to: metrics a fold, their mean and spread, intervals, and what guessing would have scored."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from echolung.evaluation import metrics
from echolung.evaluation.bootstrap import intervals
from echolung.evaluation.result import Result


@dataclass(frozen=True)
class Summary:
    """The numbers of a result, all computed from its out-of-fold predictions.

    Attributes:
        folds: one row a fold, one column a metric.
        mean: metric -> mean over folds (of those in which it is defined).
        sd: metric -> standard deviation over folds (ddof 1; NaN where fewer than two).
        interval: metric -> 95 % patient-bootstrap interval of the pooled predictions (AUROC: of the mean over folds).
        guess: what guessing the training part's most frequent class (regression: its mean) scores, mean over folds.
        patient: metrics with one prediction a patient, the mean of the videos'; empty where patients are not known.
        patients_per_class: class -> number of patients with such a video.
        mixed_patients: patients whose videos differ in class: left out of `patient`.
    """

    folds: pd.DataFrame
    mean: dict[str, float]
    sd: dict[str, float]
    interval: dict[str, tuple[float, float]]
    guess: dict[str, float]
    patient: dict[str, float]
    patients_per_class: dict[str, int]
    mixed_patients: int

    def to_json(self) -> dict[str, Any]:
        """Return everything but the folds as plain values; NaN becomes None."""
        fields = {k: v for k, v in self.__dict__.items() if k != "folds"}
        return _plain(fields)


def summarise(result: Result, seed: int = 0) -> Summary:
    """Return the summary of a result."""
    table, task = result.predictions, result.task
    truth = _truth(result)
    folds = table["fold"].to_numpy()
    order = np.unique(folds)

    def measure(chosen: np.ndarray, truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        if task.kind == "regression":
            return metrics.regression(truth[chosen], scores[chosen, 0])
        return metrics.classification(truth[chosen], scores[chosen], task.ordinal)

    by_fold = pd.DataFrame([measure(folds == fold, truth, result.scores) for fold in order], index=order)
    guesses = [np.tile(guess, (len(truth), 1)) for guess in result.folds["guess"]]
    guessed = pd.DataFrame(
        [measure(folds == fold, truth, guess) for fold, guess in zip(result.folds["fold"], guesses, strict=True)]
    )
    patients = table["patient"].astype(str).where(table["patient"].astype(str) != "", table["video_id"]).to_numpy()
    one_each, mixed = _by_patient(result, truth, patients)
    return Summary(
        folds=by_fold,
        mean={str(name): float(values.mean()) for name, values in by_fold.items()},
        sd={str(name): float(values.std(ddof=1)) for name, values in by_fold.items()},
        interval=intervals(truth, result.scores, folds, patients, seed),
        guess={str(name): float(values.mean()) for name, values in guessed.items()},
        patient=one_each,
        patients_per_class={name: len(np.unique(patients[truth == c])) for c, name in enumerate(task.classes)},
        mixed_patients=mixed,
    )


def _truth(result: Result) -> np.ndarray:
    column = result.predictions["truth"]
    if result.task.kind == "regression":
        return column.to_numpy(np.float64)
    return column.map({name: i for i, name in enumerate(result.task.classes)}).to_numpy(np.int64)


def _by_patient(result: Result, truth: np.ndarray, patients: np.ndarray) -> tuple[dict[str, float], int]:
    """Return patient-level metrics, and how many patients have videos of several classes."""
    if (result.predictions["patient"].astype(str) == "").any():
        return {}, 0
    scores = pd.DataFrame(result.scores).groupby(patients).mean().to_numpy()
    labels = pd.Series(truth).groupby(patients)
    if result.task.kind == "regression":
        return metrics.regression(labels.mean().to_numpy(), scores[:, 0]), 0
    pure = (labels.nunique() == 1).to_numpy()
    if not pure.any():
        return {}, len(pure)
    values = metrics.classification(labels.first().to_numpy()[pure], scores[pure], result.task.ordinal)
    if len(result.folds) > 1:
        # Scores of different folds' probes are on different scales, and pooling their ranks misleads.
        values = {k: v for k, v in values.items() if k not in ("auroc", "auprc", "sensitivity_at_90")}
    return values, int((~pure).sum())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and np.isnan(value) else value
